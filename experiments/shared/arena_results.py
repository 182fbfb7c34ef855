"""Results of the arena: files of finished searches, rows, paired tests and tables."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffnag.errors import UserError
from diffnag.io.files import written_whole
from experiments.shared.pool import in_pool
from experiments.shared.results import by_seeds, record
from experiments.shared.statistics import median_labels
from experiments.shared.templates import render

AT = (25, 50, 64, 100, 150, 192)
"""Numbers of labels at which rows report figures, as far as the budget reaches."""
TESTED = ("64", "192")
"""Numbers of labels at which tables report p."""
OURS, REFERENCE = "diffnag", "reference"
"""The method, and the variation, that all others are compared with."""


@dataclass(frozen=True)
class Entry:
    """All searches of one method on one benchmark under one protocol: the content of a file."""

    method: str
    """Name of the method or of the variation in the arena."""
    identity: Mapping[str, Any]
    """Everything that these searches have in common, from `arena_search.identity`."""
    runs: Mapping[int, Mapping[str, Any]]
    """Seed -> result of `arena_search.run`, with `made_by`."""

    @property
    def place(self) -> tuple[str, str, str]:
        return self.identity["benchmark"], self.method, self.identity["protocol"]

    @property
    def seeds(self) -> list[int]:
        return sorted(self.runs)

    def curves(self, column: int = 1) -> np.ndarray:
        """Best value after each label `(seeds, budget)`, or with `column` 2 the test value of that architecture.

        Values are NaN before the first one. After the end of a search its last value is repeated.
        """
        found = np.full((len(self.runs), self.identity["budget"]), np.nan)
        for row, seed in zip(found, self.seeds, strict=True):
            for step in self.runs[seed]["steps"]:
                row[step[0] - 1 :] = np.nan if step[column] is None else step[column]
        return found

    def labels_to_optimum(self) -> np.ndarray:
        """Number of labels to the best value of the table `(seeds,)`; infinity for searches that missed it."""
        last = (self.runs[seed]["steps"][-1:] for seed in self.seeds)
        return np.array([step[0][0] if step and step[0][1] >= self.identity["optimum"] else np.inf for step in last], dtype=np.float64)

    def labels_to_class(self) -> np.ndarray:
        """Number of labels to the canonical class of the best value `(seeds,)`; infinity for searches that bought no member of it."""
        hits = (self.runs[seed]["hit"] for seed in self.seeds)
        return np.array([np.inf if hit is None else hit for hit in hits], dtype=np.float64)

    def row(self) -> dict[str, Any]:
        """Row of the result file."""
        curves, first, at = self.curves(), self.labels_to_optimum(), _at(self.identity["budget"])
        seconds, labels = (sum(run[key] for run in self.runs.values()) for key in ("seconds", "labels"))
        benchmark, method, protocol = self.place
        count, in_class = len(curves), self.labels_to_class()
        row = {
            "benchmark": benchmark, "method": method, "protocol": protocol, "seeds": count, "budget": self.identity["budget"],
            "batch": self.identity["batch"], "optimum": self.identity["optimum"],
            "mean_best_at": {str(m): _rounded(np.mean(curves[:, m - 1])) for m in at},
            "stderr_at": {str(m): _rounded(_stderr(curves[:, m - 1])) for m in at},
            "hit_rate": float(np.isfinite(first).mean()), "hit_rate_at": {str(m): float((first <= m).mean()) for m in at},
            "median_labels_to_optimum": median_labels(first),
            "class_hit_rate": float(np.isfinite(in_class).mean()), "median_labels_to_class": median_labels(in_class),
            "labels_source": max(run["labels_source"] for run in self.runs.values()),
            "seconds_per_label": round(seconds / labels, 4), "seconds_per_search": round(seconds / count, 2),
        }  # fmt: skip
        if protocol == "V":
            row["mean_test_at"] = {str(m): _rounded(np.mean(self.curves(2)[:, m - 1])) for m in at}
        return {**row, "made_by": by_seeds({seed: run["made_by"] for seed, run in self.runs.items()})}


def curves_folder(out: Path) -> Path:
    """Folder of the saved searches, beside the result file `out`."""
    return out.with_suffix("")


def _file(folder: Path, place: Sequence[str]) -> Path:
    return folder / (re.sub(r"[/ :]", "-", "-".join(place)) + ".json.gz")


def load(folder: Path, *, method: str, identity: Mapping[str, Any], anew: bool = False) -> Entry:
    """The entry with its saved searches, or without any if there are none or with `anew`.

    Raises `UserError` if the saved searches have another identity.
    """
    entry = Entry(method, identity, {})
    path = _file(folder, entry.place)
    if anew or not path.is_file():
        return entry
    kept = _read(path)
    if kept.identity != identity:
        other = [key for key in {**kept.identity, **identity} if kept.identity.get(key) != identity.get(key)]
        differences = "; ".join(f"{key} {kept.identity.get(key)!r}, not {identity.get(key)!r}" for key in other)
        raise UserError(f"{path} was made with {differences}: give another --out, or --anew to repeat these searches")
    return kept


def save(folder: Path, entry: Entry) -> None:
    """Write the file of an entry; equal runs give equal bytes."""
    content = {"method": entry.method, "identity": entry.identity, "runs": {str(seed): entry.runs[seed] for seed in entry.seeds}}
    with written_whole(_file(folder, entry.place)) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(content, allow_nan=False, separators=(",", ":")).encode(), mtime=0))


def search_missing(
    entries: Sequence[Entry], run: Callable[..., Mapping[str, Any]], jobs: Sequence[tuple[int, int]], *,
    arguments: Callable[[Entry], tuple[Any, ...]], folder: Path, workers: int,
) -> Iterator[Entry]:  # fmt: skip
    """Run searches in processes, save each as soon as it ends, and yield its entry with all that is saved.

    A job is the number of an entry and a seed; `run` is called with the `arguments` of the entry and the seed. An interrupt is raised
    again with a sentence that says that the same command continues.
    """
    entries = list(entries)
    try:
        for job, result in in_pool(run, [(*arguments(entries[number]), seed) for number, seed in jobs], workers=workers):
            number, seed = jobs[job]
            entries[number] = replace(entries[number], runs={**entries[number].runs, seed: record(result)})
            save(folder, entries[number])
            yield entries[number]
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"stopped; finished searches are saved in {folder}, and the same command continues") from interrupt


def missing(entries: Sequence[Entry], seeds: Iterable[int]) -> list[tuple[int, int]]:
    """The number of an entry and a seed for each search that is not saved yet, the entries one after the other."""
    seeds = list(seeds)
    return [(number, seed) for number, entry in enumerate(entries) for seed in seeds if seed not in entry.runs]


def load_all(folder: Path) -> list[Entry]:
    """All entries of a folder that have a search, in no particular order."""
    return [entry for path in sorted(folder.glob("*.json.gz")) if (entry := _read(path)).runs]


def _read(path: Path) -> Entry:
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        return Entry(content["method"], content["identity"], {int(seed): run for seed, run in content["runs"].items()})
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a readable file of searches ({error}); delete it to repeat them") from error


def paired_tests(entries: Iterable[Entry], *, ours: str = OURS) -> list[dict[str, Any]]:
    """Two-sided Wilcoxon signed-rank tests of `ours` against each other method on the same benchmark, protocol and seeds.

    Rows hold the mean difference of the best value at each of `AT` labels (positive: ours is better) and its p, and the p of the labels
    to the optimum. A search that missed the optimum counts as one label more than the budget.
    """
    by_place = {entry.place: entry for entry in entries}
    rows = []
    for (benchmark, method, protocol), other in by_place.items():
        mine = by_place.get((benchmark, ours, protocol))
        if mine is None or method == ours:
            continue
        seeds = [seed for seed in mine.seeds if seed in other.runs]
        budget = min(mine.identity["budget"], other.identity["budget"])
        if len(seeds) < 2:
            continue
        a, b = (Entry(entry.method, entry.identity, {seed: entry.runs[seed] for seed in seeds}) for entry in (mine, other))
        gaps, at = a.curves()[:, :budget] - b.curves()[:, :budget], _at(budget)
        firsts = [np.minimum(entry.labels_to_optimum(), budget + 1) for entry in (a, b)]
        rows.append({
            "benchmark": benchmark, "protocol": protocol, "method": ours, "against": method, "seeds": len(seeds),
            "difference_at": {str(m): _rounded(np.mean(gaps[:, m - 1])) for m in at},
            "p_at": {str(m): _signed_rank(gaps[:, m - 1]) for m in at},
            "p_labels_to_optimum": _signed_rank(firsts[0] - firsts[1]),
        })  # fmt: skip
    return rows


def _signed_rank(differences: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    differences = differences[np.isfinite(differences)]
    if not differences.any():
        return 1.0  # the test is undefined for equal samples
    return float(f"{wilcoxon(differences, method='approx').pvalue:.3g}")


def _at(budget: int) -> list[int]:
    """Those of `AT` within the budget; the budget itself if it is smaller than all of them."""
    return [m for m in AT if m <= budget] or [budget]


def _stderr(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else np.nan


def _rounded(value: float) -> float | None:
    """Five digits, or None for NaN."""
    return round(float(value), 5) if np.isfinite(value) else None


def page(
    rows: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]], *, ours: str = OURS, pictures: Sequence[str] = ()
) -> str:
    """Markdown with these pictures, which lie beside it, and a table for each benchmark and protocol."""
    places = []
    for benchmark, protocol in dict.fromkeys((row["benchmark"], row["protocol"]) for row in rows):
        own = [row for row in rows if (row["benchmark"], row["protocol"]) == (benchmark, protocol)]
        at = list(own[0]["mean_best_at"])
        p = {test["against"]: test["p_at"] for test in tests if (test["benchmark"], test["protocol"]) == (benchmark, protocol)}
        places.append({
            "benchmark": benchmark, "protocol": protocol, "optimum": own[0]["optimum"], "rows": own, "p": p,
            "at": at, "tested_at": [m for m in TESTED if m in at] or at[-1:],
        })  # fmt: skip
    return render("arena", {"places": places, "ours": ours, "tested": TESTED, "pictures": pictures})
