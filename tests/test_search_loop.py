"""The search loop: accounting, resuming, every method, on an oracle in closed form."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffnag.arch import Arch
from diffnag.errors import PredictorError, UserError
from diffnag.generators.base import Steer
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.tilt import Tilt
from diffnag.search_loop.loop import Search
from diffnag.search_loop.methods.guided import Diffnag
from diffnag.search_loop.methods.local_search import LocalSearch
from diffnag.search_loop.result import SearchResult
from diffnag.search_loop.trial import Known, Trial, expected_values
from diffnag.search_spaces.nasbench201.space import NASBench201
from tests.search_fakes import (
    BreaksLater,
    FlakyOracle,
    FlakyStagedOracle,
    Made,
    Nearest,
    Prior,
    RandomGenerator,
    StagedOracle,
    ToyOracle,
    domain,
    model_of,
    value,
)
from tests.toy_search import METHODS, options, outcome, search

BEST = NASBench201().of_operations((3,) * 6)
"""All 3x3: the one maximum of the toy oracle."""


# -- accounting, the same for every method


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_the_oracles_queries(method: str, space: NASBench201) -> None:
    oracle = ToyOracle()
    result = search(options(method), oracle=oracle)
    assert result.labels_target == len(result.trials) == 17
    assert [split for _, split in oracle.asked] == ["val"] * 17 + ["test"]  # the test value of the best, once
    assert [trial.arch for trial in result.trials] == [arch for arch, _ in oracle.asked[:17]]
    assert [trial.value for trial in result.trials] == [value(trial.arch) for trial in result.trials]
    assert len({space.canonical(trial.arch) for trial in result.trials}) == 17
    assert result.incumbent_curve == tuple(itertools.accumulate((value(trial.arch) for trial in result.trials), max))
    assert result.best and result.best.value == result.incumbent_curve[-1] and result.best.test == result.best.value - 1
    assert value(space.from_str(result.best.arch)) == result.best.value


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_search(method: str) -> None:
    assert outcome(search(options(method))) == outcome(search(options(method)))
    assert outcome(search(options(method))) != outcome(search(options(method, seed=1)))


@pytest.mark.parametrize("method", METHODS)
def test_failed_evaluations_are_labels_and_the_search_goes_on(method: str) -> None:
    result = search(options(method), oracle=FlakyOracle())
    errors = [trial.error for trial in result.trials]
    assert [trial.value is None for trial in result.trials] == [(i % 3 == 0 or i % 5 == 0) for i in range(1, 18)]
    assert errors[2] == "RuntimeError: out of memory" and errors[4] == "the oracle returned nan"
    assert result.labels_target == 17 and result.best is not None


def test_every_evaluation_fails() -> None:
    class Broken(ToyOracle):
        def query(self, arch: Any, *, dataset: str, split: str, epochs: int | None = None) -> float:
            raise OSError("no disk")

    result = search(options("evolution"), oracle=Broken())
    assert result.best is None and result.incumbent_curve == (None,) * 17


def test_reward_test_asks_for_nothing_more() -> None:
    oracle = ToyOracle()
    result = search(options(reward="test"), oracle=oracle)
    assert [split for _, split in oracle.asked] == ["test"] * 17
    assert result.best and result.best.test == result.best.value


def test_no_test_split_no_test_value() -> None:
    result = search(options(dataset="no-test"))
    assert result.best and result.best.test is None


def test_result_is_json() -> None:
    found = search(options("diffnag")).to_json()
    assert {"space", "dataset", "oracle", "reward", "best", "incumbent_curve", "labels_target", "labels_source"} <= found.keys()
    assert found["oracle"] == {"kind": "toy", "version": "1"} and found["best"].keys() == {"arch", "predicted", "value", "test", "values"}
    assert "trials" not in found


# -- methods


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["evolution", "local-search", "diffnag"])
def test_beats_random_draws(method: str) -> None:
    def mean_best(name: str) -> float:
        return float(np.mean([search(options(name, budget=60, seed=seed)).incumbent_curve[-1] for seed in range(5)]))

    assert mean_best(method) > mean_best("random")


def test_local_search_moves_on_at_the_first_improvement(space: NASBench201) -> None:
    method = LocalSearch(domain(space), seed=3)
    history: tuple[Trial, ...] = ()
    while not history or history[-1].arch != BEST:
        (proposal,) = method.propose(Known(history), 1).proposals
        best = max(history, key=lambda trial: trial.value or 0.0, default=None)
        if best is not None:
            assert proposal.arch in space.neighbours(best.arch)
        history += (Trial(len(history), 0, proposal.arch, value(proposal.arch), None, None, None, 0.0),)
    assert len(history) < 100


def test_local_search_proposes_more_of_the_same_neighbourhood(space: NASBench201) -> None:
    method = LocalSearch(domain(space), seed=3)
    (start,) = method.propose(Known(), 5).proposals
    history = (Trial(0, 0, start.arch, value(start.arch), None, None, None, 0.0),)
    first = tuple(proposal.arch for proposal in method.propose(Known(history), 5).proposals)
    then = tuple(proposal.arch for proposal in method.propose(Known(history, first), 5).proposals)
    assert len({space.canonical(arch) for arch in [start.arch, *first, *then]}) == 11
    assert set(first + then) <= set(space.neighbours(start.arch))


def test_local_search_starts_anew_at_the_optimum(space: NASBench201) -> None:
    result = search(options("local-search", budget=200))
    at = result.trials.index(next(trial for trial in result.trials if trial.arch == BEST))
    assert at < 150  # at most 6 moves of 24 lead there
    around = {space.canonical(arch) for arch in [BEST, *space.neighbours(BEST)]}
    assert any(space.canonical(trial.arch) not in around for trial in result.trials[at + 25 :])


def test_evolution_children_are_neighbours_of_the_population(space: NASBench201) -> None:
    trials = search(options("evolution", budget=30)).trials
    for i in range(10, 30, 5):
        parents = [trial.arch for trial in trials[i - 10 : i]]
        for child in trials[i : i + 5]:
            assert any(child.arch in space.neighbours(parent) for parent in parents)


def test_diffnag_first_round_is_unguided_where_the_predictor_knows_nothing() -> None:
    result = search(options("diffnag"))
    assert [trial.predicted_mean is None for trial in result.trials] == [True] * 5 + [False] * 12
    assert result.guidance == "particles" and result.labels_source == {}
    # of rounds of 5, 5, 5 and 2 the third takes up what was generated for the second; three have two refinements
    assert (result.nfe, result.predictor_nfe) == (3 * 20 + 3 * 2 * 6, 2 * 10)


def test_what_is_generated_is_to_be_within_the_limits_and_not_paid_for(space: NASBench201) -> None:
    """The candidates of the first generation are checked during the second, when five of them are evaluated."""
    limits, asked = {"max_params": 600_000}, []

    class Listens(RandomGenerator):
        def sample(self, n: int, *, seed: int, steer: Steer = Steer(), sampling: object = None) -> Made:  # noqa: B008 - frozen
            asked.append([steer.wanted(arch) for arch in first])
            made = super().sample(n, seed=seed, steer=steer, sampling=sampling)
            first[:] = first or made.archs
            return made

    first: list[Arch] = []
    paid = {space.canonical(trial.arch) for trial in search(options("diffnag", **limits), generator=Listens(space)).trials[:5]}
    within = [domain(space, "params<=600k").allows(arch) for arch in first]
    assert asked[1] == [allowed and space.canonical(arch) not in paid for arch, allowed in zip(first, within, strict=True)]
    assert sum(within) - sum(asked[1]) >= 5 and not all(within)


def test_diffnag_with_a_prior_is_guided_from_the_start_and_ranks_by_its_mean(space: NASBench201) -> None:
    result = search(options("diffnag", budget=5, candidates=256), predictor=Prior())
    prior = Steer(tilt=Tilt(CheckedPredictor("prior", Prior()), space, 1.0))
    drawn = RandomGenerator(space).sample(256, seed=int(np.random.default_rng([0, 0]).integers(2**63)), steer=prior)
    distinct = {space.canonical(arch): arch for arch in reversed(drawn.archs)}
    values = [trial.value for trial in result.trials]
    assert values == sorted(values, reverse=True)
    drawn_values = sorted(map(value, distinct.values()), reverse=True)
    assert all(mine > theirs for mine, theirs in zip(values, drawn_values, strict=False)), "what is near the best is better"
    assert result.labels_source == {"elsewhere": 7}
    assert all(trial.predicted_mean == trial.value and trial.predicted_std == 0 for trial in result.trials)


def test_a_prior_that_is_good_for_two_labels_is_followed_by_unguided_samples() -> None:
    class Brief(Prior):
        prior_labels = 2

    result = search(options("diffnag", budget=8, batch=1), predictor=Brief())
    assert [trial.predicted_mean is None for trial in result.trials] == [False] * 2 + [True] * 3 + [False] * 3
    values = [trial.value for trial in result.trials]
    assert min(values[:2]) > max(values[2:5])


def test_what_is_pending_is_no_label_that_a_predictor_could_learn_from(space: NASBench201) -> None:
    method = Diffnag(domain(space), 0, RandomGenerator(space), model_of(CheckedPredictor("nearest", Nearest()), "ucb"), 64, 6.0)
    archs = list(itertools.islice(domain(space).random(np.random.default_rng(0), set()), 9))
    history = tuple(Trial(i, i, arch, value(arch), None, None, None, 0.0) for i, arch in enumerate(archs[:5]))
    few, enough = (method.propose(Known(history[:n], tuple(archs[5:])), 1) for n in (4, 5))
    assert few.generated and enough.generated and (few.generated.labels, enough.generated.labels) == (0, 5)
    assert [batch.proposals[0].predicted_mean is None for batch in (few, enough)] == [True, False]


def test_too_few_candidates_are_topped_up_with_a_note(space: NASBench201) -> None:
    rng = np.random.default_rng(0)
    few = list(itertools.islice(domain(space).random(rng, set()), 7))
    generator, notes = RandomGenerator(space, only=few), []
    parts: dict[str, Any] = {"oracle": ToyOracle(), "predictor": CheckedPredictor("nearest", Nearest()), "generator": generator}
    with Search(options("diffnag", budget=10), **parts) as ready:
        result = ready.run(on_note=notes.append)
    assert {trial.arch for trial in result.trials[:5]} <= set(few) and result.labels_target == 10
    assert len(notes) == 1 and "4 generations gave 2 new candidates for 5 places" in notes[0]
    assert generator.calls == 1 + 4


def test_what_is_generated_serves_ten_labels_of_whichever_worker(tmp_path: Path, space: NASBench201) -> None:
    def searched(budget: int, **places: Any) -> tuple[SearchResult, int]:
        generator = RandomGenerator(space)
        return search(options("diffnag", budget=budget, batch=1), generator=generator, **places), generator.calls

    unbroken, calls = searched(14)
    assert calls == 2, "before the first label and before the sixth"
    place = f"journal:{tmp_path}/study.log"
    assert searched(7, storage=place)[1] == 2
    resumed, calls = searched(14, storage=place)
    assert calls == 0 and outcome(resumed) == outcome(unbroken) and resumed.nfe == unbroken.nfe


# -- what may be evaluated


@pytest.mark.parametrize("method", METHODS)
def test_size_limits_hold_for_every_evaluation(method: str, space: NASBench201) -> None:
    result = search(options(method, max_params=300_000, max_flops=60_000_000))
    assert len(result.trials) == 17
    for trial in result.trials:
        size = space.size(trial.arch, num_classes=10, image_size=32)
        assert size.params <= 300_000 and size.flops <= 60_000_000


def test_limits_that_nothing_meets() -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match="no architecture of nasbench201 meets params<=1,000 \\(the least is 73,306\\) on cifar10"):
        search(options(max_params=1000), oracle=oracle)
    assert oracle.asked == []


def test_limits_need_the_shape_of_the_dataset() -> None:
    with pytest.raises(UserError, match="known for cifar10, cifar100, ImageNet16-120, not for 'no-test'"):
        search(options(dataset="no-test", max_flops=10**9))


@pytest.mark.parametrize("method", METHODS)
def test_an_exhausted_space_ends_the_search(method: str, space: NASBench201) -> None:
    smallest = 73_306  # no convolution at all
    left = {space.canonical(arch) for arch in space.enumerate() if space.size(arch, num_classes=10, image_size=32).params == smallest}
    result = search(options(method, max_params=smallest, budget=10_000, batch=50))
    assert {space.canonical(trial.arch) for trial in result.trials} == left
    assert result.labels_target == len(left) < 100


# -- evaluations that are watched


@pytest.mark.parametrize("method", METHODS)
def test_poor_evaluations_are_stopped_and_are_labels_that_are_never_the_best(method: str, space: NASBench201) -> None:
    oracle = StagedOracle()
    result = search(options(method, budget=30), oracle=oracle)
    assert result.labels_target == len(result.trials) == 30
    assert result.epochs_target == oracle.trained == sum(trial.epochs or 0 for trial in result.trials)
    assert all(trial.state == "done" and trial.epochs == 4 for trial in result.trials[:5])
    for i, trial in enumerate(result.trials):
        whole = [value(other.arch) for other in result.trials[:i] if other.state == "done"]
        poor = i >= 5 and value(trial.arch) < np.median(whole)
        assert (trial.state, trial.epochs) == (("pruned", 1) if poor else ("done", 4))
        assert trial.value == (value(trial.arch) / 4 if poor else value(trial.arch))
    assert "pruned" in {trial.state for trial in result.trials}
    best = max((trial for trial in result.trials if trial.state == "done"), key=lambda trial: trial.value or 0.0)
    assert result.best and result.best.value == best.value == result.incumbent_curve[-1]


def test_a_stopped_value_is_no_rival() -> None:
    class Falling(StagedOracle):
        """Values fall with each epoch, so evaluations that are stopped early have the largest."""

        def stages(self, arch: Any, *, dataset: str, split: str) -> Any:
            for epoch, found in super().stages(arch, dataset=dataset, split=split):
                yield epoch, 100 - 20 * epoch + found / 4 / epoch

    result = search(options(budget=20), oracle=Falling())
    pruned = [trial.value or 0.0 for trial in result.trials if trial.state == "pruned"]
    assert result.best and max(pruned) > result.best.value
    assert result.best.value == max(trial.value or 0.0 for trial in result.trials if trial.state == "done")


def test_stopped_evaluations_are_expected_to_gain_what_whole_ones_did() -> None:
    trials = search(options(budget=30), oracle=FlakyStagedOracle()).trials
    gain = np.median([0.75 * value(trial.arch) for trial in trials if trial.state == "done"])
    expected = [trial.value + gain * (trial.state == "pruned") for trial in trials if trial.value is not None]
    assert expected_values(trials) == pytest.approx(expected) and {trial.state for trial in trials} == {"done", "pruned", "failed"}
    alone = [trial for trial in trials if trial.state == "pruned"]
    assert expected_values(alone) == [trial.value for trial in alone]


def test_watched_evaluations_may_fail() -> None:
    result = search(options(), oracle=FlakyStagedOracle())
    states = [trial.state == "failed" for trial in result.trials]
    assert states == [i % 5 == 0 or (i % 3 == 0 and not trial.pruned) for i, trial in enumerate(result.trials, start=1)]
    assert result.trials[2].error == "Diverged: the loss is nan after epoch 2" and result.trials[2].epochs == 1
    assert result.trials[4].error == "the oracle returned nan" and result.labels_target == 17


@pytest.mark.parametrize("storage", ["sqlite:///{}/study.db", "journal:{}/study.log"], ids=["sqlite", "journal"])
@pytest.mark.parametrize("method", ["evolution", "diffnag"])
def test_a_watched_search_that_was_killed_goes_on_as_the_unbroken_one(method: str, storage: str, tmp_path: Path) -> None:
    unbroken, place = search(options(method, budget=24), oracle=StagedOracle()), storage.format(tmp_path)
    for at in (9, 4):  # halfway through an evaluation: what it has reported by then must not count
        with pytest.raises(KeyboardInterrupt):
            search(options(method, budget=24), oracle=StagedOracle(at=at), storage=place)
    assert outcome(search(options(method, budget=24), oracle=StagedOracle(), storage=place)) == outcome(unbroken)


def test_the_time_limit_ends_the_search_and_is_kept_over_a_resume(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    asked, notes = options(budget=200, time_limit=0.5), []
    with Search(asked, oracle=StagedOracle(seconds=0.02), storage=place) as ready:
        result = ready.run(on_note=notes.append)
    assert 1 <= result.labels_target < 200 and result.wall_s < 5
    assert notes == [f"the time is spent after {result.labels_target} of 200 labels"]
    assert all(trial.epochs == 4 or trial.state == "pruned" for trial in result.trials)
    oracle = StagedOracle(seconds=0.02)
    again = search(asked, oracle=oracle, storage=place)
    assert again.trials[: result.labels_target] == result.trials
    assert again.labels_target <= result.labels_target + 5, "time is recorded with each label: less than a round's is lost"
    assert search(dataclasses.replace(asked, time_limit=None, budget=20), oracle=oracle, storage=place).labels_target == 20


def test_one_evaluation_is_made_whole_however_little_time_there_is() -> None:
    result = search(options(time_limit=0.01), oracle=StagedOracle(seconds=0.05))
    assert result.trials[0].state == "done" and result.best is not None and result.labels_target == 1


# -- bad input


def test_a_predictor_that_breaks_is_named_and_no_label_is_lost(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/study.db"
    with pytest.raises(PredictorError, match="BreaksLater"):
        search(options("diffnag"), predictor=BreaksLater(), storage=place)
    oracle = ToyOracle()
    assert search(options("diffnag"), oracle=oracle, storage=place).labels_target == 17
    assert len(oracle.asked) == 17 - 5 + 1  # those of the first round are kept, and the best is tested once


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "annealing"}, "unknown method 'annealing'; there are: bananas, diffnag, evolution, .*, or a dotted path package.module:Class"),
        ({"reward": "train"}, "unknown reward 'train'; there are: val, test"),
        ({"dataset": "svhn"}, "unknown dataset 'svhn'; there are: cifar10, no-test"),
        ({"dataset": "no-test", "reward": "test"}, "unknown split 'test'; there are: val"),
        ({"space": "nowhere"}, "unknown space 'nowhere'; there are: .*nasbench201"),
        ({"budget": 0}, "budget is 0; accepted is a whole number from 1 to 1,000,000"),
        ({"batch": -1}, "batch is -1; accepted is a whole number from 1 to 10,000"),
        ({"time_limit": 0.0}, "time-limit is 0.0; accepted are more than 0 seconds"),
        ({"predictor": "meta", "scale": 2.0}, "method 'random' makes no use of --predictor, --scale"),
        ({"method": "diffnag", "predictor": None}, "method 'diffnag' needs --predictor; there are: .*meta"),
        ({"method": "diffnag", "acquisition": "kg"}, "unknown acquisition 'kg'; there are: ei, ucb, pi, ts"),
    ],
)
def test_bad_options(changes: dict[str, Any], message: str) -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match=message):
        search(options(**{"method": "random", **changes}), oracle=oracle)
    assert oracle.asked == []
