"""Searches without a model: random draws, regularised evolution, local search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import History, batch_of, paid, shuffled
from diffnag.search_loop.trial import Batch, Generated

if TYPE_CHECKING:
    from diffnag.arch import Arch


@dataclass(frozen=True)
class Random:
    """Uniform draws."""

    domain: Domain
    seed: int

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        rng = np.random.default_rng([self.seed, len(history) + len(pending)])
        return batch_of(islice(self.domain.random(rng, paid(self.domain, history, pending)), q))


@dataclass(frozen=True)
class Evolution:
    """Regularised evolution (Real et al., AAAI 2019, algorithm 1).

    The population are the youngest `population` trials, at first random draws; a child is a neighbour, within the
    domain and not yet paid for, of the best of `sample` members. The defaults are the best of seven settings on the
    NAS-Bench-201 table at 30 and 100 labels.
    """

    domain: Domain
    seed: int
    population: int = 10
    sample: int = 10

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        rng = np.random.default_rng([self.seed, len(history) + len(pending)])
        seen = paid(self.domain, history, pending)
        if (missing := self.population - len(history) - len(pending)) > 0 or not history:
            return batch_of(islice(self.domain.random(rng, seen), min(max(missing, 1), q)))
        return batch_of(islice(self._children(history[-self.population :], rng, seen), q))

    def _children(self, members: History, rng: np.random.Generator, seen: set[str]) -> Iterator[Arch]:
        barren = 0
        while barren < self.population:  # every neighbour of so many parents in a row is paid for
            contestants = [members[i] for i in rng.choice(len(members), size=min(self.sample, len(members)), replace=False)]
            parent = max(contestants, key=lambda trial: -np.inf if trial.value is None else trial.value)
            child = next(self.domain.fresh(shuffled(self.domain.space.neighbours(parent.arch), rng), seen), None)
            barren = 0 if child else barren + 1
            if child:
                yield child
        yield from self.domain.random(rng, seen)


@dataclass(frozen=True)
class LocalSearch:
    """Local search (White et al., UAI 2021; den Ottelander et al., GECCO 2021), by first improvement.

    Evaluates the neighbours of the current architecture in random order and moves on as soon as one improves; where none does,
    it starts anew from a random draw. What is known already, by its canonical form, is not evaluated again.
    """

    domain: Domain
    seed: int

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        values: dict[str, float | None] = {self.domain.space.canonical(arch): None for arch in pending}  # no move leads there yet
        values |= {self.domain.space.canonical(trial.arch): trial.value for trial in history}
        rng = np.random.default_rng(self.seed)  # of the whole search, which is replayed from its start
        visited: set[str] = set()
        for start in self.domain.random(rng, visited):
            if self.domain.space.canonical(start) not in values:
                return batch_of([start])
            step: Arch | None = start
            while step is not None:
                current, step = step, None
                near = shuffled(self.domain.space.neighbours(current), rng)
                around = list(self.domain.fresh(near, {self.domain.space.canonical(current)}))
                for i, arch in enumerate(around):
                    key = self.domain.space.canonical(arch)
                    if key not in values:
                        return batch_of([other for other in around[i:] if self.domain.space.canonical(other) not in values][:q])
                    visited.add(key)
                    if self._value(arch, values) > self._value(current, values):
                        step = arch
                        break
        return Batch(())

    def _value(self, arch: Arch, values: dict[str, float | None]) -> float:
        value = values[self.domain.space.canonical(arch)]
        return -np.inf if value is None else value
