"""Objectives, limits, goals and fronts: closed forms, what is refused, and that limits keep a search from nothing else."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.networks.plan import Skeleton
from diffnag.objectives.accuracy import Label, label_name
from diffnag.objectives.cost import Flops, Params
from diffnag.objectives.front import non_dominated, ranks
from diffnag.objectives.goal import Goal, Limit
from diffnag.objectives.reading import LimitText, load_objective, read_limits
from diffnag.oracles.checked import checked_oracle
from diffnag.search_loop.loop import run_search
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.trial import Trial, best_of
from diffnag.spaces.loading import load_space
from tests.objectives_of_cells import SPACE, TASK, CellObjectiveContract
from tests.search_fakes import ToyOracle, domain

# -- fronts


def test_front_by_hand() -> None:
    #             good in one   in the other  both, middle  worse than 2  equal to 2   worse than all
    values = np.array([[9.0, 1.0], [1.0, 9.0], [5.0, 5.0], [5.0, 4.0], [5.0, 5.0], [0.0, 0.0]])
    assert non_dominated(values).tolist() == [0, 1, 2]
    assert ranks(values).tolist() == [0, 0, 0, 1, 0, 2]


def test_front_of_one_objective_is_the_first_largest() -> None:
    assert non_dominated(np.array([[1.0], [3.0], [2.0], [3.0]])).tolist() == [1]
    assert ranks(np.array([[1.0], [3.0], [2.0], [3.0]])).tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_front_is_what_its_definition_says(k: int) -> None:
    """Few distinct values, so that ties and equal rows are frequent."""
    values = np.random.default_rng(k).integers(0, 4, size=(60, k)).astype(float)

    def dominated(row: np.ndarray) -> bool:
        return any((other >= row).all() and (other > row).any() for other in values)

    free = [i for i, row in enumerate(values) if not dominated(row)]
    first = [i for i in free if not any((values[j] == values[i]).all() for j in range(i))]
    assert non_dominated(values).tolist() == first
    assert np.nonzero(ranks(values) == 0)[0].tolist() == free


def test_ranks_are_fronts_of_what_is_left() -> None:
    values = np.random.default_rng(0).normal(size=(80, 3))
    found, left = ranks(values), np.arange(80)
    for rank in range(found.max() + 1):
        front = left[non_dominated(values[left])]
        assert front.tolist() == np.nonzero(found == rank)[0].tolist()
        left = np.setdiff1d(left, front)
    assert not len(left) and found.max() > 3


def test_points_on_a_sphere_dominate_each_other_not() -> None:
    """On the positive part of the unit sphere a gain in one objective is a loss in another; what is inside it is dominated."""
    points = np.abs(np.random.default_rng(0).normal(size=(50, 3)))
    sphere = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert non_dominated(np.concatenate([0.5 * sphere, sphere])).tolist() == list(range(50, 100))


@pytest.mark.parametrize("values", [np.array([1.0, 2.0]), np.array([[1.0, np.nan]]), np.zeros((3, 0))])
def test_values_that_have_no_front(values: np.ndarray) -> None:
    for function in (non_dominated, ranks):
        with pytest.raises(ValueError, match="without NaN"):
            function(values)


def test_nothing_has_an_empty_front() -> None:
    assert non_dominated(np.zeros((0, 2))).tolist() == ranks(np.zeros((0, 2))).tolist() == []


# -- limits


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("params<=5e5", Limit("params", high=5e5)),
        (" params <= 500k ", Limit("params", high=5e5)),
        ("params<=0.5M", Limit("params", high=5e5)),
        ("flops>=1.5G", Limit("flops", low=1.5e9)),
        ("my.module:Depth<=-3", Limit("my.module:Depth", high=-3)),
    ],
)
def test_limits_are_read(text: str, limit: Limit) -> None:
    assert LimitText.split(text).limit("") == limit


def test_units_have_prefixes() -> None:
    assert LimitText.split("latency<=18ms").limit("ms") == LimitText.split("latency<=18").limit("ms") == Limit("latency", high=18)
    assert LimitText.split("memory<=2MB").limit("B").high == 2e6 and LimitText.split("memory<=2MB").limit("MB").high == 2
    assert LimitText.split("latency<=0.018s").limit("ms").high == LimitText.split("latency<=18000us").limit("ms").high == pytest.approx(18)
    assert LimitText.split("power<=2kW").limit("W").high == 2000 and LimitText.split("accuracy>=70%").limit("%").low == 70
    with pytest.raises(UserError, match=r"limit 'latency<=18h' needs a finite number, alone or with one of us, ms, s behind it"):
        LimitText.split("latency<=18h").limit("ms")


@pytest.mark.parametrize("text", ["", "params", "params<5", "params=5", "<=5", "params<=", "params<=5 k", "params<=5<=6"])
def test_limits_that_are_not_understood(text: str) -> None:
    with pytest.raises(UserError, match="is not understood|needs a finite number"):
        LimitText.split(text).limit("")


@pytest.mark.parametrize("number", ["many", "nan", "inf", "1e999", "5kk", "5ms", "1.2.3", "k", "--5"])
def test_numbers_that_are_not_understood(number: str) -> None:
    with pytest.raises(UserError, match=f"limit 'params<={number}' needs a finite number, alone or with one of k, M, G behind it"):
        LimitText.split(f"params<={number}").limit("")


def test_a_limit_is_an_interval_with_its_ends() -> None:
    limit = Limit("params", low=2, high=5)
    assert [limit.allows(value) for value in (1.9, 2, 3, 5, 5.1, math.nan)] == [False, True, True, True, False, False]
    assert str(limit) == "params>=2 and params<=5" and str(Limit("flops", high=1_234_567)) == "flops<=1,234,567"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("params<=1000",), r"no architecture of nasbench201 meets params<=1,000 \(the least is 73,306\) on cifar10"),
        (("params>=1e9",), r"meets params>=1,000,000,000 \(the most is 1,531,546\) on cifar10"),
        (("params<=8e4", "params>=1e6"), r"meets params<=80,000 \(the least is 73,306\) and params>=1,000,000 \(the most is 1,531,546\)"),
        (("breadth<=3",), "unknown objective 'breadth'; there are: .*flops, .*params, .*or a dotted path package.module:Class"),
        (("params:3<=3",), "objective 'params:3' takes no argument; accepted is params"),
        (("tests.test_objectives:Broken<=3",), r"objective 'broken': measure raised ZeroDivisionError: division by zero"),
        (("tests.test_objectives:Unset<=3",), r"objective 'tests.test_objectives:Unset': setup raised KeyError: 'width'"),
        (("tests.test_objectives:Texts<=3",), r"objective 'texts': measure raised ValueError: could not convert string to float: 'three'"),
        (("tests.test_objectives:Never<=3",), r"no architecture of nasbench201 meets never<=3 \(none has a value\)"),
        (("tests.test_objectives:Depth<=3", "tests.test_objectives:Same<=3"), "two objectives called 'depth'"),
        (("tests.test_objectives:TASK<=3",), "has no class 'TASK'"),
        (("tests.test_objectives:Limit<=3",), "lacks name, unit, maximise, paid, measure"),
    ],
)
def test_limits_that_cannot_be_met_or_measured(texts: tuple[str, ...], message: str) -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match=message):
        run_search(SearchOptions(dataset="cifar10", method="random", budget=3, limit=texts), oracle=oracle)
    assert oracle.asked == []


def test_what_takes_too_long_to_look_at_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffnag.objectives.goal.PATIENCE_S", 0.0)
    with pytest.raises(UserError, match=r"none of 100 architectures of nasbench201 that were looked at in 0 s meets params<=1,000 \(the least is 73"):
        run_search(SearchOptions(dataset="cifar10", method="random", budget=3, limit=("params<=1000",)), oracle=ToyOracle())
    monkeypatch.setattr("diffnag.objectives.goal.AT_ONCE_S", -1.0)
    with pytest.raises(UserError, match="none of 1 architectures of nasbench201"):  # no time is spent to find a hundred
        run_search(SearchOptions(dataset="cifar10", method="random", budget=3, limit=("params<=1000",)), oracle=ToyOracle())
    monkeypatch.undo()
    monkeypatch.setattr("diffnag.objectives.goal.PATIENCE_S", 0.0)
    result = run_search(SearchOptions(dataset="cifar10", method="random", budget=1, limit=("params<=73306",)), oracle=ToyOracle())
    assert len(result.trials) == 1, "edits towards the limit come first, so that what is rare is found at once"


class Depth:
    """Number of 3x3 convolutions."""

    name, unit, maximise, paid = "depth", "", False, False

    def measure(self, arch: Arch, *, task: Task) -> float:
        return arch.ops.count(5)


class Same(Depth):
    pass


class Paid(Depth):
    name, paid = "label", True


class Broken(Depth):
    name = "broken"

    def measure(self, arch: Arch, *, task: Task) -> float:
        return 1 / 0


class Texts(Depth):
    name = "texts"

    def measure(self, arch: Arch, *, task: Task) -> float:
        return "three"  # type: ignore[return-value]


class Never(Depth):
    name = "never"

    def measure(self, arch: Arch, *, task: Task) -> float:
        return math.nan


class Unset(Depth):
    name = "unset"

    def setup(self, *, space: object, task: Task, skeleton: object) -> None:
        raise KeyError("width")


def test_short_forms_and_limits_are_the_same_search(tmp_path: Path) -> None:
    def searched(**changes: object) -> list[Arch]:
        asked = SearchOptions(dataset="cifar10", method="evolution", budget=14, **changes)  # type: ignore[arg-type]
        return [trial.arch for trial in run_search(asked, oracle=ToyOracle(), storage=f"sqlite:///{tmp_path}/study.db").trials]

    short = searched(max_params=400_000, max_flops=60_000_000)
    assert searched(limit=("flops<=60M", "params <= 4e5")) == short, "it is even the same study"
    with pytest.raises(UserError, match=r"was made with limits \['flops<=60,000,000', 'params<=400,000'\], not \['params<=400,000'\]"):
        searched(limit=("params<=4e5",))


def test_every_trial_has_the_values_that_the_goal_names() -> None:
    asked = SearchOptions(dataset="cifar10", method="random", budget=6, limit=("tests.test_objectives:Depth<=2", "params<=1M"))
    result = run_search(asked, oracle=ToyOracle())
    for trial in result.trials:
        size = SPACE.size(trial.arch, num_classes=10, image_size=32)
        assert trial.values == {"accuracy": trial.value, "depth": trial.arch.ops.count(5), "params": size.params}
        assert trial.values["depth"] <= 2 and size.params <= 1e6
    (plain,) = run_search(SearchOptions(dataset="cifar10", method="random", budget=1), oracle=ToyOracle()).trials
    assert plain.values == {"accuracy": plain.value}


# -- objectives


def test_names_and_units_of_labels() -> None:
    transnas = load_space("transnasbench101-micro")
    assert label_name(SPACE, dataset="cifar10", kind="table") == label_name(transnas, dataset="class_scene", kind="table") == "accuracy"
    assert label_name(transnas, dataset="jigsaw", kind="proxy") == label_name(SPACE, dataset="cifar10", kind="proxy") == "score"
    other = label_name(transnas, dataset="room_layout", kind="table")
    assert other not in ("accuracy", "score") and Label(toy(), "val", other).unit == "" and Label(toy(), "val").unit == "%"


def toy(plugin: ToyOracle | None = None):
    return checked_oracle("toy", plugin or ToyOracle())


def test_a_label_asks_the_oracle_for_its_split() -> None:
    plugin = ToyOracle()
    arch = SPACE.of_operations((3,) * 6)
    label = Label(toy(plugin), "val")
    assert (label.measure(arch, task=TASK), label.on("test").measure(arch, task=TASK)) == (97.5, 96.5)
    assert plugin.asked == [(arch, "val"), (arch, "test")] and not label.watched and label.paid and label.maximise


def test_costs_are_those_of_the_network_for_the_task() -> None:
    arch = SPACE.of_operations((3,) * 6)
    for task, skeleton in (("cifar10", None), ("ImageNet16-120", None), ("cifar100", Skeleton(8, 2))):
        params, flops = (load_objective(name, space=SPACE, task=Task(task), skeleton=skeleton) for name in ("params", "flops"))
        classes, side = SPACE.datasets[task]
        shape = {"channels": 8, "cells": 2} if skeleton else {}
        size = SPACE.size(arch, num_classes=classes, image_size=side, **shape)
        assert params.measure(arch, task=Task(task)) == size.params and flops.measure(arch, task=Task(task)) == size.flops
    with pytest.raises(UserError, match="known for cifar10, cifar100, ImageNet16-120, not for 'svhn'"):
        load_objective("params", space=SPACE, task=Task("svhn"))


# -- goals


class Plain:
    """An objective that is never asked: its values stand in the trials."""

    unit = ""

    def __init__(self, name: str, *, maximise: bool, paid: bool = False) -> None:
        self.name, self.maximise, self.paid = name, maximise, paid

    def measure(self, arch: Arch, *, task: Task) -> float:
        raise NotImplementedError


def trials(*values: dict[str, float], pruned: tuple[int, ...] = ()) -> list[Trial]:
    arch = SPACE.of_operations((3,) * 6)
    return [
        Trial(i, i, arch, one.get("accuracy"), None if "accuracy" in one else "broke", None, None, 0.0, pruned=i in pruned, values=one)
        for i, one in enumerate(values)
    ]


def test_the_front_of_two_objectives() -> None:
    goal = Goal(TASK, (Plain("accuracy", maximise=True, paid=True), Plain("latency", maximise=False)), (Limit("params", high=10),),
                (Plain("params", maximise=False),))  # fmt: skip
    rows = [(90.0, 5.0, 8), (80.0, 2.0, 8), (85.0, 5.0, 8), (95.0, 4.0, 11), (99.0, 1.0, 8), (80.0, 2.0, 3), (70.0, 1.5, 10)]
    every = trials(*({"accuracy": a, "latency": b, "params": c} for a, b, c in rows), pruned=(4,))
    assert [trial.number for trial in goal.front(every)] == [0, 1, 6]
    failed = trials({"latency": 1.0, "params": 3.0}, {"accuracy": 50.0, "params": 3.0})
    assert goal.front(failed) == () == goal.front([])


def test_the_front_of_one_objective_is_the_incumbent() -> None:
    goal, rng = Goal(TASK, (Label(toy(), "val"),)), np.random.default_rng(0)
    every = trials(*({"accuracy": float(value)} if value else {} for value in rng.integers(0, 5, size=30)), pruned=(3, 4, 5))
    for count in range(len(every) + 1):
        best = best_of(every[:count])
        assert goal.front(every[:count]) == (() if best is None else (best,))


def test_a_domain_is_what_the_limits_allow() -> None:
    where = domain(SPACE, "params<=300k", "flops>=10M")
    for arch in itertools.islice(SPACE.enumerate(), 0, 15_625, 97):
        size = SPACE.size(arch, num_classes=10, image_size=32)
        assert where.allows(arch) == (size.params <= 300_000 and size.flops >= 10_000_000)
    assert domain(SPACE).allows(SPACE.of_operations((3,) * 6)) and not where.allows(SPACE.of_operations((3,) * 6))


def test_a_dear_architecture_gives_way_to_its_copy_within_the_limits() -> None:
    dear = SPACE.from_str("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|")  # node 2 leads nowhere
    unique, cheap = SPACE.of_operations((3,) * 6), SPACE.of_operations((1,) * 6)
    within = domain(SPACE, "params<=0.6M")
    assert within.goal.beyond(cheap) == 0 < within.goal.beyond(dear) < within.goal.beyond(unique) and not within.allows(dear)
    found = list(within.within([dear, unique, cheap]))
    assert found[1:] == [unique, cheap] and within.allows(found[0]) and SPACE.canonical(found[0]) == SPACE.canonical(dear)
    assert list(domain(SPACE).within([dear, unique, cheap])) == [dear, unique, cheap]


def test_limits_on_what_is_paid_for_keep_nothing_from_being_evaluated() -> None:
    goal = Goal(TASK, (Label(toy(), "val"),), (Limit("accuracy", low=90.0),))
    assert goal.free_limits == () and goal.allows(SPACE.of_operations((0,) * 6))
    assert [trial.number for trial in goal.front(trials({"accuracy": 80.0}, {"accuracy": 91.0}))] == [1]
    assert goal.front(trials({"accuracy": 80.0})) == ()


def test_objectives_are_loaded_once_each() -> None:
    loaded = []

    def load(name: str) -> Plain:
        loaded.append(name)
        return Plain(name, maximise=False)

    limits, objectives = read_limits(("a<=1", "b>=2", "a>=0"), load)
    assert loaded == ["a", "b"] and [one.name for one in objectives] == ["a", "b"]
    assert limits == (Limit("a", high=1), Limit("b", low=2), Limit("a", low=0))


@pytest.mark.parametrize("cls", [Params, Flops, Depth])
class TestContract(CellObjectiveContract):
    @pytest.fixture
    def objective(self, cls: type[Depth]) -> Depth:
        made = cls()
        if hasattr(made, "setup"):
            made.setup(space=SPACE, task=TASK, skeleton=None)
        return made
