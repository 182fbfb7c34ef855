"""What a search is compared with in its picture: the best of the benchmark's table, and random search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.special import gammaln

from diffnag.io.tables import BenchmarkTable
from diffnag.oracles.columns import Columns

if TYPE_CHECKING:
    from diffnag.search_loop.loop import Search

POINTS = 200
"""Most points of the curve of random search."""


@dataclass(frozen=True)
class Reference:
    """The largest value that there is, and the expected best value `mean (k,)` of random search after `labels (k,)`."""

    optimum: float
    labels: np.ndarray
    mean: np.ndarray

    @classmethod
    def of_values(cls, values: np.ndarray, *, budget: int) -> Self | None:
        """From all values of a table `(m,)`, NaN where one is missing; None if all are.

        `mean` is exact for uniform draws without repetition: the best of n draws has at most rank k with probability
        C(k, n) / C(m, n).
        """
        ordered = np.sort(values[~np.isnan(values)].astype(np.float64))
        m = len(ordered)
        if m == 0:
            return None
        last = min(budget, m)
        labels = np.unique(np.linspace(1, last, min(last, POINTS)).round().astype(int))
        steps = np.diff(ordered)
        mean = [ordered[-1] - float(np.sum(steps * _at_most(np.arange(1, m), m, int(n)))) for n in labels]
        return cls(round(float(ordered[-1]), 4), labels, np.array(mean))


def reference_of(search: Search) -> Reference | None:
    """The reference for a search whose oracle is a table; None for other oracles, and for searches with limits or several objectives.

    Limits exclude architectures, and the table does not say which.
    """
    table, options, goal = getattr(search.oracle, "table", None), search.options, search.parts.goal
    if not isinstance(table, BenchmarkTable) or goal.limits or goal.has_front or goal.label_sign < 0:
        return None
    column = Columns("table", table.values).find(options.dataset, options.reward, None)
    return Reference.of_values(table.values[column], budget=options.budget)


def _at_most(rank: np.ndarray, m: int, n: int) -> np.ndarray:
    """Probability that n of the ranks 1 to m, drawn without repetition, are all at most `rank`."""
    log = np.full(len(rank), -np.inf)
    possible = rank >= n
    k = rank[possible]
    log[possible] = gammaln(k + 1) - gammaln(k - n + 1) - gammaln(m + 1) + gammaln(m - n + 1)
    return np.exp(log)
