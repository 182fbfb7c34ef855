"""The limit benchmark: limits and optima of the table, simulated devices, one search, and rows in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor
from diffnag.io.property_tables import locate_properties
from diffnag.objectives.goal import Goal, Limit
from diffnag.plugins import make
from diffnag.protocols import NeedsNetwork, Predicts
from diffnag.search_loop.model import Model
from diffnag.search_loop.outlook import Outlook
from diffnag.search_loop.trial import Trial
from diffnag.search_spaces.nasbench201.space import NASBench201
from experiments.device_transfer import FAMILIES
from experiments.fronts import limit_results, limits, simulated
from experiments.fronts.limits import BENCHMARKS, METHODS
from experiments.fronts.search import DEVICES
from experiments.shared.arena_results import Entry
from tests.search_fakes import Prior, value

SPACE, TASK = NASBench201(), Task("cifar100")


@pytest.fixture
def tables(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFNAG_DATA", str(data_folder))
    if locate_properties(SPACE, "latency") is None:
        pytest.skip("the table of latencies was not found in $DIFFNAG_DATA")


def device(name: str) -> Any:
    made = make("objective", f"experiments.fronts.simulated:{name}", ("measure",))
    made.setup(space=SPACE, task=TASK, skeleton=None)
    return made


def entry(benchmark: str, *runs: dict[str, Any], method: str = "diffnag, gp") -> Entry:
    identity = {"benchmark": benchmark, "protocol": "T", "budget": 10, "limit_ms": 2.0, "optimum": 9.0}
    rest = {"places": 10, "labels": 10, "missed": 0, "violations": 0, "hit": None, "seconds": 1.0, "made_by": {"commit": "0" * 40}}
    return Entry(method, identity, {seed: {**rest, **run} for seed, run in enumerate(runs)})


# -- limits and devices


def test_every_device_has_every_limit_twice() -> None:
    assert len(BENCHMARKS) == 2 * len(DEVICES) * 3 and set(DEVICES) <= {one for family in FAMILIES.values() for one in family}
    assert [name for name in METHODS if limits.possible(name, "pixel3/50/predicted")] == list(limits.OURS)


@pytest.mark.parametrize(("benchmark", "value"), [("pixel3/50", 71.22), ("gold_6240/90", 72.7467), ("1080ti_32/90", 73.0)])
def test_the_limit_is_met_by_the_share_and_the_optimum_is_the_best_of_them(benchmark: str, value: float, tables: None) -> None:
    about, best = BENCHMARKS[benchmark], limits.optimum(benchmark)
    ms = np.array(list(simulated.exact_latencies(about.device).values()))
    assert (ms <= best.limit).mean() == pytest.approx(about.share / 100, abs=1e-4) and best.value == value
    assert best.copies == {"pixel3/50": 2, "gold_6240/90": 2, "1080ti_32/90": 1}[benchmark]
    assert best == limits.optimum(f"{benchmark}/predicted")


def test_a_simulated_device_has_seen_nothing_of_its_family(tables: None) -> None:
    made = device("titanx_32@3")
    assert isinstance(made, Predicts) and isinstance(made, NeedsNetwork) and made.paid and made.measurable
    _, prior = simulated._without_family("titanx_32")
    assert simulated._without_family("1080ti_32")[1].mean.tolist() == prior.mean.tolist() != simulated._without_family("pixel3")[1].mean.tolist()
    assert len(made.known) == 10 and device("titanx_32@4").known.keys() != made.known.keys()
    archs = list(SPACE.enumerate())[::40]
    exact = np.array([made.measure(arch, task=TASK) for arch in archs])
    mean, std = made.predict(archs)
    assert np.median(np.abs(mean - exact) / exact) < 0.1 and (std > 0).all()
    made.learn(archs, exact)
    learned, surer = made.predict(archs)
    assert np.abs(learned - exact).mean() < np.abs(mean - exact).mean() and surer.mean() < std.mean()
    made.learn([], [])  # all that was learned is replaced, but not the ten cells
    assert made.predict(archs)[0] == pytest.approx(mean)


@pytest.mark.parametrize("name", ["pixel3", "pixel3@", "pixel9@0", "pixel3@-1"])
def test_another_device_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="has no class"):
        make("objective", f"experiments.fronts.simulated:{name}", ("measure",))


# -- how likely a limit must be met


@dataclass
class Guessed:
    """An objective whose values are guessed: the share of the all-3x3 cell's operators that an architecture has, with deviation 1."""

    measurable: bool
    name: str = "guessed"
    maximise: bool = False
    unit, paid = "", True

    def measure(self, arch: Arch, *, task: Task) -> float:
        return 0.0

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([sum(op == 5 for op in arch.ops[1:-1]) / 6 for arch in archs]), np.ones(len(archs))

    def learn(self, archs: Sequence[Arch], values: Sequence[float] | np.ndarray) -> None:
        pass


