"""One search of the front benchmark: a method with a seed on a benchmark of several objectives, and what it found."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.shared.arena_search import TASKS, Contender, generator, labels_of, space_and_oracle
from experiments.shared.common import DATASETS

if TYPE_CHECKING:
    from diffnag.objectives.goal import Goal
    from diffnag.search_loop.assembly import Assembly
    from diffnag.search_loop.trial import Trial

DEVICES = ("pixel3", "samsung_s7", "gold_6240", "silver_4210r", "1080ti_32", "titanx_256")
PROTOCOL = "T"
"""The label is mean test accuracy; gpt-s has one perplexity."""


@dataclass(frozen=True)
class Fronts:
    """A benchmark: a space and a dataset with objectives beside the label."""

    space: str
    dataset: str
    minimise: tuple[str, ...] = ()
    maximise: tuple[str, ...] = ()
    oracle: str = "table"
    reward: str = "test"
    tabled: bool = True
    """Whether every architecture of the space has a value, so that the true front is known."""


BENCHMARKS: Mapping[str, Fronts] = {
    **{f"nasbench201/cifar100/{device}": Fronts("nasbench201", "cifar100", (f"latency:{device}",)) for device in DEVICES},
    "gpt-s/memory": Fronts("gpt-s", "openwebtext", ("hw-gpt-memory",), oracle="hw-gpt-bench", reward="val", tabled=False),
    "gpt-s/params/flops": Fronts("gpt-s", "openwebtext", ("params", "flops"), oracle="hw-gpt-bench", reward="val", tabled=False),
    "nasbench201/cifar10/robustness": Fronts("nasbench201", "cifar10", maximise=("robustness:aa_apgd-ce@Linf/1",)),
    **{
        f"nasbench201/{dataset}/{device}": Fronts("nasbench201", dataset, (f"latency:{device}",))
        for dataset in DATASETS if dataset != "cifar100" for device in DEVICES
    },
    **{f"nasbench201/{dataset}/params": Fronts("nasbench201", dataset, ("params",)) for dataset in DATASETS},
    **{
        f"transnasbench101-{part}/{task}/params": Fronts(f"transnasbench101-{part}", task, ("params",))
        for part in ("micro", "macro") for task in TASKS
    },
    "nasbench101/cifar10/params": Fronts("nasbench101", "cifar10", ("params",)),
}  # fmt: skip
"""In the order of their weight."""
METHODS: Mapping[str, Contender] = {
    "diffnag": Contender("diffnag", {"predictor": "flops"}),
    "diffnag+meta": Contender("diffnag", {"predictor": "meta"}),
    "random": Contender("random"),
    "local-search": Contender("local-search"),
    "nsga2": Contender("nsga2"),
    "motpe": Contender("tpe"),
    "parego": Contender("parego"),
    "qlognehvi": Contender("experiments.fronts.qlognehvi:QLogNEHVI"),
    "gp-enumerate": Contender("gp-enumerate"),
    "diffnag, gp": Contender("diffnag", {"predictor": "gp"}),
}
"""`diffnag` starts from scratch, without a label of any source: its prior is that more multiply-adds are better, which labels may refute."""


def possible(method: str, benchmark: str) -> bool:
    """Whether a method can search a benchmark: `meta` knows the datasets of NAS-Bench-201, `gp-enumerate` needs a small space."""
    space = BENCHMARKS[benchmark].space
    return {"diffnag+meta": space == "nasbench201", "gp-enumerate": space not in ("nasbench101", "gpt-s")}.get(method, True)


def run(contender: Contender, benchmark: str, budget: int, seed: int) -> dict[str, Any]:
    """Run one search.

    `steps` has a row for each label that no earlier one dominated: the number of the label from 1, then the values of all objectives in
    their own units. `seconds` is processor time of one core.
    """
    from diffnag.objectives.front import non_dominated
    from diffnag.search_loop.loop import Search
    from diffnag.search_loop.options import SearchOptions

    about = BENCHMARKS[benchmark]
    _, oracle = space_and_oracle(about.space, about.oracle)
    steps: list[list[float]] = []
    known: list[np.ndarray] = []
    labels = 0

    def note(trial: Trial) -> None:
        nonlocal labels
        labels += 1
        (row,) = goal.values([trial])
        if np.isfinite(row).all():
            known.append(goal.signs * row)
            if len(known) - 1 in non_dominated(np.array(known)):
                steps.append([labels, *row.tolist()])

    options = SearchOptions(
        space=about.space, dataset=about.dataset, oracle=about.oracle, reward=about.reward, budget=budget, seed=seed,
        minimise=about.minimise, maximise=about.maximise, **{"batch": 1, **contender.options, "method": contender.method},
    )  # fmt: skip
    begin = time.process_time()
    with Search(options, oracle=oracle, generator=generator(about.space) if contender.method == "diffnag" else None) as search:
        goal = search.parts.goal
        search.work(on_trial=note)
    return {"steps": steps, "labels": labels, "seconds": round(time.process_time() - begin, 3)}


def identity(contender: Contender, benchmark: str, *, budget: int) -> dict[str, Any]:
    """Everything that searches in one row must have in common, ready for JSON."""
    about = BENCHMARKS[benchmark]
    objectives = {"minimise": list(about.minimise), "maximise": list(about.maximise)}
    return {
        "benchmark": benchmark, "protocol": PROTOCOL, "budget": budget, **objectives, **contender.identity(),
        "checkpoint": contender.checkpoint(about.space),
    }  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """The true front of a benchmark `(m, k)`, or the best that is known, more being better, and the reference point `(k,)`."""

    front: np.ndarray
    reference: np.ndarray
    signs: np.ndarray = field(default_factory=lambda: np.ones(1))

    @cached_property
    def volume(self) -> float:
        """Hypervolume of the front."""
        from diffnag.objectives.hypervolume import hypervolume

        return float(hypervolume(self.front, self.reference))


def truth(benchmark: str, found: np.ndarray | None = None) -> Truth:
    """The true front, from the tables; where they do not know it, that of the values `found (m, k)` by all methods, in natural units.

    The reference point is the label at the median of the space, every other objective at its worst on the front and a tenth of its
    range there beyond.
    """
    from diffnag.objectives.front import non_dominated

    about = BENCHMARKS[benchmark]
    goal = goal_of(about)
    if about.tabled:
        every = goal.signs * table_values(about)
        median = float(np.median(every[:, 0]))
    else:
        assert found is not None
        every, median = goal.signs * found, median_of_draws(about)
    front = every[non_dominated(every)]
    front = front[front[:, 0] > median]
    worst = front.min(0)
    reference = worst - 0.1 * (front.max(0) - worst)
    reference[0] = median
    return Truth(front, reference, goal.signs)


@cache
def assembled(about: Fronts) -> Assembly:
    """The parts of a search of a benchmark, whose method draws at random."""
    from diffnag.search_loop.assembly import assemble
    from diffnag.search_loop.options import SearchOptions

    _, oracle = space_and_oracle(about.space, about.oracle)
    options = SearchOptions(
        space=about.space, dataset=about.dataset, oracle=about.oracle, reward=about.reward, minimise=about.minimise,
        maximise=about.maximise, method="random",
    )  # fmt: skip
    return assemble(options, oracle=oracle)


def goal_of(about: Fronts) -> Goal:
    """The goal of a benchmark, as a search makes it."""
    return assembled(about).goal


def cheapest_copies(about: Fronts) -> np.ndarray:
    """Values `(m, k)` in natural units of the cheapest copy of each canonical class: no search can buy more, as it buys one of each.

    Empty for a space that is too large to look at all of it, or if it has no copies.
    """
    parts = assembled(about)
    copies = list(parts.domain.cheapest.values())
    if len(copies) == len(list(islice(parts.space.enumerate() or (), len(copies) + 1))):
        return np.empty((0, len(parts.goal.objectives)))
    labels = [parts.oracle.query(arch, dataset=about.dataset, split=about.reward) for arch in copies]
    return np.column_stack([labels, *([parts.goal.measure(one, arch) for arch in copies] for one in parts.goal.objectives[1:])])


def table_values(about: Fronts) -> np.ndarray:
    """Values of all architectures of the table that have one for each objective, `(m, k)` in natural units."""
    space, oracle = space_and_oracle(about.space, about.oracle)
    goal = goal_of(about)
    labels = labels_of(oracle.table, about.dataset, about.reward)
    archs = [space.from_str(text) for text in oracle.table.archs]
    others = [[goal.measure(one, arch) for arch in archs] for one in goal.objectives[1:]]
    values = np.column_stack([labels.round(4), *others])
    return values[np.isfinite(values).all(1)]


def median_of_draws(about: Fronts, count: int = 2000) -> float:
    """Median label of random architectures, more being better."""
    from diffnag.spaces.draws import random_archs

    space, oracle = space_and_oracle(about.space, about.oracle)
    values = [oracle.query(arch, dataset=about.dataset, split=about.reward) for arch in random_archs(space, count, seed=0)]
    return float(np.median(goal_of(about).signs[0] * np.array(values)))
