"""Volume that a front dominates, and how much of it a new member is expected to add.

Values are `(m, k)`, all maximised, as in `diffnag.objectives.front`. A member counts as far as it is better than the reference point in
every objective. Both functions cut the space into slabs at the members' values of the first objective. Within a slab the members that
count are the same, so that what is left is a problem of one objective less. With independent normal predictions the expectation of a
product is the product of expectations, and the same cut gives the expected improvement exactly, for any number of objectives
(Emmerich, Giannakoglou & Naujoks, IEEE TEVC 2006, section IV; Yang et al., J. Glob. Optim. 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import ndtr

from diffnag.objectives.front import non_dominated

Law = Callable[[float], np.ndarray]
"""`E[max(X - threshold, 0)]` of b candidates in one objective, `(b,)`, as a function of the threshold."""


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """Volume between `reference (k,)` and what dominates it among `values (m, k)`."""
    values = np.asarray(values, dtype=np.float64)
    values = values[(values > reference).all(1)]
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max() - reference[0])
    total = 0.0
    for (low, high), above in _slabs(values, float(reference[0])):
        if np.isfinite(high):
            total += (high - low) * hypervolume(above, reference[1:])
    return total


def expected_improvement_of_volume(
    mean: np.ndarray, std: np.ndarray, front: np.ndarray, reference: np.ndarray, *, first: np.ndarray | None = None
) -> np.ndarray:
    """Expected growth of the hypervolume by each of b candidates, `(b,)`, exact for these laws.

    Args:
        mean: Predicted values, `(b, k)`.
        std: Their standard deviations, `(b, k)`, taken as independent; 0 for values that are known.
        front: Values that are there, `(m, k)`; dominated ones do not matter, and m may be 0.
        reference: Reference point, `(k,)`.
        first: Equally likely values `(q, b)` of the first objective, in place of its normal law.
    """
    front = front[(front > reference).all(1)]
    columns = zip(np.asarray(mean, dtype=np.float64).T, np.asarray(std, dtype=np.float64).T, strict=True)
    laws: list[Law] = [partial(surplus, *column) for column in columns]
    return _expected(laws if first is None else [partial(mean_surplus, first), *laws[1:]], front, reference)


def _expected(laws: Sequence[Law], front: np.ndarray, reference: np.ndarray) -> np.ndarray:
    law, lowest = laws[0], float(reference[0])
    if len(laws) == 1:
        return law(max(lowest, float(front[:, 0].max(initial=-np.inf))))
    slabs = _slabs(front, lowest)
    surpluses = [law(low) for (low, _), _ in slabs]
    within = [one - next_one for one, next_one in zip(surpluses, [*surpluses[1:], np.zeros(1)], strict=True)]  # each ends where the next begins
    return np.asarray(sum(share * _expected(laws[1:], above, reference[1:]) for share, (_, above) in zip(within, slabs, strict=True)))


def surplus(mean: np.ndarray, std: np.ndarray, threshold: float) -> np.ndarray:
    """`E[max(X - threshold, 0)]` for X ~ N(mean, std^2), `(b,)`; 0 above an infinite threshold."""
    if np.isposinf(threshold):
        return np.zeros(len(mean))
    gap = mean - threshold
    z = np.divide(gap, std, out=np.zeros_like(gap), where=std > 0)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return np.where(std > 0, np.maximum(gap * ndtr(z) + std * density, 0.0), np.maximum(gap, 0.0))


def mean_surplus(values: np.ndarray, threshold: float) -> np.ndarray:
    """`E[max(X - threshold, 0)]` for X that is equally likely each of `values (q, b)`, `(b,)`."""
    return np.maximum(values - threshold, 0.0).mean(0)


def _slabs(values: np.ndarray, first: float) -> list[tuple[tuple[float, float], np.ndarray]]:
    """Slabs of the first objective from `first` upwards, each with the other values of the members that reach above it.

    The last slab has no end, and no member.
    """
    values = values[non_dominated(values)] if len(values) else values
    values = values[np.argsort(values[:, 0], kind="stable")]
    edges = np.unique(values[:, 0])
    lows, highs = (first, *edges), (*edges, np.inf)
    return [((float(low), float(high)), values[values[:, 0] >= high, 1:]) for low, high in zip(lows, highs, strict=True)]
