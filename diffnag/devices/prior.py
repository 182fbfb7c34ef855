"""What is known of latencies before a device is measured: learned from other devices, or the same for every space.

Latencies are relative: those of a device are divided by their mean over the space. In this unit an architecture takes `w . columns`
(`diffnag.devices.features`), and over devices `w` is normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError

if TYPE_CHECKING:
    from diffnag.devices.features import Features

WIDENING = 0.2
"""A weight of an unknown device may differ from the mean of the known ones by this share, beside what their spread shows."""
LEAST_WIDENED = 0.1
"""Weights below this one are widened as this one is: the share of a weight near 0 would be nothing."""
LEAST = 0.2
"""Relative latencies below this one have the noise of this one, and do not count in it."""
COUNTED = {"all": 0.95, "leading": 0.04, "live": 0.01}
"""Probability of each way to count: most frameworks run what is written."""


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
    scales: tuple[float, ...] = (1.0,)
    """Factors of the covariance; the measurements choose among them."""
    details: tuple[float, ...] = (0.0,)
    """Standard deviations of the part of a relative latency that depends on the node of an operator; the measurements choose."""

    def check(self, features: Features) -> None:
        """Raise `UserError` where the columns are not those of `features`."""
        if self.names != features.names:
            raise UserError(f"a prior over {', '.join(self.names)} does not fit the operators of space {features.space.name!r}")


def learned_prior(features: Features, archs_columns: dict[str, np.ndarray], ms: np.ndarray) -> Prior:
    """The prior that `d` devices teach, with latencies `ms (m, d)` of m architectures.

    `archs_columns` are the columns `(m, k)` of the architectures by the way to count. Each device is fitted by least squares, in the
    way that suits it best.
    """
    fits = [best_fit(archs_columns, column / column.mean()) for column in ms.T]
    weights = np.stack([fit.weights for fit in fits])
    mean = weights.mean(0)
    spread = np.cov(weights.T) if len(fits) > 1 else np.zeros((len(mean), len(mean)))
    widened = WIDENING * np.maximum(np.abs(mean), LEAST_WIDENED)
    return Prior(features.names, mean, spread + np.diag(widened**2), float(np.median([fit.noise for fit in fits])))


@dataclass(frozen=True)
class Fit:
    """One device: how it counts, its weights `(k,)`, and the noise as in `Prior`."""

    counting: str
    weights: np.ndarray
    noise: float


def best_fit(columns: dict[str, np.ndarray], relative: np.ndarray) -> Fit:
    """Fit relative latencies `(m,)` in each way to count, and return the fit with the least noise."""
    fits = []
    for counting, each in columns.items():
        weights = np.linalg.lstsq(each, relative, rcond=None)[0]
        fitted = each @ weights
        fits.append(Fit(counting, weights, float(np.std((relative - fitted) / np.maximum(fitted, LEAST)))))
    return min(fits, key=lambda fit: fit.noise)


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
    return Prior(features.names, mean, np.diag(deviations**2), 0.05, scales=(0.1, 1.0, 4.0), details=(0.0, 0.05, 0.15))
