"""Searches for several objectives and under limits: what is measured when, what is stored, and what is found."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import optuna
import pytest

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor
from diffnag.objectives.accuracy import Label
from diffnag.objectives.front import non_dominated
from diffnag.objectives.goal import Goal, Limit
from diffnag.objectives.hypervolume import hypervolume
from diffnag.oracles.checked import checked_oracle
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.evaluation import evaluate
from diffnag.search_loop.loop import Search, run_search
from diffnag.search_loop.model import Model
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.outlook import Outlook
from diffnag.search_loop.show.files import write_result
from diffnag.search_loop.trial import Trial, best_of, expected_values
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import KilledOracle, Nearest, Prior, RandomGenerator, StagedOracle, ToyOracle, domain, value

SPACE = NASBench201()
TASK = Task("cifar10")
BEST = SPACE.of_operations((3,) * 6)
NEVER = (lambda epochs, value: False)  # noqa: E731 - shorter than a function


class Convolutions:
    """Number of 3x3 convolutions: free, and in conflict with the toy accuracy."""

    name, unit, maximise, paid = "convolutions", "", False, False

    def measure(self, arch: Arch, *, task: Task) -> float:
        return float(arch.ops.count(5))


class Mirror(Convolutions):
    """The accuracy itself, as the label predicts it, and less is better."""

    name = "mirror"

    def measure(self, arch: Arch, *, task: Task) -> float:
        return value(arch) ** 3


class Watts(Convolutions):
    """Must be measured, and is not predicted; the empty cell cannot be."""

    name, unit, paid = "watts", "W", True
    asked: ClassVar[list[Arch]] = []

    def measure(self, arch: Arch, *, task: Task) -> float:
        self.asked.append(arch)
        return math.nan if arch == SPACE.of_operations((0,) * 6) else 1.0 + sum(arch.ops) / 10


class Elsewhere(Watts):
    """Predicted, as the device is not here, and never measured."""

    name, measurable = "elsewhere", False

    def measure(self, arch: Arch, *, task: Task) -> float:
        raise UserError("cannot be measured here")

    def learn(self, archs: Sequence[Arch], values: np.ndarray) -> None:
        raise AssertionError("nothing is measured")

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([float(sum(arch.ops)) for arch in archs]), np.full(len(archs), 2.0)


class Here(Elsewhere):
    """Predicted half a watt too low until it has learned from a measurement."""

    name, measurable = "here", True
    learned: ClassVar[list[int]] = []

    def measure(self, arch: Arch, *, task: Task) -> float:
        return float(sum(arch.ops)) + 0.5

    def learn(self, archs: Sequence[Arch], values: np.ndarray) -> None:
        self.learned.append(len(archs))
        assert values.tolist() == [sum(arch.ops) + 0.5 for arch in archs]


def path_of(cls: type) -> str:
    return f"{__name__}:{cls.__name__}"


def asked(**changes: object) -> SearchOptions:
    return SearchOptions(**{"dataset": "cifar10", "method": "random", "budget": 12, **changes})  # type: ignore[arg-type]


def label(oracle: ToyOracle | None = None) -> Label:
    return Label(checked_oracle("toy", oracle or ToyOracle()), "val")


# -- one evaluation


def test_a_missed_limit_costs_a_measurement_and_no_label() -> None:
    oracle = ToyOracle()
    goal = Goal(TASK, (label(oracle),), (Limit("watts", high=3.0),), (Watts(),))
    outcome = evaluate(BEST, label(oracle), goal, stop=NEVER)
    assert not outcome.asked and outcome.value is None and oracle.asked == []
    assert outcome.error == "watts<=3 W is not met: it is 4.1 W, so no label was paid for" and outcome.values == {"watts": pytest.approx(4.1)}
    small = SPACE.of_operations((1,) * 6)
    outcome = evaluate(small, label(oracle), goal, stop=NEVER)
    assert outcome.asked and outcome.values == {"watts": pytest.approx(2.9), "accuracy": value(small)} and len(oracle.asked) == 1


def test_other_objectives_are_measured_after_the_label_and_only_if_it_is_whole() -> None:
    Watts.asked.clear()
    oracle = StagedOracle()
    goal = Goal(TASK, (label(oracle), Watts()))
    stopped = evaluate(BEST, label(oracle), goal, stop=lambda epochs, value: epochs == 2)
    assert stopped.pruned and Watts.asked == [] and stopped.values == {"accuracy": value(BEST) / 2}
    whole = evaluate(BEST, label(oracle), goal, stop=NEVER)
    assert not whole.pruned and Watts.asked == [BEST] and whole.values == {"accuracy": value(BEST), "watts": pytest.approx(4.1)}


def test_an_objective_that_fails_leaves_the_label() -> None:
    empty = SPACE.of_operations((0,) * 6)
    goal = Goal(TASK, (label(), Watts()))
    outcome = evaluate(empty, label(), goal, stop=NEVER)
    assert outcome.value == value(empty) and outcome.values == {"accuracy": value(empty)}
    trial = Trial(0, 0, empty, outcome.value, None, None, None, 0.0, values=outcome.values)
    assert goal.front([trial]) == () and goal.best([trial]) is None


def test_of_equal_labels_the_best_is_a_member_of_the_front() -> None:
    """Few validation images give equal labels often."""
    goal = Goal(TASK, (label(), Watts()))
    values = ({"accuracy": 90.0, "watts": 4.0}, {"accuracy": 90.0, "watts": 3.0}, {"accuracy": 80.0, "watts": 2.0}, {"accuracy": 90.0, "watts": 3.0})
    archs = [SPACE.of_operations((k,) * 6) for k in range(4)]
    trials = [
        Trial(k, 0, arch, known["accuracy"], None, None, None, 0.0, values=known) for k, (arch, known) in enumerate(zip(archs, values, strict=True))
    ]
    assert [trial.number for trial in goal.front(trials)] == [1, 2]
    best = goal.best(trials)
    assert best is not None and best.number == 1


# -- expectations


def outlook(*objectives: object, limits: tuple[Limit, ...] = ()) -> Outlook:
    predictor = CheckedPredictor("prior", Prior())
    others = {one.name: CheckedPredictor("prior", Prior()) for one in objectives if isinstance(one, Watts) and not isinstance(one, Elsewhere)}
    return Outlook(SPACE, Goal(TASK, (label(), *objectives), limits), predictor, others)  # type: ignore[arg-type]


def test_expected_values_are_turned_so_that_more_is_better() -> None:
    about = outlook(Convolutions(), Elsewhere())
    archs = [BEST, SPACE.of_operations((0,) * 6)]
    mean, std = about.expected(archs, about.label.predict(archs))
    assert mean.tolist() == [[97.5, -6.0, -31.0], [3.0, 0.0, -13.0]] and std.tolist() == [[0, 0, 2], [0, 0, 2]]


def test_the_chance_to_meet_limits_is_normal() -> None:
    about = outlook(Elsewhere(), limits=(Limit("elsewhere", high=29.0), Limit("accuracy", low=50.0)))
    archs = [BEST, SPACE.of_operations((0,) * 6)]
    assert about.chance(archs, about.label.predict(archs)) == pytest.approx([0.158655254, 0.0], abs=1e-8)


def test_the_improvement_is_none_where_the_front_dominates() -> None:
    about = outlook(Convolutions())
    archs = [SPACE.of_operations(ops) for ops in ((3, 3, 3, 3, 3, 3), (3, 3, 3, 3, 0, 0), (0, 0, 3, 3, 3, 3))]
    values = [{"accuracy": value(arch), "convolutions": float(arch.ops.count(5))} for arch in archs]
    history = [Trial(i, i, arch, value(arch), None, None, None, 0.0, values=row) for i, (arch, row) in enumerate(zip(archs, values, strict=True))]
    growth = about.improvement(archs, about.label.predict(archs), about.standing(history[:1]))
    assert growth[0] == 0 and growth[2] > growth[1] > 0, "what is known adds nothing, and of equal cost the more accurate adds more"
    assert (about.improvement(archs, about.label.predict(archs), about.standing(history)) == 0).all()
    assert about.improvement(archs, about.label.predict(archs), about.standing(history[:1], pending=archs[1:]))[2] == 0, "nor does what is pending"


def test_a_prior_that_is_the_other_objective_chooses_nothing() -> None:
    """All architectures would be on the expected front, so five labels come from samples that nothing guides."""
    unknown = Outlook(SPACE, Goal(TASK, (label(), Watts())), outlook().label, {"watts": CheckedPredictor("nearest", Nearest())})
    assert [one.prior_is_an_objective() for one in (outlook(Mirror()), outlook(Convolutions()), unknown)] == [True, False, False]
    for objective, unguided in ((Mirror, 5), (Convolutions, 0)):
        options = asked(method="diffnag", budget=7, batch=1, predictor=f"{Prior.__module__}:Prior", minimise=(path_of(objective),))
        result = run_search(options, oracle=ToyOracle(), generator=RandomGenerator(SPACE))  # type: ignore[arg-type]
        assert [trial.predicted_mean is None for trial in result.trials] == [True] * unguided + [False] * (7 - unguided)


def test_likely_candidates_come_first() -> None:
    about = outlook(limits=())
    about = Outlook(SPACE, Goal(TASK, (label(),), (Limit("elsewhere", high=22.0),), (Elsewhere(),)), about.label)
    archs = [BEST, *(SPACE.of_operations((3,) * k + (0,) * (6 - k)) for k in range(6))]
    order = Model(about, "ucb").order(archs, [], np.random.default_rng(0))
    likely = [i for i in order if about.chance(archs, about.label.predict(archs))[i] >= 0.9]
    assert order[: len(likely)].tolist() == likely and value(archs[order[0]]) == max(value(archs[i]) for i in likely)


def test_gain_and_chance_are_weighed_where_a_miss_costs_no_label() -> None:
    """Expected improvement is the gain itself, as the predictor is exact; `Here` is predicted with a deviation of 2."""
    high = 22.0
    about = Outlook(SPACE, Goal(TASK, (label(),), (Limit("here", high=high),), (Here(),)), CheckedPredictor("prior", Prior()))
    archs = [SPACE.of_operations((3,) * k + (0,) * (6 - k)) for k in range(7)]
    kept = archs[1]
    history = [Trial(0, 0, kept, value(kept), None, None, None, 0.0, values={"accuracy": value(kept), "here": high})]
    worth = [max(value(arch) - value(kept), 0.0) * 0.5 * math.erfc((sum(arch.ops) - high) / 2 / math.sqrt(2)) for arch in archs]
    order = Model(about, "ucb").order(archs, history, np.random.default_rng(0))
    gains = [i for i in range(7) if worth[i] > 0]
    assert order[: len(gains)].tolist() == sorted(gains, key=lambda i: -worth[i]) and len(gains) == 5
    chances = about.chance(archs, about.label.predict(archs))
    assert Model(about, "ucb").order(archs, [], np.random.default_rng(0))[0] == chances.argmax(), "first of all, something must meet the limits"
    likely = Model(about, "ucb", confidence=0.9).order(archs, history, np.random.default_rng(0))
    assert chances[likely[0]] >= 0.9 > chances[order[0]], "who asks for a confidence gets it"


# -- whole searches


@pytest.mark.parametrize("method", ["random", "local-search", "tpe", "nsga2", "parego", "gp-enumerate"])
def test_every_method_finds_a_front(method: str) -> None:
    result = run_search(asked(method=method, minimise=(path_of(Convolutions),), limit=("params<=1M",)), oracle=ToyOracle())
    front = result.front
    assert front and len(result.trials) == 12 and [one.name for one in result.objectives] == ["accuracy", "convolutions", "params"]
    values = np.array([[trial.value, -trial.values["convolutions"]] for trial in result.trials])
    assert [member.number for member in front.members] == non_dominated(values).tolist()
    assert all(trial.values["params"] <= 1e6 for trial in result.trials)
    best = best_of(result.trials)
    assert best and result.best and result.best.value == best.value and result.best.values == best.values


def test_the_guided_search_covers_the_front_better_than_random_draws() -> None:
    """The front of the toy is known: k convolutions, at the positions that count most."""
    most = [max(value(arch) for arch in SPACE.enumerate() if arch.ops.count(5) == k) for k in range(7)]
    reference = np.array([40.0, -7.0])
    whole = hypervolume(np.array([[accuracy, -k] for k, accuracy in enumerate(most)]), reference)

    def found(method: str, seed: int) -> float:
        more = {"predictor": "gp"} if method == "diffnag" else {}
        options = asked(method=method, budget=40, seed=seed, minimise=(path_of(Convolutions),), **more)
        generator = RandomGenerator(SPACE) if method == "diffnag" else None
        result = run_search(options, oracle=ToyOracle(), generator=generator)  # type: ignore[arg-type]
        return hypervolume(np.array([[trial.value, -trial.values["convolutions"]] for trial in result.trials]), reference) / whole

    ours, random = (np.mean([found(method, seed) for seed in range(2)]) for method in ("diffnag", "random"))
    assert ours > 0.93 and ours > random + 0.15


def test_in_a_small_space_all_classes_are_candidates() -> None:
    """With an exact predictor every label is a member of the front: k convolutions, at the positions that count most."""
    most = {max((value(arch), -k) for arch in SPACE.enumerate() if arch.ops.count(5) == k) for k in range(7)}
    options = asked(method="diffnag", budget=6, predictor=f"{Prior.__module__}:Prior", minimise=(path_of(Convolutions),))
    notes: list[str] = []
    with Search(options, oracle=ToyOracle(), generator=RandomGenerator(SPACE, only=[BEST])) as search:  # type: ignore[arg-type]
        result = search.run(on_note=notes.append)
    assert notes[0] == "each of 4,930 classes of nasbench201 is a candidate; nothing is generated" and sum("classes" in note for note in notes) == 1
    found = [(trial.value, -trial.values["convolutions"]) for trial in result.trials]
    assert len(set(found)) == 6 and set(found) <= most


def test_copies_that_cost_less_are_evaluated() -> None:
    where = domain(SPACE)
    where = type(where)(SPACE, Goal(TASK, (label(), Convolutions())))
    dead = SPACE.from_str("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")  # nothing depends on the convolution
    cheap = where.cheapest_copy(dead)
    assert cheap.ops.count(5) == 0 and SPACE.canonical(cheap) == SPACE.canonical(dead)
    assert where.cheapest_copy(BEST) == BEST


def test_the_cheapest_of_each_class_is_known_in_a_small_space(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Domain(SPACE, Goal(TASK, (label(), Convolutions()), (Limit("convolutions", high=3),)))
    classes: dict[str, list[Arch]] = {}
    for arch in SPACE.enumerate():
        classes.setdefault(SPACE.canonical(arch), []).append(arch)
    least = {key: min(arch.ops.count(5) for arch in members) for key, members in classes.items()}
    assert {key: arch.ops.count(5) for key, arch in where.cheapest.items()} == {key: count for key, count in least.items() if count <= 3}
    assert all(SPACE.canonical(arch) == key for key, arch in where.cheapest.items())
    monkeypatch.setattr("diffnag.search_loop.domain.PATIENCE_S", 0.0)
    assert Domain(SPACE, Goal(TASK, (label(), Convolutions()))).cheapest == {}, "where objectives take too long the space counts as larger"
    monkeypatch.setattr("diffnag.search_loop.domain.LARGEST", 15_624)
    assert Domain(SPACE, Goal(TASK, (label(), Convolutions()))).cheapest == {}


@pytest.mark.parametrize("storage", ["sqlite:///{}/study.db", "journal:{}/study.log"])
def test_the_study_is_an_ordinary_one_of_several_directions_and_goes_on(storage: str, tmp_path: Path) -> None:
    place, options = storage.format(tmp_path), asked(minimise=(path_of(Watts),), method="tpe")
    with pytest.raises(KeyboardInterrupt):
        run_search(options, oracle=KilledOracle(7), storage=place)
    resumed, unbroken = run_search(options, oracle=ToyOracle(), storage=place), run_search(options, oracle=ToyOracle())
    assert [(trial.arch, trial.values) for trial in resumed.trials] == [(trial.arch, trial.values) for trial in unbroken.trials]
    journal = optuna.storages.journal.JournalFileBackend(f"{tmp_path}/study.log")
    study = optuna.load_study(study_name="search", storage=place if "sqlite" in place else optuna.storages.JournalStorage(journal))
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert resumed.front
    front = {tuple(trial.values) for trial in study.best_trials}
    assert front == {(member.values["accuracy"], member.values["watts"]) for member in resumed.front.members}
    with pytest.raises(UserError, match=r"was made with objectives \['maximise accuracy', 'minimise watts'\], not \['maximise accuracy'\]"):
        run_search(asked(method="tpe"), oracle=ToyOracle(), storage=place)


def test_early_stopping_compares_with_what_is_at_least_as_cheap() -> None:
    """The front and the whole evaluations are those that a search finds which stops nothing."""
    several = run_search(asked(budget=40, minimise=(path_of(Convolutions),)), oracle=StagedOracle())
    one = run_search(asked(budget=40), oracle=StagedOracle())
    plain = run_search(asked(budget=40, minimise=(path_of(Convolutions),)), oracle=ToyOracle())
    assert several.front and plain.front and any(trial.pruned for trial in several.trials)
    assert sum(trial.pruned for trial in several.trials) < sum(trial.pruned for trial in one.trials)
    for trial in several.trials:
        if trial.pruned:
            cheaper = [other for other in several.trials[: trial.number] if other.values["convolutions"] <= trial.values["convolutions"]]
            assert sum((other.value or 0.0) > value(trial.arch) for other in cheaper if not other.pruned) >= 1, "something dominates it"
    assert [member.number for member in several.front.members] == [member.number for member in plain.front.members]


def test_what_is_measured_is_learned_and_what_is_not_is_predicted() -> None:
    Here.learned.clear()
    result = run_search(asked(method="gp-enumerate", budget=14, minimise=(path_of(Here),)), oracle=ToyOracle())
    assert Here.learned[0] == 10 and Here.learned == sorted(Here.learned) and result.measurements == {"here": 14}
    assert result.front and all(member.values["here"] == sum(SPACE.from_str(member.arch).ops) + 0.5 for member in result.front.members)
    predicted = run_search(asked(minimise=(path_of(Elsewhere),), limit=(f"{path_of(Elsewhere)}<=30",)), oracle=ToyOracle())
    assert predicted.front and [one.measured for one in predicted.objectives] == [True, False] and predicted.measurements == {}
    for member in predicted.front.members:
        assert member.values["elsewhere"] == sum(SPACE.from_str(member.arch).ops) <= 30 and member.predicted_std == {"elsewhere": 2.0}


def test_a_limit_that_nothing_is_predicted_to_meet_is_refused_before_any_label() -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match=r"no architecture of nasbench201 meets elsewhere<=3 W \(the least is 13 W\) on cifar10"):
        run_search(asked(limit=(f"{path_of(Elsewhere)}<=3",)), oracle=oracle)
    assert oracle.asked == []


def test_labels_of_which_less_is_better() -> None:
    """The same search for the label's negative finds the same architectures."""

    class Loss(ToyOracle):
        def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
            return -super().query(arch, dataset=dataset, split=split)

    class Losses(NASBench201):
        measures: ClassVar[dict[str, str]] = {"cifar10": "loss"}
        minimised = frozenset({"loss"})

    import tests.test_fronts as module

    module.Losses = Losses  # type: ignore[attr-defined]
    plain = run_search(asked(method="evolution", budget=25), oracle=ToyOracle())
    less = run_search(asked(method="evolution", budget=25, space=f"{__name__}:Losses"), oracle=Loss())
    assert [trial.arch for trial in less.trials] == [trial.arch for trial in plain.trials]
    assert less.best and plain.best and less.best.value == -plain.best.value and less.best.arch == plain.best.arch
    assert less.incumbent_curve == tuple(-value for value in plain.incumbent_curve if value is not None)
    assert expected_values(less.trials) == expected_values(plain.trials)


