"""The search this package is for: candidates generated with guidance by a predictor that learns from every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods import History, paid
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Batch, Proposal

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generation import Generator
    from diffnag.predicting import CheckedPredictor


@dataclass
class _Generated:
    """What was generated at a length of the history, and what it cost."""

    labels: int
    archs: list[Arch]
    guidance: str
    nfe: int
    predictor_nfe: int


@dataclass(frozen=True)
class Diffnag:
    """Ours: generate with guidance by the predictor, then pay for the candidate of the largest acquisition value.

    Guided samples follow a law; who pays wants its best. So before every choice the most promising candidates and the best
    trials are noised part of the way and denoised, `refinements` times, `variations` each, and what that gives joins the
    candidates. These are generated anew every `every` labels: between them one label changes the law little.
    """

    domain: Domain
    seed: int
    generator: Generator
    predictor: CheckedPredictor
    acquisition: str
    candidates: int
    scale: float
    initial: int = 5
    """Labels before a predictor without a prior, or with one that is good for fewer, is asked; they are of unguided samples."""
    every: int = 10
    tries: int = 4
    """Generations, each of `candidates`, until there is a new one for each of the next labels."""
    refinements: int = 2
    variations: int = 128
    roots: tuple[int, int] = (16, 4)
    """Candidates and trials that a refinement starts from."""
    _memory: list[_Generated] = field(default_factory=list, compare=False, repr=False)

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = ()) -> Batch:
        count = len(history) + len(pending)
        rng = np.random.default_rng([self.seed, count])
        generated = self._generated(history, count)
        last = history[-1].round if history else None
        new = generated.labels > min((trial.number for trial in history if trial.round == last), default=-1)
        nfe, predictor_nfe = (generated.nfe, generated.predictor_nfe) if new else (0, 0)
        seen = paid(self.domain, history, pending)
        pool = list(self.domain.fresh(generated.archs, seen))
        guide = self.model.fit(history, pending) if self._phase(count)[1] else None
        if guide is None:
            pool, notes = self._topped_up(pool, q, history, seen, rng)
            return Batch(tuple(map(Proposal, pool[:q])), generated.guidance, nfe, predictor_nfe, notes)
        done = [trial for trial in history if trial.value is not None]
        elite = [trial.arch for trial in sorted(done, key=lambda trial: -(trial.value or 0.0))[: self.roots[1]]]
        for _ in range(self.refinements):
            roots = [*(pool[i] for i in self.model.order(pool, history, rng)[: self.roots[0]]), *elite]
            if roots:
                near = self.generator.vary(roots, self.variations, seed=int(rng.integers(2**63)))
                nfe += near.nfe
                pool += self.domain.fresh(near.archs, seen)
        pool, notes = self._topped_up(pool, q, history, seen, rng)
        return Batch(self.model.choose(pool, q, history, rng, pending=pending), generated.guidance, nfe, predictor_nfe, notes)

    @property
    def model(self) -> Model:
        """What judges the candidates."""
        return Model(self.predictor, self.acquisition)

    def _phase(self, count: int) -> tuple[int, bool]:
        """Labels at which the phase of the `count`-th began, and whether the predictor is asked in it.

        A prior comes first, then, up to `initial` labels, unguided samples; from there on the labels speak.
        """
        worth = self.predictor.prior_labels
        if count < worth or worth >= self.initial:
            return 0, True
        return (self.initial, True) if count >= self.initial else (ceil(worth), False)

    def _generated(self, history: History, count: int) -> _Generated:
        """The candidates of the last length at which they were due: the same after a resume as without a break."""
        begin, _ = self._phase(count)
        due = count - (count - begin) % self.every
        if not self._memory or self._memory[0].labels != due:
            self._memory[:] = [self._generate(history[:due], due)]
        return self._memory[0]

    def _generate(self, history: History, due: int) -> _Generated:
        rng = np.random.default_rng([self.seed, due, 1])
        guide = self.model.fit(history) if self._phase(due)[1] else None
        seen = paid(self.domain, history)
        found = _Generated(due, [], "none", 0, 0)
        for _ in range(self.tries):
            made = self.generator.generate(self.candidates, seed=int(rng.integers(2**63)), predictor=guide, scale=self.scale)
            found.archs += self.domain.fresh(made.archs, seen)
            found.guidance = made.guidance
            found.nfe += made.nfe
            found.predictor_nfe += made.predictor_nfe
            if len(found.archs) >= (self.initial if guide is None else self.every):
                break
        return found

    def _topped_up(
        self, pool: list[Arch], q: int, history: History, seen: set[str], rng: np.random.Generator
    ) -> tuple[list[Arch], tuple[str, ...]]:
        """With neighbours of the best trials, best first, where `pool` has less than `q`; random draws where these do not suffice."""
        if (missing := q - len(pool)) <= 0:
            return pool, ()
        found: list[Arch] = []
        done = [trial for trial in history if trial.value is not None]
        for trial in sorted(done, key=lambda trial: -(trial.value or 0.0)):
            if len(found) >= missing:
                break
            found += self.domain.fresh(self.domain.space.neighbours(trial.arch), seen)
        found += islice(self.domain.random(rng, seen), max(missing - len(found), 0))
        told = (
            f"{self.tries} generations gave {len(pool)} new candidates for {q} places; {len(found)} others, neighbours of the best or "
            f"else random draws, were added to choose from"
        )
        return pool + found, (told,)
