"""One search of the limit benchmark: the best architecture within a limit on the latency of a device."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.fronts.search import DEVICES
from experiments.fronts.simulated import SPACE, exact_latencies
from experiments.shared.arena_search import Contender, generator, labels_of, space_and_oracle

if TYPE_CHECKING:
    from diffnag.search_loop.trial import Trial

DATASET, REWARD = "cifar100", "test"
SHARES = (50, 70, 90)
"""Shares of the cells that meet a limit, in %."""


@dataclass(frozen=True)
class Limited:
    """A device, the share of cells in % that meet the limit, and whether latencies are predicted until a cell is chosen."""

    device: str
    share: int
    predicted: bool = False


BENCHMARKS: Mapping[str, Limited] = {
    f"{device}/{share}{'/predicted' if predicted else ''}": Limited(device, share, predicted)
    for predicted in (False, True) for device in DEVICES for share in SHARES
}  # fmt: skip
METHODS: Mapping[str, Contender] = {
    "diffnag, gp": Contender("diffnag", {"predictor": "gp"}),
    "diffnag, flops": Contender("diffnag", {"predictor": "flops"}),
    "diffnag+meta": Contender("diffnag", {"predictor": "meta"}),
    "random": Contender("random"),
    "local-search": Contender("local-search"),
    "evolution": Contender("evolution"),
    "bananas": Contender("bananas", {"batch": 10}),  # as in its paper
    "tpe": Contender("tpe"),
    "gp-enumerate": Contender("gp-enumerate"),
}
OURS = ("diffnag, gp", "diffnag, flops", "diffnag+meta")


@dataclass(frozen=True)
class Optimum:
    """The limit in ms, and the best value within it with the canonical class of its cell."""

    limit: float
    value: float
    key: str
    copies: int = 1
    """Cells of this class within the limit."""


class _Reached(Exception):
    """Ends a search that found the best value within the limit."""


def possible(method: str, benchmark: str) -> bool:
    """Whether a row is of interest: with predicted latencies only our own methods are compared with themselves."""
    return method in OURS or not BENCHMARKS[benchmark].predicted


def run(contender: Contender, benchmark: str, budget: int, seed: int) -> dict[str, Any]:
    """Run one search of at most `budget` places, and return its result.

    `steps` has a row for each place that brought a new best value within the limit: its number from 1 and the value. `hit` is the place
    that bought a member of the best canonical class within the limit, or None. A search buys one member of a class at most, so the
    best value may be out of its reach after that. `missed` counts the places whose measured latency was beyond the limit, for which
    no label was paid, and `violations` the reported bests that do not meet it. The search stops at the best value. `seconds` is
    processor time of one core.
    """
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions

    about, best = BENCHMARKS[benchmark], optimum(benchmark)
    space, oracle = space_and_oracle(SPACE, "table")
    ms = exact_latencies(about.device)
    steps: list[list[float]] = []
    hits: list[int] = []
    count = {"places": 0, "labels": 0, "missed": 0, "violations": 0}

    def note(trial: Trial) -> None:
        count["places"] += 1
        count["labels"] += trial.asked
        count["missed"] += not trial.asked
        if trial.value is None:
            return
        if trial.value >= best.value or space.canonical(trial.arch) == best.key:
            hits.append(count["places"])
        if not steps or trial.value > steps[-1][1]:
            steps.append([count["places"], trial.value])
            count["violations"] += ms[space.to_str(trial.arch)] > best.limit
        if trial.value >= best.value:
            raise _Reached

    options = SearchOptions(
        space=SPACE, dataset=DATASET, oracle="table", reward=REWARD, budget=budget, seed=seed, limit=(limit_text(benchmark, seed),),
        **{"batch": 1, **contender.options, "method": contender.method},
    )  # fmt: skip
    begin = time.process_time()
    with Search(options, oracle=oracle, generator=generator(SPACE) if contender.method == "diffnag" else None) as search, suppress(_Reached):
        search.work(on_trial=note)
    return {"steps": steps, "hit": hits[0] if hits else None, **count, "seconds": round(time.process_time() - begin, 3)}


def limit_text(benchmark: str, seed: int) -> str:
    """The limit as the command line takes it; with predicted latencies the seed draws the ten measured cells."""
    about = BENCHMARKS[benchmark]
    name = f"experiments.fronts.simulated:{about.device}@{seed}" if about.predicted else f"latency:{about.device}"
    return f"{name}<={optimum(benchmark).limit!r}"


def identity(contender: Contender, benchmark: str, *, budget: int) -> dict[str, Any]:
    """Everything that searches in one row must have in common, ready for JSON."""
    best = optimum(benchmark)
    return {
        "benchmark": benchmark, "protocol": "T", "budget": budget, **contender.identity(), "limit_ms": best.limit, "optimum": best.value,
        "checkpoint": contender.checkpoint(SPACE),
    }  # fmt: skip


@cache
def cell_latencies(device: str) -> np.ndarray:
    """Latency in ms of every cell, in the order of the table."""
    known = exact_latencies(device)
    return np.array([known[text] for text in space_and_oracle(SPACE, "table")[1].table.archs])


def limit_of(ms: np.ndarray, share: int) -> float:
    """The smallest latency that a share of all cells, in %, meets."""
    return float(np.sort(ms)[math.ceil(share * len(ms) / 100) - 1])


@cache
def optimum(benchmark: str) -> Optimum:
    """The limit that the smallest sufficient latency sets, and the best cell within it, both from the tables."""
    about = BENCHMARKS[benchmark]
    space, oracle = space_and_oracle(SPACE, "table")
    table = oracle.table
    ms, values = cell_latencies(about.device), labels_of(table, DATASET, REWARD)
    limit = limit_of(ms, about.share)
    best = space.from_str(table.archs[int(np.argmax(np.where(ms <= limit, values, -np.inf)))])
    key = space.canonical(best)
    copies = sum(space.canonical(space.from_str(text)) == key for text, allowed in zip(table.archs, ms <= limit, strict=True) if allowed)
    return Optimum(limit, oracle.query(best, dataset=DATASET, split=REWARD), key, copies)
