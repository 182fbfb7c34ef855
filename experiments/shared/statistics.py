"""Statistics that several experiments use: ranks, intervals, and how soon searches find the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.shared.common import DATASETS


def kendall_tau(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's rank correlation of two columns `(m,)`."""
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def interval_over_groups(values: np.ndarray, groups: Sequence[str], *, draws: int = 10_000) -> dict[str, float]:
    """Mean over the groups of `values (m,)`, and its 95 % bootstrap interval: groups are drawn, and values within each group."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))]
    means = []
    for _ in range(draws):
        drawn = rng.integers(len(members), size=len(members))
        means.append(np.mean([values[rng.choice(members[k], len(members[k]))].mean() for k in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(np.mean([values[m].mean() for m in members])), "low": float(low), "high": float(high)}


def process_tau(
    features: Sequence[np.ndarray], y: np.ndarray, *, labels: int, seed: int, good: float, plain: bool = False
) -> float:
    """Kendall's tau of a Gaussian process that has learned from `labels` random labels.

    Args:
        features: Groups of features of all architectures, `(m, k)` each.
        y: Their values `(m,)`.
        labels: Number of labels.
        seed: Draws the labelled architectures.
        good: Tau is over the other architectures with values above this quantile of all; the ranks of bad ones do not help a search.
        plain: Whether the last group is the plain one, which the evidence weighs as in the predictor `gp`.
    """
    from diffnag.predictors.adaptation import Adaptation, PlainAdaptation

    order = np.random.default_rng(seed).permutation(len(y))
    paid, rest = order[:labels], order[labels:]
    chosen = rest[y[rest] > np.quantile(y, good)]
    process = PlainAdaptation() if plain else Adaptation()
    process.fit(np.zeros(labels), [group[paid] for group in features], y[paid])
    mean, _ = process.predict(np.zeros(len(chosen)), [group[chosen] for group in features])
    return kendall_tau(mean, y[chosen])


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Each column `(m, ...)` by rank, as quantiles of the standard normal."""
    from scipy.stats import norm, rankdata

    return norm.ppf(rankdata(values, axis=0) / (len(values) + 1))


def copied_ranks(target: str, budget: int) -> np.ndarray:
    """Best test accuracy so far `(budget,)` when cells are taken in the order of their mean rank, by test accuracy, in the sister tables."""
    from scipy.stats import rankdata

    from diffnag import load_space
    from diffnag.io.tables import load_table

    table = load_table(load_space("nasbench201"))
    sisters = [table.values[f"{other}/test/200"] for other in DATASETS if other != target]
    order = np.argsort(-np.mean([rankdata(column) for column in sisters], axis=0), kind="stable")
    return np.maximum.accumulate(table.values[f"{target}/test/200"][order[:budget]])


def optimum_found(curves: np.ndarray, optimum: float) -> dict[str, float | None]:
    """Share of the searches that reach the optimum, and the median number of labels they need.

    `curves (runs, labels)` hold the best value after each label.
    """
    hit = curves >= optimum - 1e-4
    first = np.where(hit.any(1), hit.argmax(1) + 1, np.inf)
    return {"hit_rate": float(hit.any(1).mean()), "median_labels_to_optimum": median_labels(first)}


def median_labels(first: np.ndarray) -> float | None:
    """Median of labels `(runs,)`, where infinity stands for a search that found nothing; None if fewer than half found it."""
    median = float(np.median(first))
    return median if np.isfinite(median) else None