@pytest.mark.parametrize(
    ("measurable", "confidence", "high", "first"),
    [(True, None, 1.1, "best"), (False, None, 1.1, "safe"), (True, 0.9, 1.1, "safe"), (False, 0.5, 1.1, "best"), (True, None, 0.9, "best")],
)
def test_a_measured_limit_may_be_missed_more_easily(measurable: bool, confidence: float | None, high: float, first: str) -> None:
    """The best architecture is guessed at 1.0 with deviation 1: 1.1 is met with a probability of 0.54, 0.9 with 0.46. The safe one is no gain."""
    archs = {"safe": SPACE.of_operations((1, 1, 1, 1, 1, 1)), "best": SPACE.of_operations((3,) * 6)}
    guessed = Guessed(measurable)
    goal = Goal(TASK, (Guessed(True, "label", True),), (Limit("guessed", high=high),), (guessed,))
    assert goal.measures_limits_first is measurable
    model = Model(Outlook(SPACE, goal, CheckedPredictor("prior", Prior())), "ucb", confidence)
    known = SPACE.of_operations((1, 1, 1, 1, 1, 3))
    history = [Trial(0, 0, known, value(known), None, None, None, 0.0, values={"label": value(known), "guessed": 0.0})]
    order = model.order(list(archs.values()), history, np.random.default_rng(0))
    assert list(archs)[order[0]] == first


# -- one search


def test_a_search_keeps_to_the_limit(tables: None) -> None:
    run = limits.run(METHODS["random"], "pixel3/70", 40, 1)
    numbers, values = map(np.array, zip(*run["steps"], strict=True))
    assert (np.diff(numbers) > 0).all() and (np.diff(values) > 0).all() and values[-1] <= limits.optimum("pixel3/70").value
    assert (run["places"], run["labels"], run["missed"], run["violations"]) == (40, 40, 0, 0)
    assert {**limits.run(METHODS["random"], "pixel3/70", 40, 1), "seconds": 0} == {**run, "seconds": 0}


def test_with_predicted_latencies_missed_limits_cost_places_and_nothing_reported_is_beyond(tables: None) -> None:
    run = limits.run(METHODS["random"], "samsung_s7/50/predicted", 30, 0)  # random search makes no use of predictions
    assert run["missed"] > 5 and run["labels"] + run["missed"] == run["places"] == 30 and run["violations"] == 0
    run = limits.run(METHODS["diffnag, gp"], "samsung_s7/50/predicted", 12, 0)
    assert run["missed"] < 6 and run["violations"] == 0


def test_the_search_ends_at_the_optimum(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "optimum", lambda benchmark: limits.Optimum(11.0, 60.0, ""))
    run = limits.run(METHODS["random"], "pixel3/50", 40, 0)
    assert run["steps"][-1][0] == run["places"] < 40 and run["steps"][-1][1] >= 60


# -- rows


def test_rows_pool_the_searches_of_all_limits() -> None:
    entries = [
        entry("pixel3/50", {"steps": [[1, 5.0], [3, 9.0]], "hit": 3, "places": 3}, {"steps": [[2, 8.0]], "hit": 2}),
        entry("pixel3/70", {"steps": [[5, 9.0]], "hit": 5, "places": 5}),
        entry("pixel3/50/predicted", {"steps": [[4, 8.5]], "missed": 4}, {"steps": [[4, 8.0]], "missed": 1, "violations": 1}),
    ]
    report = limit_results.report(entries, {one.place[0]: 2 if "50" in one.place[0] else 1 for one in entries})
    assert (report["optima"], report["crowded"], report["share_by_chance"]) == (2, 1, 0.75)
    (exact,) = report["exact"]
    assert (exact["limits"], exact["searches"], exact["median_to_value"], exact["found_value"]) == (2, 3, 5, 0.667)
    assert (exact["median_to_class"], exact["found_class"], exact["mean_gap"], exact["missed"]) == (3, 1.0, 0.3333, 0)
    (predicted,) = report["predicted"]
    assert (predicted["missed"], predicted["violations"], predicted["pairs"], predicted["loss"]) == (0.25, 1, 2, 0.25)
    assert predicted["median_to_class"] is None and [row["benchmark"] for row in report["rows"]] == [one.place[0] for one in entries]
