"""Adaptation: a Gaussian process that corrects the scores of a prior by few labels.

Accuracies are dense near the top and have a long tail below. Labels y are therefore first warped by the power transform of Yeo & Johnson
(2000), `t = warp(y)`. The model is `t = b + g prior + f(prior, features) + noise`. Here f is a Gaussian process (Rasmussen & Williams
2006) with a Matern-5/2 kernel and one length scale for each group of features; shift b and gain g are normal. The power, the length
scales, the amplitude and the noise maximise the posterior probability: the evidence times a weak prior (Snelson et al. 2004 for the
power).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from diffnag.predictors.blas import one_blas_thread

GAIN_STD, SHIFT_STD = 0.3, 1.0
"""Standard deviations of the normal priors: gain around 1 and shift around 0, for standardised labels and scores."""
LENGTH, AMPLITUDE, NOISE, POWER = (1.0, 0.7), (0.5, 1.0), (0.3, 0.4), (1.5, 0.75)
"""Priors of the hyper-parameters: median and standard deviation of the logarithm; for the power mean and standard deviation."""
FARTHEST = 4.0
"""Standardised scores are limited to this distance from the mean of the labelled architectures."""
STEPS, SHOWN = 40, 400
"""Iterations of L-BFGS-B, and most labels that it is shown: each iteration takes the third power of their number."""
FLOOR = -40.0
"""Labels are raised to this many robust standard deviations from the median: failures say little about the others."""
BLOCK = 4096
"""Architectures that are predicted at once."""
TINY, JITTER = 1e-12, 1e-6
"""Added so that square roots and Cholesky factors stay above 0."""


@dataclass(frozen=True)
class Warp:
    """The increasing map `y -> (power(z) - centre) / spread` with z = (y - median) / scale, and its inverse."""

    median: float
    scale: float
    power: float
    centre: float
    spread: float

    @classmethod
    def of(cls, y: np.ndarray, power: float) -> Self:
        """The warp with this power that gives `y (m,)` mean 0 and standard deviation 1."""
        median, scale = _robust(y)
        t = _power(_floored(y, median, scale), power)
        return cls(median, scale, power, float(t.mean()), float(t.std()) or 1.0)

    def __call__(self, y: np.ndarray) -> np.ndarray:
        """Warped labels `(m,)`; labels below the floor count as lying on it."""
        t = _power(_floored(y, self.median, self.scale), self.power)
        return (t - self.centre) / self.spread

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """Labels `(b,)` for warped values `t (b,)`.

        Below the floor the power may have no inverse; there the map goes straight on with the slope at the floor.
        """
        lowest = float(self(np.array([self.median + FLOOR * self.scale]))[0])
        beyond = np.minimum(t - lowest, 0) * self.spread * (1 - FLOOR) ** (self.power - 1)
        inside = np.maximum(t, lowest) * self.spread + self.centre
        up, down = (np.where(abs(p) < 1e-6, 1e-6, p) for p in (self.power, 2 - self.power))
        high = np.expm1(np.log1p(up * np.maximum(inside, 0)) / up)
        low = -np.expm1(np.log1p(down * np.maximum(-inside, 0)) / down)
        return self.median + self.scale * (np.where(inside >= 0, high, low) + beyond)


class Adaptation:
    """Regression from prior scores and features to labels, with standard deviations; see the module's docstring for the model."""

    log_evidence: float
    """Log density of the labels and of the hyper-parameters found, up to a constant; 0 if the labels are too few to fit any."""

    def fit(self, prior: np.ndarray, features: Sequence[np.ndarray], y: np.ndarray) -> None:
        """Learn from labels `y (m,)`, m >= 1, of architectures with scores `prior (m,)` and groups of `features`.

        Scores of zero mean that nothing is known. Each group is `(m, k)`, with columns of standard deviation around 1. Every call starts
        afresh. With fewer than 3 labels, or with equal ones, the hyper-parameters keep their medians; of more than `SHOWN` labels, those at
        regular distances decide on them.
        """
        y, prior = np.asarray(y, dtype=np.float64), np.asarray(prior, dtype=np.float64)
        few = np.unique(np.linspace(0, len(y) - 1, min(len(y), SHOWN)).round().astype(int))
        self._informed = len(y) >= 3 and float(np.std(y[few])) > 0
        self._p_centre = float(prior.mean())
        self._p_spread = float(prior.std()) if self._informed and prior.std() > 1e-9 else 1.0
        self._p = self._standard(prior)
        self._x = self._inputs(self._p, features)
        theta = np.array([*(np.log(LENGTH[0]) for _ in self._x), np.log(AMPLITUDE[0]), np.log(NOISE[0]), POWER[0]])
        self.log_evidence = 0.0
        with one_blas_thread():
            distances = [_squared_distances(x, x) for x in self._x]
            if self._informed:
                theta, self.log_evidence = _most_probable(theta, [d[np.ix_(few, few)] for d in distances], self._p[few], y[few])
            self._theta = theta
            self._warp = Warp.of(y, float(theta[-1])) if self._informed else Warp(float(y.mean()), 1.0, 1.0, 0.0, 1.0)
            self._factor = _factor(distances, self._p, theta)
            self._weights = cho_solve((self._factor, True), self._warp(y) - self._p)

    def predict(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)` of a new label, its noise included, in the units of `y`.

        The mean is the median of the warped normal distribution, so the order is that of the process. The standard deviation is the
        distance from the median to the upper quantile at one standard deviation: a search is interested in improvements, and the lower
        side is much wider for accuracies.
        """
        mean, std = self._latent(prior, features)
        middle = self._warp.inverse(mean)
        return middle, np.maximum(self._warp.inverse(mean + std) - middle, 1e-9)

    def quantiles(self, prior: np.ndarray, features: Sequence[np.ndarray], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` of a new label at the `levels` in (0, 1)."""
        from scipy.stats import norm

        mean, std = self._latent(prior, features)
        return np.stack([self._warp.inverse(mean + std * norm.ppf(level)) for level in levels])

    def _latent(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the warped value of a new label, `(b,)` each."""
        blocks = [slice(i, i + BLOCK) for i in range(0, len(prior), BLOCK)]
        with one_blas_thread():
            parts = [self._block(np.asarray(prior[block], dtype=np.float64), [group[block] for group in features]) for block in blocks]
        return np.concatenate([mean for mean, _ in parts]), np.concatenate([std for _, std in parts])

    def _block(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """`_latent` for one block of architectures."""
        scores = self._standard(prior)
        distances = [_squared_distances(a, b) for a, b in zip(self._inputs(scores, features), self._x, strict=True)]
        cross = _covariance(distances, scores, self._p, self._theta)
        amplitude, noise = np.exp(2 * self._theta[-3]), np.exp(2 * self._theta[-2])
        own = amplitude + GAIN_STD**2 * scores**2 + SHIFT_STD**2 + noise
        explained = (solve_triangular(self._factor, cross.T, lower=True, check_finite=False) ** 2).sum(0)
        return scores + cross @ self._weights, np.sqrt(np.maximum(own - explained, noise))

    def _standard(self, prior: np.ndarray) -> np.ndarray:
        """Scores in units of the labelled architectures, limited to `FARTHEST`."""
        return ((prior - self._p_centre) / self._p_spread).clip(-FARTHEST, FARTHEST)

    @staticmethod
    def _inputs(p: np.ndarray, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The scores as a group of one column, then the other groups, each divided by the root of its number of columns."""
        return [np.asarray(x, dtype=np.float64) / x.shape[1] ** 0.5 for x in (p[:, None], *features)]


class _Evidence:
    """Minus the log density of labels `y (m,)` and hyper-parameters theta, as a function of theta.

    theta holds the log length scale of each group of features, the log amplitude, the log noise, and the power of the warp.
    """

    def __init__(self, start: np.ndarray, distances: Sequence[np.ndarray], p: np.ndarray, y: np.ndarray) -> None:
        self._start, self._distances, self._p = start, distances, p
        self._spread = np.array([*(LENGTH[1] for _ in distances), AMPLITUDE[1], NOISE[1], POWER[1]])
        median, scale = _robust(y)
        z = _floored(y, median, scale)
        self._z, self._log_z = z, np.sign(z) * np.log1p(np.abs(z))

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient `(len(theta),)` (Rasmussen & Williams 2006, eq. 5.9; chain rule through the warp)."""
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
    """The most probable hyper-parameters, and their log density together with the labels."""
    from scipy.optimize import minimize

    bounds = [*((-2.5, 3.0) for _ in distances), (-5.0, 2.0), (-4.0, 1.0), (0.0, 4.0)]
    evidence = _Evidence(start, distances, p, y)
    found = minimize(evidence, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    return found.x, -float(found.fun)


def _covariance(distances: Sequence[np.ndarray], p: np.ndarray, q: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Prior covariance `(a, m)` without noise, between architectures with scores `p (a,)` and with scores `q (m,)`."""
    squared = sum(d * np.exp(-2 * log_length) for d, log_length in zip(distances, theta, strict=False)) / len(distances)
    r = np.sqrt(5 * squared + TINY)
    return np.asarray(np.exp(2 * theta[-3]) * (1 + r + r**2 / 3) * np.exp(-r) + _linear(p, q))


def _linear(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Covariance `(a, m)` that comes from gain and shift."""
    return GAIN_STD**2 * np.outer(p, q) + SHIFT_STD**2


def _factor(distances: Sequence[np.ndarray], p: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor `(m, m)` of the covariance of the labels."""
    return np.linalg.cholesky(_covariance(distances, p, p, theta) + (np.exp(2 * theta[-2]) + JITTER) * np.eye(len(p)))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a (a, k)`, `b (m, k)` -> `(a, m)`."""
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def _robust(y: np.ndarray) -> tuple[float, float]:
    """Median and robust standard deviation (scaled median absolute deviation; the standard deviation if that is 0)."""
    median = float(np.median(y))
    return median, 1.4826 * float(np.median(np.abs(y - median))) or float(np.std(y))


def _floored(y: np.ndarray, median: float, scale: float) -> np.ndarray:
    """Labels in robust standard deviations from the median, at least `FLOOR`."""
    return np.maximum((y - median) / scale, FLOOR)


def _exponents(z: np.ndarray, power: float) -> np.ndarray:
    """Exponent of the Yeo-Johnson transform at each z; never 0."""
    u = np.where(z >= 0, power, 2 - power)
    return np.where(np.abs(u) < 1e-6, 1e-6, u)


def _power(z: np.ndarray, power: float) -> np.ndarray:
    """Yeo-Johnson transform (2000): increasing, 0 at 0, with slope 1 there."""
    u = _exponents(z, power)
    return np.sign(z) * np.expm1(u * np.log1p(np.abs(z))) / u


def _power_slope(z: np.ndarray, power: float) -> np.ndarray:
    """Derivative of `_power` with respect to the power."""
    u, log = _exponents(z, power), np.log1p(np.abs(z))
    return (log * np.exp(u * log) - np.expm1(u * log) / u) / u


class DoubtfulAdaptation:
    """Average of two `Adaptation`s, one with the prior and one without, weighted by their evidence.

    A prior from other tasks can be wrong about the very best architectures. Then the labels give it little evidence, and its weight goes
    to zero (Bayesian model averaging; Hoeting et al. 1999). With fewer than three labels the prior has all the weight, with more than
    `prior_labels` it has none.
    """

    def __init__(self, prior_labels: float = np.inf) -> None:
        self.prior_labels = prior_labels

    def fit(self, prior: np.ndarray, features: Sequence[np.ndarray], y: np.ndarray) -> None:
        """As `Adaptation.fit`."""
        self._without = Adaptation()
        self._without.fit(np.zeros(len(prior)), features, y)
        self._with: Adaptation | None = None
        self.trust = 0.0
        """Weight of the prior in [0, 1]."""
        if len(y) > self.prior_labels:
            return
        self._with = Adaptation()
        self._with.fit(prior, features, y)
        odds = self._with.log_evidence - self._without.log_evidence
        self.trust = 1.0 if len(y) < 3 else _share(odds)

    def predict(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """As `Adaptation.predict`; the standard deviation is larger where the two disagree."""
        m0, s0 = self._without.predict(np.zeros(len(prior)), features)
        if self._with is None:
            return m0, s0
        return _mixture(self._with.predict(prior, features), (m0, s0), self.trust)

    def quantiles(self, prior: np.ndarray, features: Sequence[np.ndarray], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` of a new label: weighted means of the quantiles of both."""
        without = self._without.quantiles(np.zeros(len(prior)), features, levels)
        return without if self._with is None else _mean(self._with.quantiles(prior, features, levels), without, self.trust)


class PlainAdaptation:
    """Average of two `Adaptation`s, one on all groups of features and one without the last, weighted by their evidence.

    The last group tells apart what is equal in the others. It costs a little where that hardly differs, so the labels decide.
    """

    def fit(self, prior: np.ndarray, features: Sequence[np.ndarray], y: np.ndarray) -> None:
        """As `Adaptation.fit`."""
        self._all, self._fewer = Adaptation(), Adaptation()
        self._all.fit(prior, features, y)
        self._fewer.fit(prior, features[:-1], y)
        self._weight = _share(self._all.log_evidence - self._fewer.log_evidence)

    def predict(self, prior: np.ndarray, features: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """As `Adaptation.predict`; the standard deviation is larger where the two disagree."""
        return _mixture(self._all.predict(prior, features), self._fewer.predict(prior, features[:-1]), self._weight)

    def quantiles(self, prior: np.ndarray, features: Sequence[np.ndarray], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` of a new label: weighted means of the quantiles of both."""
        return _mean(self._all.quantiles(prior, features, levels), self._fewer.quantiles(prior, features[:-1], levels), self._weight)


def _share(odds: float) -> float:
    """Weight of one of two models from the difference of their log evidences."""
    return float(1 / (1 + np.exp(-np.clip(odds, -40, 40))))


def _mean(a: np.ndarray, b: np.ndarray, weight: float) -> np.ndarray:
    return weight * a + (1 - weight) * b


def _mixture(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the mixture of two laws, given by theirs; `weight` is that of `a`."""
    mean = _mean(a[0], b[0], weight)
    return mean, np.sqrt(_mean(a[1] ** 2 + (a[0] - mean) ** 2, b[1] ** 2 + (b[0] - mean) ** 2, weight))
