"""Rows and tests of the limit benchmark, from the saved searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.fronts.limits import BENCHMARKS
from experiments.shared.arena_results import Entry
from experiments.shared.results import by_seeds
from experiments.shared.statistics import median_labels

PREDICTED = "/predicted"


def report(entries: Sequence[Entry], copies: Mapping[str, int]) -> dict[str, Any]:
    """Content of the result file: a row for each method over all limits of exact and of predicted latencies, and each row alone.

    `copies` are the members of the best class that are within the limit, by benchmark.
    """
    exact = [entry for entry in entries if not BENCHMARKS[entry.place[0]].predicted]
    predicted = [entry for entry in entries if BENCHMARKS[entry.place[0]].predicted]
    by_place = {entry.place[:2]: entry for entry in exact}
    hours = sum(run["seconds"] for entry in entries for run in entry.runs.values()) / 3600
    found = {entry.place[0].removesuffix(PREDICTED): copies[entry.place[0]] for entry in entries}.values()
    return {
        "core_hours": round(hours, 2), "optima": len(found), "crowded": sum(count > 1 for count in found),
        "share_by_chance": round(float(np.mean([1 / count for count in found])), 3), "exact": [_over_limits(each) for each in _by_method(exact)],
        "predicted": [{**_over_limits(each), **_compared(each, by_place)} for each in _by_method(predicted)],
        "rows": [{**_row(entry), "copies": copies[entry.place[0]]} for entry in entries],
    }  # fmt: skip


def _by_method(entries: Sequence[Entry]) -> list[list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.method, []).append(entry)
    return list(found.values())


def _figures(entries: Sequence[Entry]) -> dict[str, Any]:
    """Figures of all searches together, each counted once."""
    to_value, to_class = (np.concatenate([getattr(one, what)() for one in entries]) for what in ("labels_to_optimum", "labels_to_class"))
    runs = [run for entry in entries for run in entry.runs.values()]
    gaps = np.concatenate([one.identity["optimum"] - one.curves()[:, -1] for one in entries])
    places = sum(run["places"] for run in runs)
    return {
        "searches": len(runs),
        "median_to_value": median_labels(to_value), "found_value": round(float(np.isfinite(to_value).mean()), 3),
        "median_to_class": median_labels(to_class), "found_class": round(float(np.isfinite(to_class).mean()), 3),
        "mean_gap": round(float(np.nanmean(gaps)), 4), "violations": int(sum(run["violations"] for run in runs)),
        "missed": round(sum(run["missed"] for run in runs) / places, 4),
        "seconds_per_place": round(sum(run["seconds"] for run in runs) / places, 4),
    }  # fmt: skip


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "benchmark": entry.place[0], "method": entry.method, "budget": entry.identity["budget"], "limit_ms": entry.identity["limit_ms"],
        "optimum": entry.identity["optimum"], **_figures([entry]),
        "made_by": by_seeds({seed: run["made_by"] for seed, run in entry.runs.items()}),
    }  # fmt: skip


def _over_limits(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"method": entries[0].method, "limits": len(entries), **_figures(entries)}


def _compared(entries: Sequence[Entry], exact: Mapping[tuple[str, str], Entry]) -> dict[str, Any]:
    """How much less accurate the best cells are than those of the same method and seeds with exact latencies, in points; positive: less."""
    from scipy.stats import wilcoxon

    gaps = []
    for entry in entries:
        if other := exact.get((entry.place[0].removesuffix(PREDICTED), entry.method)):
            seeds = [seed for seed in entry.seeds if seed in other.runs]
            ends = (one.curves()[[one.seeds.index(seed) for seed in seeds], -1] for one in (other, entry))
            gaps.append(next(ends) - next(ends))
    gap = np.concatenate(gaps) if gaps else np.empty(0)
    gap = gap[np.isfinite(gap)]
    if not len(gap):
        return {}
    p = float(f"{wilcoxon(gap, method='approx').pvalue:.3g}") if gap.any() else 1.0
    return {"pairs": len(gap), "loss": round(float(gap.mean()), 4), "p_loss": p}
