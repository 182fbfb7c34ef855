"""Rows, tests and tables of the front benchmark, from the saved searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.fronts.search import BENCHMARKS, Truth, cheapest_copies, truth
from experiments.shared.arena_results import Entry
from experiments.shared.results import by_seeds

AT = (10, 25, 50, 100)
"""Numbers of labels at which rows report figures."""
OURS = ("diffnag", "diffnag+meta")
Curves = Mapping[str, np.ndarray]


def front_curves(entry: Entry, true: Truth) -> Curves:
    """Front regret in % and IGD+ after each label, `(seeds, budget)` each."""
    budget = entry.identity["budget"]
    regret, distance = (np.full((len(entry.runs), budget), np.nan) for _ in range(2))
    for i, seed in enumerate(entry.seeds):
        known: list[np.ndarray] = []
        regret[i], distance[i] = 100.0, igd_plus(np.empty((0, len(true.reference))), true)
        for label, *values in entry.runs[seed]["steps"]:
            known.append(true.signs * np.array(values))
            regret[i, int(label) - 1 :] = front_regret(np.array(known), true)
            distance[i, int(label) - 1 :] = igd_plus(np.array(known), true)
    return {"regret": regret, "igd_plus": distance}


def front_regret(found: np.ndarray, true: Truth) -> float:
    """Share of the true front's hypervolume in % that values `(m, k)` lack, more being better."""
    from diffnag.objectives.hypervolume import hypervolume

    return 100 * (1 - hypervolume(found, true.reference) / true.volume)


def out_of_reach(benchmark: str, true: Truth) -> float | None:
    """Front regret in % that is left to a search which buys one architecture of each canonical class, however long it goes on.

    Members of a class compute the same and differ by chance, and the true front holds the lucky ones. None where that is not known.
    """
    about = BENCHMARKS[benchmark]
    values = cheapest_copies(about) if about.tabled else np.empty((0, 0))
    values = values[np.isfinite(values).all(1)]
    return round(front_regret(true.signs * values, true), 3) if len(values) else None


def igd_plus(found: np.ndarray, true: Truth) -> float:
    """Mean distance from each member of the true front to the nearest found one, counting only what is worse; 1 if nothing is found.

    Objectives are scaled by the range from the reference to the best (Ishibuchi et al., EMO 2015).
    """
    if not len(found):
        return 1.0
    span = true.front.max(0) - true.reference
    lack = np.maximum(true.front[:, None] - found[None], 0.0) / span
    return float(np.minimum(np.sqrt((lack**2).sum(-1)).min(1), 1.0).mean())


def truths(entries: Iterable[Entry]) -> dict[str, Truth]:
    """The true front of each benchmark; the best that all searches together have found where it is not known."""
    by_benchmark: dict[str, list[np.ndarray]] = {}
    for entry in entries:
        found = by_benchmark.setdefault(entry.place[0], [])
        found += [np.array(step[1:]) for run in entry.runs.values() for step in run["steps"]]
    return {benchmark: truth(benchmark, np.array(found)) for benchmark, found in by_benchmark.items()}


def row_of(entry: Entry, curves: Curves) -> dict[str, Any]:
    """Row of the result file."""
    benchmark, method, _ = entry.place
    at = [m for m in AT if m <= entry.identity["budget"]]
    seconds, labels = (sum(run[key] for run in entry.runs.values()) for key in ("seconds", "labels"))
    regret = curves["regret"]
    spread = regret.std(0, ddof=1) / len(regret) ** 0.5 if len(regret) > 1 else np.zeros(regret.shape[1])
    return {
        "benchmark": benchmark, "method": method, "seeds": len(entry.runs), "budget": entry.identity["budget"],
        "regret_at": {str(m): round(float(regret[:, m - 1].mean()), 3) for m in at},
        "stderr_at": {str(m): round(float(spread[m - 1]), 3) for m in at},
        "igd_plus_at": {str(m): round(float(curves["igd_plus"][:, m - 1].mean()), 4) for m in at},
        "seconds_per_label": round(seconds / labels, 4),
        "made_by": by_seeds({seed: run["made_by"] for seed, run in entry.runs.items()}),
    }  # fmt: skip


def tests_of(entries: Sequence[Entry], curves: Mapping[tuple[str, str, str], Curves]) -> list[dict[str, Any]]:
    """Two-sided Wilcoxon signed-rank tests of our methods against each other one, on the same seeds; negative differences: ours is better."""
    from scipy.stats import wilcoxon

    rows = []
    for mine in entries:
        for other in entries:
            if mine.method not in OURS or other.method == mine.method or mine.place[0] != other.place[0]:
                continue
            seeds = [seed for seed in mine.seeds if seed in other.runs]
            if len(seeds) < 2:
                continue
            a, b = (curves[one.place]["regret"][[one.seeds.index(seed) for seed in seeds]] for one in (mine, other))
            found: dict[str, Any] = {"benchmark": mine.place[0], "method": mine.method, "against": other.method, "seeds": len(seeds)}
            for m in (m for m in AT if m <= min(a.shape[1], b.shape[1])):
                gap = a[:, m - 1] - b[:, m - 1]
                found |= {f"difference_{m}": round(float(gap.mean()), 3), f"p_{m}": float(f"{wilcoxon(gap).pvalue:.3g}") if gap.any() else 1.0}
            rows.append(found)
    return rows


def means_over_devices(rows: Iterable[Mapping[str, Any]], devices: Sequence[str]) -> dict[str, dict[str, float]]:
    """Method -> mean regret over the devices of NAS-Bench-201 on CIFAR-100, for methods that have all of them."""
    wanted = [f"nasbench201/cifar100/{device}" for device in devices]
    by_method: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in rows:
        if row["benchmark"] in wanted:
            by_method.setdefault(row["method"], {})[row["benchmark"]] = row["regret_at"]
    return {
        method: {m: round(float(np.mean([found[name][m] for name in wanted])), 2) for m in found[wanted[0]]}
        for method, found in by_method.items() if len(found) == len(wanted)
    }  # fmt: skip
