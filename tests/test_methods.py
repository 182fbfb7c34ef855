"""Search methods: what they propose and why, on closed forms and spaces that can be counted, and their contract."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from diffnag import load_space
from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor, load_predictor
from diffnag.predictors import path_ensemble, path_features
from diffnag.predictors.path_features import PathFeatures
from diffnag.protocols import Method, SearchSpace
from diffnag.search_loop.acquisition import rank
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.loop import run_search
from diffnag.search_loop.methods import bananas, tpe
from diffnag.search_loop.methods.bananas import Bananas, Mutations
from diffnag.search_loop.methods.base import Setting, batch_of
from diffnag.search_loop.methods.evolution import Evolution
from diffnag.search_loop.methods.gp_enumerate import Enumerated, GPEnumerate
from diffnag.search_loop.methods.guided import Diffnag
from diffnag.search_loop.methods.local_search import LocalSearch
from diffnag.search_loop.methods.model_based import ModelBased
from diffnag.search_loop.methods.nsga2 import NSGA2
from diffnag.search_loop.methods.parego import ParEGO
from diffnag.search_loop.methods.random_search import Random
from diffnag.search_loop.methods.tpe import TPE
from diffnag.search_loop.options import SearchOptions
from diffnag.search_loop.trial import Batch, Known, Proposal, Trial
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import MethodContract
from tests.search_fakes import FlakyStagedOracle, KilledOracle, Nearest, Prior, RandomGenerator, ToyOracle, domain, model_of, value

SPACE = NASBench201()
EVERYWHERE = domain(SPACE)
SMALL = 90_000
"""Parameters on CIFAR-10 that leave a domain of a few classes."""


def made(cls: type[Method], where: Domain, seed: int) -> Method:
    """A method with its defaults."""
    options = SearchOptions(dataset="cifar10", method=NAMES[cls], seed=seed).resolved()
    load = partial(load_predictor, space=where.space, dataset="cifar10", seed=seed)
    return cls.of(Setting(where, seed, options, load, lambda: RandomGenerator(where.space)))  # type: ignore[arg-type, return-value]


NAMES: dict[type[Method], str] = {Bananas: "bananas", TPE: "tpe", GPEnumerate: "gp-enumerate", NSGA2: "nsga2", ParEGO: "parego"}
MAKERS: dict[str, Callable[[Domain, int], Method]] = {name: partial(made, cls) for cls, name in NAMES.items()}


@pytest.fixture(scope="module")
def archs() -> list[Arch]:
    return list(SPACE.enumerate())


def paid_for(archs: list[Arch]) -> tuple[Trial, ...]:
    return tuple(Trial(i, 0, arch, value(arch), None, None, None, 0.0) for i, arch in enumerate(archs))


def drawn(count: int, *, seed: int = 0) -> tuple[Trial, ...]:
    return paid_for(list(itertools.islice(EVERYWHERE.random(np.random.default_rng(seed), set()), count)))


def keys(archs: list[Arch]) -> list[str]:
    return [SPACE.canonical(arch) for arch in archs]


@pytest.mark.parametrize("name", MAKERS)
def test_a_proposal_is_a_function_of_the_history(name: str) -> None:
    history = Known(drawn(30))
    used = MAKERS[name](EVERYWHERE, 5)
    used.propose(Known(history.history[:20]), 2)
    assert used.propose(history, 2) == MAKERS[name](EVERYWHERE, 5).propose(history, 2)
    if name not in ("gp-enumerate", "parego"):  # whose seeds tell copies apart, and may lead to the same choice
        assert used.propose(history, 2) != MAKERS[name](EVERYWHERE, 6).propose(history, 2)


@pytest.mark.parametrize("name", MAKERS)
def test_begins_with_random_draws_also_where_all_is_pending_or_has_failed(name: str) -> None:
    method = MAKERS[name](EVERYWHERE, 0)
    trials = drawn(12)
    first, then = (30, 30) if name == "nsga2" else (10, 3)  # it has no model to wait for
    assert len(method.propose(Known(), 30).proposals) == first
    assert len(method.propose(Known(trials[:7]), 30).proposals) == then
    failed = tuple(Trial(t.number, 0, t.arch, None, "broke", None, None, 0.0) for t in trials)
    for batch in (method.propose(Known(pending=tuple(t.arch for t in trials)), 2), method.propose(Known(failed), 2)):
        assert batch.proposals and not set(keys([p.arch for p in batch.proposals])) & set(keys([t.arch for t in trials]))


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_paid_for_or_pending_is_not_proposed_and_all_is_in_the_end(
    name: str, archs: list[Arch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_ensemble, "STEPS", 5)
    monkeypatch.setattr(tpe, "ASKS", 20)
    where = domain(SPACE, f"params<={SMALL}")
    allowed = set(keys([arch for arch in archs if where.allows(arch)]))
    assert 20 < len(allowed) < 80
    method, history, pending = MAKERS[name](where, 0), (), []
    while proposals := method.propose(Known(history, tuple(pending)), 12).proposals:
        assert len(proposals) <= 12
        history = paid_for([*(trial.arch for trial in history), *pending])
        pending = [proposal.arch for proposal in proposals]
        everything = keys([*(trial.arch for trial in history), *pending])
        assert len(everything) == len(set(everything)) and set(everything) <= allowed
    assert set(everything) == allowed


@pytest.mark.parametrize("name", MAKERS)
def test_better_than_random_draws(name: str) -> None:
    """A generation of `nsga2` has 20 individuals, so that it takes more labels until it is better."""
    budget = 120 if name == "nsga2" else 40

    def mean_best(method: str) -> float:
        asked = [SearchOptions(dataset="cifar10", method=method, budget=budget, batch=15, seed=seed) for seed in range(2)]
        return float(np.mean([run_search(options, oracle=ToyOracle()).incumbent_curve[-1] for options in asked]))

    assert mean_best(name) > mean_best("random") + 5


@pytest.mark.parametrize("name", MAKERS)
def test_evaluations_that_fail_or_are_stopped(name: str) -> None:
    result = run_search(SearchOptions(dataset="cifar10", method=name, budget=30, batch=3), oracle=FlakyStagedOracle())
    assert {trial.state for trial in result.trials} == {"done", "pruned", "failed"} and len(result.trials) == 30


@pytest.mark.parametrize("name", MAKERS)
def test_a_killed_search_goes_on_as_the_unbroken_one(name: str, tmp_path: Path) -> None:
    options, storage = SearchOptions(dataset="cifar10", method=name, budget=18, batch=4), f"journal:{tmp_path / 'study.log'}"
    with pytest.raises(KeyboardInterrupt):
        run_search(options, oracle=KilledOracle(15), storage=storage)
    resumed, unbroken = run_search(options, oracle=ToyOracle(), storage=storage), run_search(options, oracle=ToyOracle())
    assert [trial.arch for trial in resumed.trials] == [trial.arch for trial in unbroken.trials]


# -- with a model


def test_enumerated_takes_the_largest_acquisition_value_of_the_whole_space(archs: list[Arch]) -> None:
    history = drawn(25)
    method = ModelBased(EVERYWHERE, 3, model_of(CheckedPredictor("nearest", Nearest()), "ei"), Enumerated(EVERYWHERE, 3))
    (chosen,) = method.propose(Known(history), 1).proposals
    model = Nearest()
    model.fit([trial.arch for trial in history], np.array([trial.value for trial in history]))
    left = [arch for arch, key in zip(archs, keys(archs), strict=True) if key not in set(keys([trial.arch for trial in history]))]
    mean, std = model.predict(left)
    best = max(trial.value or 0.0 for trial in history)
    top = rank("ei", mean, std, best=best, rng=np.random.default_rng(0))[0]
    assert (chosen.predicted_mean, chosen.predicted_std) == (mean[top], std[top])


def test_a_model_that_knows_leads_to_the_optimum() -> None:
    method = ModelBased(EVERYWHERE, 0, model_of(CheckedPredictor("prior", Prior()), "ei"), Enumerated(EVERYWHERE, 0))
    (chosen,) = method.propose(Known(drawn(10)), 1).proposals
    assert chosen.arch == SPACE.of_operations((3,) * 6)


def test_enumerated_has_one_of_each_class_and_the_seed_tells_which() -> None:
    pools = [Enumerated(EVERYWHERE, seed)(Known(), set(), np.random.default_rng(0)) for seed in (0, 1)]
    assert [len(pool) for pool in pools] == [4930, 4930] and set(keys(pools[0])) == set(keys(pools[1]))
    assert set(pools[0]) != set(pools[1])


@pytest.mark.parametrize("space", ["nasbench101", "darts", "mobilenetv3"])
def test_spaces_too_large_to_enumerate_are_refused(space: str) -> None:
    dataset = "cifar10" if space != "mobilenetv3" else "imagenet"
    with pytest.raises(UserError, match=rf"'gp-enumerate' scores every architecture .* {space} has more than 20,000; use --method"):
        MAKERS["gp-enumerate"](domain(load_space(space), dataset=dataset), 0)


def test_mutations_are_neighbours_of_the_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    history = drawn(10)
    best, second = sorted(history, key=lambda trial: -(trial.value or 0.0))[:2]
    seen = set(keys([trial.arch for trial in history]))
    monkeypatch.setattr(bananas, "MUTATIONS", 30)
    pool = Mutations(EVERYWHERE)(Known(history), set(seen), np.random.default_rng(0))
    near = set(keys(SPACE.neighbours(best.arch))) - seen
    assert len(pool) == 30 and set(keys(pool)) >= near
    assert set(keys(pool)) - near <= set(keys(SPACE.neighbours(second.arch)))


def test_mutations_go_on_with_random_draws() -> None:
    where = domain(SPACE, f"params<={SMALL}")
    (start,) = itertools.islice(where.random(np.random.default_rng(0), set()), 1)
    pool = Mutations(where)(Known(paid_for([start])), {SPACE.canonical(start)}, np.random.default_rng(0))
    assert set(keys(pool)) > {key for arch, key in zip(SPACE.neighbours(start), keys(SPACE.neighbours(start)), strict=True)
                              if where.allows(arch)} - {SPACE.canonical(start)}  # fmt: skip


def test_path_ensemble_tells_what_it_has_seen_from_what_it_has_not(archs: list[Arch]) -> None:
    order = np.random.default_rng(0).permutation(len(archs))[:600]
    predictor = load_predictor("path-ensemble", space=SPACE, dataset="cifar10", seed=0)
    seen, rest = ([archs[i] for i in part] for part in (order[:60], order[60:]))
    predictor.fit(seen, np.array([value(arch) for arch in seen]))
    assert predictor.predict(seen)[1].mean() < predictor.predict(rest)[1].mean()


def test_features_are_the_same_from_memory(archs: list[Arch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_features, "REMEMBERED", 50)
    features = PathFeatures(SPACE)
    features(archs[:30])
    for asked in (archs[10:40], [archs[7], archs[7], archs[3]], archs[100:190], []):
        for found, alone in zip(features(asked), PathFeatures(SPACE)(asked), strict=True):
            np.testing.assert_allclose(found, alone, rtol=0, atol=1e-12)


# -- tpe


def test_tpe_learns_which_choice_is_good() -> None:
    """Trials are good if their first connection is a 3x3 convolution, and the next suggestions have one."""
    trials = drawn(40)
    good = [Trial(t.number, 0, t.arch, float(t.arch.ops[1] == 5), None, None, None, 0.0) for t in trials]
    proposed = [TPE(EVERYWHERE, seed).propose(Known(tuple(good)), 1).proposals[0].arch for seed in range(20)]
    assert SPACE.names(proposed[0])[0] in SPACE.operation_names
    assert np.mean([arch.ops[1] == 5 for arch in proposed]) > 0.6  # a fifth of random draws


def test_tpe_where_most_choices_make_no_architecture() -> None:
    space = load_space("transnasbench101-macro")
    where, history = domain(space, dataset="jigsaw"), ()
    for _ in range(15):
        batch = TPE(where, 0).propose(Known(history), 2)
        archs = [*(trial.arch for trial in history), *(proposal.arch for proposal in batch.proposals)]
        history = tuple(Trial(i, 0, arch, float(len(space.modules(arch))), None, None, None, 0.0) for i, arch in enumerate(archs))
    assert len({space.canonical(trial.arch) for trial in history}) == len(history) == 30


def test_tpe_asks_no_longer_than_it_makes_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, parameters: object) -> Arch:
        raise UserError("these choices make none")

    monkeypatch.setattr(NASBench201, "from_parameters", refuse)
    monkeypatch.setattr(tpe, "ASKS", 5)
    assert len(TPE(EVERYWHERE, 0).propose(Known(drawn(12)), 2).proposals) == 2


# -- the contract


@pytest.mark.parametrize("method_class", [Random, Evolution, LocalSearch, Bananas, TPE, GPEnumerate, NSGA2, ParEGO], ids=lambda cls: cls.__name__)
class TestContract(MethodContract):
    def predictor(self, name: str, space: SearchSpace, seed: int) -> CheckedPredictor:
        return CheckedPredictor(name, Nearest())


class TestDiffnagContract(MethodContract):
    options: Mapping[str, Any] = {"predictor": "nearest", "candidates": 32}

    @pytest.fixture
    def method_class(self) -> type[Method]:
        return Diffnag

    def predictor(self, name: str, space: SearchSpace, seed: int) -> CheckedPredictor:
        return CheckedPredictor(name, Nearest())

    def generator(self, space: SearchSpace) -> RandomGenerator:
        return RandomGenerator(space)


@dataclass(frozen=True)
class Stubborn:
    """Proposes the same architecture again and again."""

    domain: Domain
    uses: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, setting: Setting) -> Stubborn:
        return cls(setting.domain)

    def propose(self, known: Known, q: int) -> Batch:
        return Batch((Proposal(SPACE.of_operations((3,) * 6)),))


class Greedy(Stubborn):
    """Proposes more than it was asked for."""

    def propose(self, known: Known, q: int) -> Batch:
        return batch_of(itertools.islice(self.domain.random(np.random.default_rng(0), set()), q + 1))


class Broken(Stubborn):
    def propose(self, known: Known, q: int) -> Batch:
        raise IndexError("off\nby one")


class Unmade(Stubborn):
    @classmethod
    def of(cls, setting: Setting) -> Stubborn:
        raise KeyError("width")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Stubborn", "proposed 1 architectures, 0 of them new and within the limits; accepted are at most 1, all of them so"),
        ("Greedy", "proposed 2 architectures, 2 of them new and within the limits; accepted are at most 1"),
        ("Broken", "method 'tests.test_methods:Broken': propose raised IndexError: off$"),
        ("Unmade", "method 'tests.test_methods:Unmade': of raised KeyError: 'width'"),
        ("SPACE", "tests.test_methods has no class 'SPACE'"),
        ("Domain", "method 'tests.test_methods:Domain' lacks uses, defaults, of, propose; every method must offer"),
    ],
)
def test_methods_that_break_the_contract_are_named(name: str, message: str) -> None:
    oracle = ToyOracle()
    with pytest.raises(UserError, match=message):
        run_search(SearchOptions(dataset="cifar10", method=f"tests.test_methods:{name}", budget=3), oracle=oracle)
    assert len(oracle.asked) == (name == "Stubborn")


# -- options


def test_only_gp_enumerate_takes_an_acquisition_function() -> None:
    def options(**changes: Any) -> SearchOptions:
        return SearchOptions(**{"dataset": "cifar10", "budget": 12, "batch": 1, **changes}).resolved()

    assert options(method="gp-enumerate", acquisition="ucb").acquisition == "ucb"
    for method in ("bananas", "tpe"):
        with pytest.raises(UserError, match=f"method '{method}' makes no use of --acquisition; leave it out"):
            options(method=method, acquisition="ei")
    with pytest.raises(UserError, match="unknown acquisition 'x'; there are: ei"):
        options(method="gp-enumerate", acquisition="x")
    with pytest.raises(UserError, match="method 'gp-enumerate' makes no use of --predictor"):
        options(method="gp-enumerate", predictor="gp")
