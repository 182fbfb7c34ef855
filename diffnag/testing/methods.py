"""The contract of search methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest

from diffnag.arch import Arch
from diffnag.datasets.tasks import Task
from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor, load_predictor
from diffnag.objectives.goal import Goal
from diffnag.objectives.reading import load_objective, read_limits
from diffnag.protocols import Generator, Method, Objective, SearchSpace
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.trial import Known, Trial


class _Label:
    """The label of the tests."""

    name, unit, maximise, paid = "label", "", True, True

    def measure(self, arch: Arch, *, task: Task) -> float:
        raise NotImplementedError


class MethodContract:
    """What every search method must do. Fixtures: `method_class` and `space`, small enough that a few hundred proposals take seconds.

    `options` are `METHOD_OPTIONS` for it, `dataset` a dataset whose images the space knows, `labels` how many labels the tests make.
    `generator` and `predictor` are what its setting loads; override them to test a method with stand-ins.
    """

    options: Mapping[str, Any] = {}
    dataset = "cifar10"
    labels = 24

    def generator(self, space: SearchSpace) -> Generator:
        """The generator that the method may load."""
        from diffnag.generators.loading import load_generator

        return load_generator(space)

    def predictor(self, name: str, space: SearchSpace, seed: int) -> CheckedPredictor:
        """The predictor that the method may load by its name."""
        return load_predictor(name, space=space, dataset=self.dataset, seed=seed)

    def made(
        self, method_class: type[Method], space: SearchSpace, *, limits: Sequence[str] = (), minimise: Sequence[str] = (), seed: int = 0
    ) -> tuple[Method, Domain]:
        """The method, with the domain that it proposes from."""
        from diffnag.search_loop.methods.base import Setting
        from diffnag.search_loop.options import SearchOptions

        task = Task(self.dataset)

        def load(name: str) -> Objective:
            return load_objective(name, space=space, task=task)

        objectives = (_Label(), *map(load, minimise)) if minimise else ()
        domain = Domain(space, Goal(task, objectives, *read_limits(limits, load)))
        path = f"{method_class.__module__}:{method_class.__qualname__}"
        asked = SearchOptions(dataset=self.dataset, space=space.name, method=path, seed=seed, minimise=tuple(minimise), **self.options)
        options = asked.resolved()
        return method_class.of(
            Setting(domain, seed, options, lambda name: self.predictor(name, space, seed), lambda: self.generator(space))
        ), domain

    def value(self, arch: Arch, space: SearchSpace) -> float:
        """A label: 50 plus how often the first operator that may vary occurs."""
        V, _ = space.encode(arch)
        return 50.0 + float(V[:, ~space.constant[0].all(0)][:, 0].sum())

    def history(self, archs: Sequence[Arch], space: SearchSpace, *, failed: bool = False, domain: Domain | None = None) -> tuple[Trial, ...]:
        """Trials of `archs`, with the values of what costs nothing in the goal of `domain`."""
        error = "it broke" if failed else None
        trials = []
        for i, arch in enumerate(archs):
            value = None if failed else self.value(arch, space)
            free = domain.goal.free_values(arch) if domain else {}
            values = free | ({} if value is None else {_Label.name: value})
            trials.append(Trial(i, i, arch, value, error, None, None, 0.0, values=values))
        return tuple(trials)

    def walk(self, method: Method, domain: Domain, *, q: int, labels: int, lag: int = 0) -> list[Arch]:
        """Propose until there are so many labels or nothing is left, checking each batch; `lag` proposals stay pending."""
        found: list[Arch] = []
        generated = None
        while len(found) < labels:
            done = max(len(found) - lag, 0)
            known = Known(self.history(found[:done], domain.space, domain=domain), tuple(found[done:]), generated)
            batch = method.propose(known, q)
            generated = batch.generated or generated
            archs = [proposal.arch for proposal in batch.proposals]
            keys = [domain.space.canonical(arch) for arch in (*found, *archs)]
            assert len(archs) <= q and len(set(keys)) == len(keys), "proposals are new, each once"
            assert all(map(domain.allows, archs)), "proposals are within the limits"
            if not archs:
                break
            found += archs
        return found

    def test_declares_its_options(self, method_class: type[Method]) -> None:
        from diffnag.search_loop.options import METHOD_OPTIONS

        assert method_class.uses <= set(METHOD_OPTIONS) and method_class.defaults.keys() <= method_class.uses

    def test_proposes_new_architectures_one_by_one_and_in_batches(self, method_class: type[Method], space: SearchSpace) -> None:
        for q, lag in ((1, 0), (3, 0), (2, 3)):
            method, domain = self.made(method_class, space)
            assert len(self.walk(method, domain, q=q, labels=self.labels, lag=lag)) >= self.labels

    def test_searches_fronts_or_says_that_it_does_not(self, method_class: type[Method], space: SearchSpace) -> None:
        if not getattr(method_class, "searches_fronts", False):
            with pytest.raises(UserError, match="optimises the label alone"):
                self.made(method_class, space, minimise=["params"])
            return
        for q, lag in ((1, 0), (2, 3)):
            method, domain = self.made(method_class, space, minimise=["params"], limits=["flops>=1"])
            assert len(self.walk(method, domain, q=q, labels=self.labels, lag=lag)) >= self.labels

    def test_same_history_same_proposals(self, method_class: type[Method], space: SearchSpace) -> None:
        """Also after other proposals, so that a resumed search goes on as an unbroken one."""
        used, domain = self.made(method_class, space, seed=5)
        archs = list(islice(domain.random(np.random.default_rng(0), set()), self.labels))
        known = Known(self.history(archs[:-2], space), tuple(archs[-2:]))
        used.propose(Known(self.history(archs[:5], space)), 2)
        fresh, _ = self.made(method_class, space, seed=5)
        assert used.propose(known, 2) == fresh.propose(known, 2)

    def test_failed_evaluations(self, method_class: type[Method], space: SearchSpace) -> None:
        method, domain = self.made(method_class, space)
        archs = list(islice(domain.random(np.random.default_rng(0), set()), self.labels))
        proposals = method.propose(Known(self.history(archs, space, failed=True)), 2).proposals
        assert proposals and not {space.canonical(one.arch) for one in proposals} & {space.canonical(arch) for arch in archs}

    def test_an_exhausted_domain_ends(self, method_class: type[Method], space: SearchSpace) -> None:
        """All classes of the cheapest architectures are proposed, and then nothing."""
        params = load_objective("params", space=space, task=(task := Task(self.dataset)))
        archs = list(islice(space.enumerate() or (), 20_001))
        costs = [params.measure(arch, task=task) for arch in archs]
        least = min(costs, default=0.0)
        left = {space.canonical(arch) for arch, cost in zip(archs, costs, strict=True) if cost == least}
        if not 0 < len(archs) <= 20_000 or len(left) > 100:
            pytest.skip("the space has no small domain that can be enumerated")
        method, domain = self.made(method_class, space, limits=[f"params<={least:.0f}"])
        found = self.walk(method, domain, q=40, labels=10**6)
        assert {space.canonical(arch) for arch in found} == left
