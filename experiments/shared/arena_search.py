"""One search of the arena: a method with a seed on a benchmark's table, and the result that is saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diffnag.generators.loading import DEFAULT_FAMILY
from experiments.shared.arena_results import REFERENCE
from experiments.shared.common import DATASETS
from experiments.shared.draws import MUTATED, Draws

if TYPE_CHECKING:
    from diffnag.io.tables import BenchmarkTable
    from diffnag.protocols import Generator, SearchSpace
    from diffnag.search_loop.trial import Trial

TASKS = ("class_object", "class_scene", "jigsaw", "room_layout")
BENCHMARKS: Mapping[str, tuple[str, ...]] = {
    **{f"nasbench201/{dataset}": ("T", "V") for dataset in DATASETS},
    "nasbench101/cifar10": ("T",),
    **{f"transnasbench101-{part}/{task}": ("T", "V") for part in ("micro", "macro") for task in TASKS},
}
"""Space and dataset -> protocols. The table of NAS-Bench-101 lacks most validation values."""
REWARDS = {"T": "test", "V": "val"}


@dataclass(frozen=True)
class Contender:
    """A method with its fields of `SearchOptions`. The default is one label per round."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: str | None = None
    """A name in `MUTATED` to replace the method's generator, or None."""

    def identity(self) -> dict[str, Any]:
        """All options, for the file of its results."""
        return {"batch": 1, **self.options, "method": self.method, **({"draws": self.draws} if self.draws else {})}

    def checkpoint(self, space: str) -> str | None:
        """Checksum of the weights that it generates with; None if it uses no network."""
        from diffnag.generators.network import shipped_network
        from diffnag.io.checkpoint import weights_checksum

        return weights_checksum(shipped_network(space, self.family)) if self.method == "diffnag" and not self.draws else None

    @property
    def family(self) -> str:
        """The generator family of a method that uses one."""
        return str(self.options.get("generator", DEFAULT_FAMILY))


GUIDED = {"predictor": "gp"}
"""Options of `diffnag` in the arena: from scratch, with no source labels."""
METHODS: Mapping[str, Contender] = {
    "diffnag": Contender("diffnag", GUIDED),
    "random": Contender("random"),
    "evolution": Contender("evolution"),
    "local-search": Contender("local-search"),
    "bananas": Contender("bananas", {"batch": 10}),  # as in its paper
    "tpe": Contender("tpe"),
    "gp-enumerate": Contender("gp-enumerate"),
}
VARIATIONS: Mapping[str, Contender] = {
    REFERENCE: Contender("diffnag", GUIDED),
    **{f"acquisition {name}": Contender("diffnag", {**GUIDED, "acquisition": name}) for name in ("ei", "pi", "ts")},
    "generator unguided": Contender("diffnag", {**GUIDED, "scale": 0.0}),
    **{f"generator {name}": Contender("diffnag", GUIDED, draws=name) for name in MUTATED},
    **{f"guidance scale {scale:g}": Contender("diffnag", {**GUIDED, "scale": scale}) for scale in (2.0, 12.0)},
    **{f"surrogate {name}": Contender("diffnag", {"predictor": name}) for name in ("mlp", "random-forest", "path-ensemble")},
    "proxies as features": Contender("diffnag", {"predictor": "experiments.shared.table_proxies:GaussianProcessWithProxies"}),
    **{f"warm start {name}": Contender("diffnag", {"predictor": name}) for name in ("meta", "meta-only")},
}
"""Variations of `diffnag`: each changes one part of the reference."""


class Goal(NamedTuple):
    """Best value of a table, and the canonical class of its architecture."""

    value: float
    key: str


class _Reached(Exception):
    """Ends a search that found the best value of the table."""


def enumerable(benchmark: str) -> bool:
    """Whether `gp-enumerate` accepts the space."""
    return not benchmark.startswith("nasbench101")


