"""Pareto fronts of any number of objectives. Values are `(m, k)`: m architectures, k objectives, all maximised."""

from __future__ import annotations

import numpy as np


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Indices, in order, of the rows that no other row dominates; of equal rows the first.

    A row dominates another if it is at least as good in every objective and better in one. Raises `ValueError` for NaN.
    """
    values = _checked(values)
    _, first = np.unique(values, axis=0, return_index=True)
    order = first[np.lexsort(values[first].T[::-1])[::-1]]  # best first: no row is dominated by one behind it
    kept: list[int] = []
    for i in order:
        if not (values[kept] >= values[i]).all(1).any():
            kept.append(int(i))
    return np.array(sorted(kept), dtype=np.int64)


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each row `(m,)`: 0 for those that nothing dominates, 1 for those that only rank 0 dominates, and so on.

    Equal rows have equal ranks. Source: non-dominated sorting, Deb et al., 2002 (NSGA-II). Raises `ValueError` for NaN.
    """
    distinct, inverse = np.unique(_checked(values), axis=0, return_inverse=True)
    found = np.zeros(len(distinct), dtype=np.int64)
    left = np.arange(len(distinct))
    rank = 0
    while len(left):
        front = non_dominated(distinct[left])
        found[left[front]] = rank
        left, rank = np.delete(left, front), rank + 1
    return found[inverse.reshape(-1)]


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or np.isnan(values).any():
        raise ValueError(f"accepted are values (m, k) with k >= 1 and without NaN, got shape {values.shape}")
    return values
