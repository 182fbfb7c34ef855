"""Latency of every architecture from few measurements: Bayesian linear regression whose prior comes from other devices.

The model is linear in milliseconds, not in their logarithm: what a network takes is the sum of what its parts take. Relative to the
level of the device (its mean latency), an architecture takes `columns . w + detail . v` with normal `w` (`diffnag.devices.prior`) and
`v`, and noise in proportion to the latency. Open are the way to count, the size of the noise and of `v`, and the scale of the prior:
a grid of hypotheses, each weighed by its evidence. `experiments/device_transfer.py` compares it with others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diffnag.devices.prior import LEAST

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.devices.features import Features
    from diffnag.devices.prior import Prior

NOISES = (0.01, 0.05, 0.2, 1.0, 4.0)
"""Factors of the variance of the noise, equally probable."""
LEVEL = 0.2
"""Relative standard deviation of the level around its first estimate, the median of measured by expected."""
NEGLIGIBLE = 1e-3
"""Hypotheses that are less probable by this factor than the best one are left out."""
LEAST_MS = 1e-3
"""Smallest prediction, relative to the level."""


class Hypothesis(NamedTuple):
    """How a device counts, the factor of the noise's variance, the size of the detail, the factor of the prior's covariance."""

    counting: str
    noise: float
    detail: float
    scale: float


@dataclass(frozen=True)
class _Posterior:
    """Normal law over weights `root z + mean` under one hypothesis: `z` has mean `z_mean (k,)` and covariance `z_root z_root^T`."""

    hypothesis: Hypothesis
    log_weight: float
    level: float
    z_mean: np.ndarray
    z_root: np.ndarray


class FewShot:
    """Predicts latencies in ms with their uncertainty, from measurements of one device.

    Args:
        features: Features of the space.
        prior: What is known before.
    """

    def __init__(self, features: Features, prior: Prior) -> None:
        prior.check(features)
        self._features, self._prior = features, prior
        self.fit([], np.empty(0))

    def fit(self, archs: Sequence[Arch], ms: np.ndarray) -> None:
        """Learn from latencies `ms (m,)`, above 0; what was learned before is forgotten."""
        ms = np.asarray(ms, dtype=np.float64)
        self._level_spread = min(LEVEL, self._prior.level_spread) if len(ms) else self._prior.level_spread
        found = []
        for counting in (one for one in self._features.countings if one in self._prior.counted):
            described = self._features(archs, counting)
            for noise, detail, scale in itertools.product(NOISES, self._prior.details, self._prior.scales):
                hypothesis = Hypothesis(counting, noise, detail, scale)
                found.append(self._posterior(hypothesis, self._design(described.columns, described.detail, hypothesis), described.columns, ms))
        best = max(one.log_weight for one in found)
        weights = np.exp([one.log_weight - best for one in found])
        self._posteriors = [one for one, weight in zip(found, weights, strict=True) if weight >= NEGLIGIBLE]
        self._weights = weights[weights >= NEGLIGIBLE] / weights[weights >= NEGLIGIBLE].sum()

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a measurement in ms, `(b,)` each, above 0."""
        mean, square = np.zeros(len(archs)), np.zeros(len(archs))
        described = {one.hypothesis.counting: self._features(archs, one.hypothesis.counting) for one in self._posteriors}
        for weight, one in zip(self._weights, self._posteriors, strict=True):
            columns = described[one.hypothesis.counting].columns
            design = self._design(columns, described[one.hypothesis.counting].detail, one.hypothesis)
            found = np.maximum(columns @ self._prior.mean + design @ one.z_mean, LEAST_MS)
            variance = ((design @ one.z_root) ** 2).sum(1) + one.hypothesis.noise * (self._prior.noise * np.maximum(found, LEAST)) ** 2
            mean += weight * one.level * found
            square += weight * one.level**2 * (variance + found**2)
        return mean, np.sqrt(np.maximum(square - mean**2, 0))

    @property
    def hypotheses(self) -> dict[Hypothesis, float]:
        """The hypotheses that are left, with their probabilities."""
        return {one.hypothesis: float(weight) for weight, one in zip(self._weights, self._posteriors, strict=True)}

    def _design(self, columns: np.ndarray, detail: np.ndarray, hypothesis: Hypothesis) -> np.ndarray:
        """Features of which every weight has a standard normal prior `(b, k + 1 + d)`: those of weights, level and detail."""
        return prior_design(self._prior, columns, detail, hypothesis, level=self._level_spread)

    def _posterior(self, hypothesis: Hypothesis, design: np.ndarray, columns: np.ndarray, ms: np.ndarray) -> _Posterior:
        """The law of the weights given `ms (m,)`, with the logarithm of prior times evidence."""
        expected = np.maximum(columns @ self._prior.mean, LEAST)
        level = float(np.median(ms / expected)) if len(ms) and self._prior.level_spread > LEVEL else self._prior.level
        residual = ms / level - columns @ self._prior.mean
        noise = hypothesis.noise * (self._prior.noise * expected) ** 2
        precision = np.eye(design.shape[1]) + design.T @ (design / noise[:, None])
        root = np.linalg.cholesky(precision)
        b = design.T @ (residual / noise)
        z_mean = np.linalg.solve(precision, b)
        evidence = -0.5 * (residual**2 / noise).sum() + 0.5 * b @ z_mean - 0.5 * np.log(noise).sum() - np.log(np.diag(root)).sum()
        evidence -= len(ms) * np.log(level)
        return _Posterior(hypothesis, float(evidence + np.log(self._prior.counted[hypothesis.counting])), level, z_mean, np.linalg.inv(root).T)


def prior_design(prior: Prior, columns: np.ndarray, detail: np.ndarray, hypothesis: Hypothesis, *, level: float) -> np.ndarray:
    """Features `(b, k + 1 + d)` whose weights are standard normal before anything is measured, so that `design design^T` is their covariance."""
    root = np.linalg.cholesky(hypothesis.scale * prior.covariance)
    parts = [columns @ root, level * (columns @ prior.mean)[:, None]]
    return np.column_stack([*parts, hypothesis.detail * detail] if hypothesis.detail else parts)