def run(contender: Contender, *, benchmark: str, protocol: str, seed: int, budget: int) -> dict[str, Any]:
    """Run one search and return its result.

    `steps` has a row for each label that brought a new best value: the number of the label from 1, the value, and under protocol V the
    test value of that architecture. The test value is looked up for the report only; no method sees it.
    `hit` is the number of the label that bought a member of the best canonical class, or None. A search buys one member of a class at
    most, so the best value may be out of its reach after that.
    The search stops at the best value of the table, because none of its figures can change after that.
    `seconds` is processor time of one core.
    """
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions

    name, dataset = benchmark.split("/")
    space, oracle = space_and_oracle(name)
    split = REWARDS[protocol]
    goal = _goal(benchmark, split)
    steps: list[list[float]] = []
    hits: list[int] = []
    labels = 0

    def note(trial: Trial) -> None:
        nonlocal labels
        labels += 1
        if trial.value is None:
            return
        if trial.value >= goal.value or space.canonical(trial.arch) == goal.key:
            hits.append(labels)
        if not steps or trial.value > steps[-1][1]:
            tested = [oracle.query(trial.arch, dataset=dataset, split="test")] if protocol == "V" else []
            steps.append([labels, trial.value, *tested])
        if trial.value >= goal.value:
            raise _Reached

    options = SearchOptions(
        space=name, dataset=dataset, oracle="table", reward=split, budget=budget, seed=seed,
        **{"batch": 1, **contender.options, "method": contender.method},
    )  # fmt: skip
    begin = time.process_time()
    draws = Draws(space, mutated=MUTATED[contender.draws]) if contender.draws else None
    drawing: Any = draws or (generator(name, contender.family) if contender.method == "diffnag" else None)
    with Search(options, oracle=oracle, generator=drawing) as search:
        if draws:
            draws.search = search
        sources = sum(search.labels_source.values())
        with suppress(_Reached):
            search.run(on_trial=note)
    return {
        "steps": steps, "labels": labels, "hit": hits[0] if hits else None, "labels_source": sources,
        "seconds": round(time.process_time() - begin, 3),
    }  # fmt: skip


def identity(contender: Contender, *, benchmark: str, protocol: str, budget: int) -> dict[str, Any]:
    """Everything that searches in one row must have in common, ready for JSON."""
    from diffnag.search_loop.methods.guided import CANDIDATES

    name, _ = benchmark.split("/")
    _, oracle = space_and_oracle(name)
    goal = _goal(benchmark, REWARDS[protocol])
    generated = {"candidates": CANDIDATES} if contender.method == "diffnag" else {}
    return {
        "benchmark": benchmark, "protocol": protocol, "budget": budget, **generated, **contender.identity(), "checkpoint": contender.checkpoint(name),
        "table": {key: oracle.provenance()[key] for key in ("version", "sha256")}, "optimum": goal.value,
    }  # fmt: skip


@cache
def space_and_oracle(name: str, oracle: str = "table") -> tuple[SearchSpace, Any]:
    """A space with an oracle, set up."""
    from diffnag import load_space
    from diffnag.plugins import make_oracle

    space, made = load_space(name), make_oracle(oracle)
    made.setup(space=space)
    return space, made


def labels_of(table: BenchmarkTable, dataset: str, split: str) -> np.ndarray:
    """Labels of all architectures of a table, in its order; NaN where there is none."""
    from diffnag.oracles.columns import Columns

    return np.asarray(table.values[Columns("table", table.values).find(dataset, split, None)], dtype=np.float64)


@cache
def _goal(benchmark: str, split: str) -> Goal:
    name, dataset = benchmark.split("/")
    space, oracle = space_and_oracle(name)
    values = labels_of(oracle.table, dataset, split)
    best = space.from_str(oracle.table.archs[int(np.nanargmax(values))])
    return Goal(oracle.query(best, dataset=dataset, split=split), space.canonical(best))


@cache
def generator(name: str, family: str = "sde") -> Generator:
    """The shipped generator of a family."""
    from diffnag import load_generator, load_space

    return load_generator(load_space(name), family)