def test_the_files_of_a_front(tmp_path: Path) -> None:
    with Search(asked(minimise=(path_of(Convolutions), path_of(Elsewhere))), oracle=ToyOracle()) as search:
        result = search.run()
    write_result(tmp_path, result, SPACE)
    assert result.front
    rows = list(csv.DictReader((tmp_path / "front.csv").read_text().splitlines()))
    assert list(rows[0]) == ["number", "arch", "accuracy", "convolutions", "elsewhere", "elsewhere std", "test"]
    assert [(int(row["number"]), row["arch"], float(row["convolutions"])) for row in rows] == [
        (member.number, member.arch, member.values["convolutions"]) for member in result.front.members
    ]
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["front"]["hypervolume"] == result.front.hypervolume_curve[-1] and len(found["front"]["members"]) == len(rows)
    assert found["front"]["hypervolume_curve"] == sorted(found["front"]["hypervolume_curve"])
    trials = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert [float(row["convolutions"]) for row in trials] == [trial.arch.ops.count(5) for trial in result.trials]
    assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimise": ("accuracy",)}, "accuracy is the label of the task, and always an objective; leave it out"),
        ({"maximise": ("params",)}, "less of objective 'params' is better: use --minimise params"),
        ({"minimise": ("params", "params")}, "objective 'params' is named twice; name it once"),
        ({"minimise": ("params",), "method": "evolution"}, "method 'evolution' optimises the label alone"),
        ({"minimise": ("params",), "method": "gp-enumerate", "acquisition": "ei"}, "acquisition for several objectives 'ei'; there are: ehvi"),
        ({"method": "gp-enumerate", "acquisition": "ehvi"}, "acquisition 'ehvi' is for several objectives; .* use one of ei, ucb, pi, ts"),
        ({"confidence": 1.5}, "confidence is 1.5; accepted is a finite number from 0 to 1"),
        ({"minimise": ("speed",)}, "unknown objective 'speed'"),
    ],
)
def test_goals_that_are_refused(changes: dict[str, object], message: str) -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match=message):
        run_search(asked(**changes), oracle=oracle)
    assert oracle.asked == []
