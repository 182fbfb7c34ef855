"""Acquisition functions: the worth of an evaluation by the mean and deviation that a predictor gives. All are for maximising."""

from __future__ import annotations

import math

import numpy as np

from diffnag.errors import unknown
from diffnag.search_loop.options import ACQUISITIONS

UCB_BETA = 1.5
"""Number of deviations that `ucb` adds to the mean."""


def _cdf(u: np.ndarray) -> np.ndarray:
    """Standard normal distribution function, accurate in the lower tail."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in u.tolist()])


def _pdf(u: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)


def expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """`E[max(f - best, 0)]` for f ~ N(mean, std^2), `(b,)` each (Jones et al. 1998, eq. 15); std may be 0."""
    gain = mean - best
    u = np.divide(gain, std, out=np.zeros_like(gain), where=std > 0)
    return np.where(std > 0, gain * _cdf(u) + std * _pdf(u), np.maximum(gain, 0.0))


def probability_of_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """`P(f > best)` for f ~ N(mean, std^2), `(b,)` each (Kushner 1964); std may be 0."""
    gain = mean - best
    u = np.divide(gain, std, out=np.zeros_like(gain), where=std > 0)
    return np.where(std > 0, _cdf(u), (gain > 0).astype(np.float64))


def upper_confidence_bound(mean: np.ndarray, std: np.ndarray, *, beta: float = UCB_BETA) -> np.ndarray:
    """`mean + beta std`, `(b,)` each (Srinivas et al. 2010, their sqrt(beta_t) held constant)."""
    return mean + beta * std


def thompson(mean: np.ndarray, std: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One independent draw each from N(mean, std^2), `(b,)`."""
    return mean + std * rng.standard_normal(len(mean))


def rank(name: str, mean: np.ndarray, std: np.ndarray, *, best: float | None, rng: np.random.Generator) -> np.ndarray:
    """Indices `(b,)` of the candidates, the one most worth its evaluation first; ties go to the larger mean.

    `best` is the largest value so far. If it is None, `ei` and `pi` have nothing to improve on and rank by the mean.
    Raises `UserError` for an unknown `name`.
    """
    if name not in ACQUISITIONS:
        raise unknown("acquisition", name, ACQUISITIONS)
    if name == "ts":
        score = thompson(mean, std, rng)
    elif name == "ucb":
        score = upper_confidence_bound(mean, std)
    elif best is None:
        score = mean
    else:
        score = (expected_improvement if name == "ei" else probability_of_improvement)(mean, std, best)
    return np.lexsort((-mean, -score))
