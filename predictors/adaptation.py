"""How a prior's scores are sharpened by few labels: a Gaussian process on what they leave over, in warped units.

Accuracies crowd near the top and fall off far below, so labels y are first warped by Yeo & Johnson's (2000) power, `t = warp(y)`.
Then `t = b + g prior + f(prior, features) + noise`, where f is a Gaussian process (Rasmussen & Williams 2006) with a Matern-5/2
kernel, one length scale a group of features, and shift b and gain g are normal. Power, length scales, amplitude and noise are those
of largest posterior probability (the evidence, weakly regularised; Snelson et al. 2004 for the power).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from diffnag.predictors.blas import one_blas_thread

GAIN_STD, SHIFT_STD = 0.3, 1.0
"""Normal prior of the gain around 1 and of the shift around 0, of standardised labels on standardised scores."""
LENGTH, AMPLITUDE, NOISE, POWER = (1.0, 0.7), (0.5, 1.0), (0.3, 0.4), (1.5, 0.75)
"""Median and log standard deviation of the hyper-parameters; of the power, mean and standard deviation."""
FARTHEST = 4.0
"""Scores further from those of the labelled architectures, in their standard deviations, count as being there."""
STEPS = 40
FLOOR = -40.0
"""Labels further below the median, in robust standard deviations, count as being there: failures say little of the rest."""
BLOCK = 4096
TINY, JITTER = 1e-12, 1e-6
"""What keeps square roots and Cholesky factors away from 0."""


@dataclass(frozen=True)
class Warp:
    """`y -> (power(z) - centre) / spread`, z = (y - median) / scale, and its inverse; increasing."""

    median: float
    scale: float
    power: float
    centre: float
    spread: float

    @classmethod
    def of(cls, y: np.ndarray, power: float) -> Self:
        median, scale = _robust(y)
        t = _power(_floored(y, median, scale), power)
        return cls(median, scale, power, float(t.mean()), float(t.std()) or 1.0)

    def __call__(self, y: np.ndarray) -> np.ndarray:
        t = _power(_floored(y, self.median, self.scale), self.power)
        return (t - self.centre) / self.spread

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """The inverse above the floor; below it, where the power may have no inverse, straight on with the same slope."""
        lowest = float(self(np.array([self.median + FLOOR * self.scale]))[0])
        beyond = np.minimum(t - lowest, 0) * self.spread * (1 - FLOOR) ** (self.power - 1)
        inside = np.maximum(t, lowest) * self.spread + self.centre
        up, down = (np.where(abs(p) < 1e-6, 1e-6, p) for p in (self.power, 2 - self.power))
        high = np.expm1(np.log1p(up * np.maximum(inside, 0)) / up)
        low = -np.expm1(np.log1p(down * np.maximum(-inside, 0)) / down)
        return self.median + self.scale * (np.where(inside >= 0, high, low) + beyond)


class Adaptation:
    """Prior scores and features of architectures, and labels of a few, to mean and standard deviation of all."""

    log_evidence: float
    """Log density of the labels and the hyper-parameters found, up to a constant; 0 where labels are too few to seek any."""

    def fit(self, prior: np.ndarray, features: Sequence[np.ndarray], y: np.ndarray) -> None:
        """Learn from `y (m,)`, m >= 1, of architectures with scores `prior (m,)` (zeros: nothing is known) and `features`.

        Each group of features is `(m, k)`, columns of about unit spread. Every call starts anew.
        """
        y, prior = np.asarray(y, dtype=np.float64), np.asarray(prior, dtype=np.float64)
        self._informed = len(y) >= 3 and float(np.std(y)) > 0
        self._p_centre = float(prior.mean())
        self._p_spread = float(prior.std()) if self._informed and prior.std() > 1e-9 else 1.0
        self._p = self._standard(prior)
        self._x = self._inputs(self._p, features)
        theta = np.array([*(np.log(LENGTH[0]) for _ in self._x), np.log(AMPLITUDE[0]), np.log(NOISE[0]), POWER[0]])
        self.log_evidence = 0.0
        with one_blas_thread():
            distances = [_squared_distances(x, x) for x in self._x]
            if self._informed:
                theta, self.log_evidence = _most_probable(theta, distances, self._p, y)
            self._theta = theta
            self._warp = Warp.of(y, float(theta[-1])) if self._informed else Warp(float(y.mean()), 1.0, 1.0, 0.0, 1.0)
            self._factor = _factor(distances, self._p, theta)
            self._weights = cho_solve((self._factor, True), self._warp(y) - self._p)

    def predict(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)` of a new label, its noise included, in the units of `y`.

        The mean is the median of the warped normal, which ranks as the process does; the standard deviation is how far its
        upper quantile lies above: who searches hopes for better, and accuracies have far more room below.
        """
        mean, std = self._latent(prior, features)
        middle = self._warp.inverse(mean)
        return middle, np.maximum(self._warp.inverse(mean + std) - middle, 1e-9)

    def quantiles(self, prior: np.ndarray, features: Sequence[np.ndarray], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` of a new label."""
        from scipy.stats import norm

        mean, std = self._latent(prior, features)
        return np.stack([self._warp.inverse(mean + std * norm.ppf(level)) for level in levels])

    def _latent(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a new label's t, `(b,)` each."""
        blocks = [slice(i, i + BLOCK) for i in range(0, len(prior), BLOCK)]
        with one_blas_thread():
            parts = [self._block(np.asarray(prior[block], dtype=np.float64), [group[block] for group in features]) for block in blocks]
        return np.concatenate([mean for mean, _ in parts]), np.concatenate([std for _, std in parts])

    def _block(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        scores = self._standard(prior)
        distances = [_squared_distances(a, b) for a, b in zip(self._inputs(scores, features), self._x, strict=True)]
        cross = _covariance(distances, scores, self._p, self._theta)
        amplitude, noise = np.exp(2 * self._theta[-3]), np.exp(2 * self._theta[-2])
        own = amplitude + GAIN_STD**2 * scores**2 + SHIFT_STD**2 + noise
        explained = (solve_triangular(self._factor, cross.T, lower=True, check_finite=False) ** 2).sum(0)
        return scores + cross @ self._weights, np.sqrt(np.maximum(own - explained, noise))

    def _standard(self, prior: np.ndarray) -> np.ndarray:
        return ((prior - self._p_centre) / self._p_spread).clip(-FARTHEST, FARTHEST)

    @staticmethod
    def _inputs(p: np.ndarray, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(x, dtype=np.float64) / x.shape[1] ** 0.5 for x in (p[:, None], *features)]


class _Evidence:
    """Minus the log density of labels `y (m,)` and hyper-parameters theta: log length scale of each group of features, log amplitude,
    log noise, power (of the labels' warp)."""

    def __init__(self, start: np.ndarray, distances: Sequence[np.ndarray], p: np.ndarray, y: np.ndarray) -> None:
        self._start, self._distances, self._p = start, distances, p
        self._spread = np.array([*(LENGTH[1] for _ in distances), AMPLITUDE[1], NOISE[1], POWER[1]])
        median, scale = _robust(y)
        z = _floored(y, median, scale)
        self._z, self._log_z = z, np.sign(z) * np.log1p(np.abs(z))

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """The value and its gradient `(len(theta),)` (Rasmussen & Williams 2006, eq. 5.9; chain rule through the warp)."""
        m, groups = len(self._p), len(self._distances)
        t, slope = _power(self._z, theta[-1]), _power_slope(self._z, theta[-1])
        spread = t.std()
        unit = (t - t.mean()) / spread
        d_unit = (slope - slope.mean()) / spread
        d_log_spread = float(np.mean(unit * d_unit))
        d_unit = d_unit - unit * d_log_spread

        scaled = [d * (5 / groups) * np.exp(-2 * log_length) for d, log_length in zip(self._distances, theta, strict=False)]
        r = np.sqrt(sum(scaled) + TINY)
        decay = np.exp(-r)
        amplitude, noise = np.exp(2 * theta[-3]), np.exp(2 * theta[-2])
        matern = amplitude * (1 + r + r**2 / 3) * decay
        lower = np.linalg.cholesky(matern + _linear(self._p, self._p) + (noise + JITTER) * np.eye(m))
        residual = unit - self._p
        inverse = cho_solve((lower, True), np.eye(m), check_finite=False)
        weights = inverse @ residual
        away = (theta - self._start) / self._spread
        log_slope = (theta[-1] - 1) * self._log_z.sum() - m * np.log(spread)
        value = 0.5 * residual @ weights + np.log(np.diagonal(lower)).sum() - log_slope + 0.5 * away @ away

        by_kernel = 0.5 * (inverse - np.outer(weights, weights))
        by_length = by_kernel * (amplitude / 3 * (1 + r) * decay)
        gradient = away / self._spread
        gradient[:groups] += [np.vdot(by_length, d) for d in scaled]
        gradient[-3] += 2 * np.vdot(by_kernel, matern)
        gradient[-2] += 2 * noise * np.trace(by_kernel)
        gradient[-1] += weights @ d_unit - self._log_z.sum() + m * d_log_spread
        return float(value), gradient


def _most_probable(start: np.ndarray, distances: Sequence[np.ndarray], p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """The hyper-parameters of largest density with the labels, and its log."""
    from scipy.optimize import minimize

    bounds = [*((-2.5, 3.0) for _ in distances), (-5.0, 2.0), (-4.0, 1.0), (0.0, 4.0)]
    evidence = _Evidence(start, distances, p, y)
    found = minimize(evidence, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    return found.x, -float(found.fun)


def _covariance(distances: Sequence[np.ndarray], p: np.ndarray, q: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Prior covariance, noise aside, of `(a,)` architectures with scores p and `(m,)` with scores q."""
    squared = sum(d * np.exp(-2 * log_length) for d, log_length in zip(distances, theta, strict=False)) / len(distances)
    r = np.sqrt(5 * squared + TINY)
    return np.asarray(np.exp(2 * theta[-3]) * (1 + r + r**2 / 3) * np.exp(-r) + _linear(p, q))


def _linear(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Covariance that gain and shift bring."""
    return GAIN_STD**2 * np.outer(p, q) + SHIFT_STD**2


def _factor(distances: Sequence[np.ndarray], p: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return np.linalg.cholesky(_covariance(distances, p, p, theta) + (np.exp(2 * theta[-2]) + JITTER) * np.eye(len(p)))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def _robust(y: np.ndarray) -> tuple[float, float]:
    """Median, and spread about it as the median absolute deviation tells it, or where that is 0 the standard deviation."""
    median = float(np.median(y))
    return median, 1.4826 * float(np.median(np.abs(y - median))) or float(np.std(y))


def _floored(y: np.ndarray, median: float, scale: float) -> np.ndarray:
    return np.maximum((y - median) / scale, FLOOR)


def _exponents(z: np.ndarray, power: float) -> np.ndarray:
    """Yeo & Johnson's (2000) exponent at each z, never 0."""
    u = np.where(z >= 0, power, 2 - power)
    return np.where(np.abs(u) < 1e-6, 1e-6, u)


def _power(z: np.ndarray, power: float) -> np.ndarray:
    """Yeo & Johnson (2000), increasing, 0 at 0 with slope 1."""
    u = _exponents(z, power)
    return np.sign(z) * np.expm1(u * np.log1p(np.abs(z))) / u


def _power_slope(z: np.ndarray, power: float) -> np.ndarray:
    """Derivative of `_power` by the power."""
    u, log = _exponents(z, power), np.log1p(np.abs(z))
    return (log * np.exp(u * log) - np.expm1(u * log) / u) / u


class DoubtfulAdaptation:
    """An `Adaptation` of the prior and one that knows no prior, averaged by what the labels say of either.

    A prior from other tasks can be wrong about the very best: then the labels give it little evidence, and it is forgotten
    (Bayesian model averaging; Hoeting et al. 1999). Fewer than three labels leave it beyond doubt, more than `prior_labels`
    are without it.
    """

    def __init__(self, prior_labels: float = np.inf) -> None:
        self.prior_labels = prior_labels

    def fit(self, prior: np.ndarray, features: Sequence[np.ndarray], y: np.ndarray) -> None:
        """As `Adaptation.fit`."""
        self._without = Adaptation()
        self._without.fit(np.zeros(len(prior)), features, y)
        self._with: Adaptation | None = None
        self.trust = 0.0
        """Probability that the prior holds, 1/2 before any label."""
        if len(y) > self.prior_labels:
            return
        self._with = Adaptation()
        self._with.fit(prior, features, y)
        odds = self._with.log_evidence - self._without.log_evidence
        self.trust = 1.0 if len(y) < 3 else float(1 / (1 + np.exp(-np.clip(odds, -40, 40))))

    def predict(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """As `Adaptation.predict`; where the two disagree, the standard deviation is larger."""
        m0, s0 = self._without.predict(np.zeros(len(prior)), features)
        if self._with is None:
            return m0, s0
        m, s = self._with.predict(prior, features)
        mean = self._mixed(m, m0)
        return mean, np.sqrt(self._mixed(s**2 + (m - mean) ** 2, s0**2 + (m0 - mean) ** 2))

    def quantiles(self, prior: np.ndarray, features: Sequence[np.ndarray], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` of a new label: those of the two, averaged."""
        without = self._without.quantiles(np.zeros(len(prior)), features, levels)
        return without if self._with is None else self._mixed(self._with.quantiles(prior, features, levels), without)

    def _mixed(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.trust * a + (1 - self.trust) * b
