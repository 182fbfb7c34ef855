"""What is known of latencies before a device is measured: learned from other devices, or the same for every space.

Latencies are relative: those of a device are divided by their mean over the space. In this unit an architecture takes `w . columns`
(`diffnag.devices.features`), and over devices `w` is normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.devices.features import Features

WIDENING = 0.2
"""A weight of an unknown device may differ from the mean of the known ones by this share, beside what their spread shows."""
LEAST_WIDENED = 0.1
"""Weights below this one are widened as this one is: the share of a weight near 0 would be nothing."""
REWEIGHTED = 4
"""Rounds of least squares, each with the errors relative to the fit before."""
SURE = 0.01
"""Relative standard deviation of the weights and the level of a device that is known."""
LEAST = 0.2
"""Relative latencies below this one have the noise of this one, and do not count in it."""
COUNTED = {"all": 0.95, "leading": 0.04, "live": 0.01}
"""Probability of each way to count: most frameworks run what is written."""
UNMEASURED = 1.0
"""Relative standard deviation of the level of a device that nothing is measured of."""
SPEED = 7e9
"""Multiply-adds a second that stand for the speed of such a device, where no other device is known."""


@dataclass(frozen=True)
class Prior:
    """A normal law over the weights of the columns, and the noise of timings."""

    names: tuple[str, ...]
    """Names of the k columns, as `Features.names`."""
    mean: np.ndarray
    """`(k,)`"""
    covariance: np.ndarray
    """`(k, k)`"""
    noise: float
    """Standard deviation of a latency around what its columns say, relative to it."""
    level: float
    """Mean latency over the space in ms, as long as nothing is measured."""
    level_spread: float = UNMEASURED
    """Relative standard deviation of the level."""
    counted: Mapping[str, float] = field(default_factory=lambda: COUNTED)
    """Way to count -> its probability; ways that are not named are impossible."""
    scales: tuple[float, ...] = (1.0,)
    """Factors of the covariance; the measurements choose among them."""
    details: tuple[float, ...] = (0.0,)
    """Standard deviations of the part of a relative latency that depends on the node of an operator; the measurements choose."""

    def check(self, features: Features) -> None:
        """Raise `UserError` where the columns are not those of `features`."""
        if self.names != features.names:
            raise UserError(f"a prior over {', '.join(self.names)} does not fit the operators of space {features.space.name!r}")


def learned_prior(fits: Sequence[Fit], names: tuple[str, ...]) -> Prior:
    """The prior that devices teach whose `fits` are known; `names` are those of the columns."""
    weights = np.stack([fit.weights for fit in fits])
    mean = weights.mean(0)
    spread = np.cov(weights.T) if len(fits) > 1 else np.zeros((len(mean), len(mean)))
    widened = WIDENING * np.maximum(np.abs(mean), LEAST_WIDENED)
    noise, level = np.median([fit.noise for fit in fits]), np.exp(np.mean([np.log(fit.level) for fit in fits]))
    return Prior(names, mean, spread + np.diag(widened**2), float(noise), float(level))


@dataclass(frozen=True)
class Fit:
    """A device of which every architecture is known: how it counts, its weights `(k,)`, and level and noise as in `Prior`."""

    counting: str
    weights: np.ndarray
    level: float
    noise: float

    def prior(self, names: tuple[str, ...]) -> Prior:
        """A prior that is sure of what the fit says."""
        covariance = np.diag((SURE * np.maximum(np.abs(self.weights), LEAST_WIDENED)) ** 2)
        return Prior(names, self.weights, covariance, self.noise, self.level, SURE, {self.counting: 1.0})


def best_fit(columns: Mapping[str, np.ndarray], ms: np.ndarray) -> Fit:
    """Fit latencies `ms (m,)` by least squares of relative errors in each way to count, and return the fit whose median error is the least.

    `columns` are those of the architectures `(m, k)` by the way to count.
    """
    level = float(ms.mean())
    fits = []
    for counting, each in columns.items():
        fitted = np.ones(len(ms))
        for _ in range(REWEIGHTED):
            relative = 1 / np.maximum(fitted, LEAST)
            weights = np.linalg.lstsq(each * relative[:, None], ms / level * relative, rcond=None)[0]
            fitted = each @ weights
        errors = (ms / level - fitted) / np.maximum(fitted, LEAST)
        fits.append((float(np.median(np.abs(errors))), Fit(counting, weights, level, float(errors.std()))))
    return min(fits, key=lambda error_and_fit: error_and_fit[0])[1]


def general_prior(features: Features) -> Prior:
    """The prior of a space whose devices nobody measured: half of a mean latency is fixed, half grows with the multiply-adds.

    Parameters, depth and the operators take part as far as the measurements show.
    """
    archs = features.reference
    counts = features(archs, "all").columns[:, features.names.index("depth") + 1 :]
    spread = np.maximum(counts.std(0), 1e-3) if counts.shape[1] else np.empty(0)
    mean = np.zeros(len(features.names))
    mean[:2] = 0.5
    deviations = np.concatenate([[0.3, 0.3, 0.2, 0.3], 0.1 / spread])
    level = 1e3 * features.mean_flops / SPEED
    return Prior(features.names, mean, np.diag(deviations**2), 0.05, level, scales=(0.1, 1.0, 4.0), details=(0.0, 0.05, 0.15))
