"""The search this package is for: candidates generated with guidance by a predictor that learns from every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import History, paid
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Batch, Generated, Proposal, best_first

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.generators.diffusion.generator import Generator
    from diffnag.guidance.checked import CheckedPredictor


@dataclass(frozen=True)
class Diffnag:
    """Ours: generate with guidance by the predictor, then pay for the candidate of the largest acquisition value.

    Guided samples follow a law; who pays wants its best. So before every choice the most promising candidates and the best
    trials are noised part of the way and denoised, `refinements` times, `variations` each, and what that gives joins the
    candidates. These are generated anew every `every` labels: between them one label changes the law little. Guided by particles,
    none is paid for or beyond the limits: a law that peaks where labels are would give little else in a small space. Whoever generates
    does so for all workers: the batch tells them, and they come back as `generated`.
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

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        count = len(history) + len(pending)
        rng = np.random.default_rng([self.seed, count])
        seen = paid(self.domain, history, pending)
        begin, asked = self._phase(len(history))
        guide = self.model.fit(history) if asked else None
        due = count - (count - begin) % self.every
        new, nfe, predictor_nfe = None, 0, 0
        if generated is None or generated.labels != due:
            generated, nfe, predictor_nfe = self._generate(guide, due, set(seen))
            new = generated
        pool = list(self.domain.fresh(generated.archs, seen))
        if guide is not None:
            self.model.believe(history, pending)  # what few labels say of what is pending would narrow what is generated
            nfe += self._refine(pool, history, seen, rng)
        pool, notes = self._topped_up(pool, q, history, seen, rng)
        chosen = self.model.choose(pool, q, history, rng, pending=pending) if guide else tuple(map(Proposal, pool[:q]))
        return Batch(chosen, generated.guidance, nfe, predictor_nfe, new, notes)

    @property
    def model(self) -> Model:
        """What judges the candidates."""
        return Model(self.predictor, self.acquisition)

    def _phase(self, labels: int) -> tuple[int, bool]:
        """Labels at which the phase of so many began, and whether the predictor is asked in it.

        A prior comes first, then, up to `initial` labels, unguided samples; from there on the labels speak. What is pending does
        not count: of two labels a predictor only learns to be sure of too much.
        """
        worth = self.predictor.prior_labels
        if labels < worth or worth >= self.initial:
            return 0, True
        return (self.initial, True) if labels >= self.initial else (ceil(worth), False)

    def _generate(self, guide: CheckedPredictor | None, due: int, seen: set[str]) -> tuple[Generated, int, int]:
        """Candidates that are not in `seen`, with the evaluations of the score network and of the predictor that they took."""
        rng = np.random.default_rng([self.seed, due, 1])
        archs: list[Arch] = []
        guidance, nfe, predictor_nfe = "none", 0, 0
        for _ in range(self.tries):
            made = self.generator.generate(
                self.candidates, seed=int(rng.integers(2**63)), predictor=guide, scale=self.scale,
                wanted=lambda arch: self.domain.fresh_key(arch, seen) is not None,
            )  # fmt: skip
            archs += self.domain.fresh(made.archs, seen)
            guidance, nfe, predictor_nfe = made.guidance, nfe + made.nfe, predictor_nfe + made.predictor_nfe
            if len(archs) >= (self.initial if guide is None else self.every):
                break
        return Generated(due, tuple(archs), guidance), nfe, predictor_nfe

    def _refine(self, pool: list[Arch], history: History, seen: set[str], rng: np.random.Generator) -> int:
        """Add to `pool` what lies around its most promising and the best trials; evaluations of the score network that it took."""
        elite, nfe = [trial.arch for trial in best_first(history)[: self.roots[1]]], 0
        for _ in range(self.refinements):
            if roots := [*(pool[i] for i in self.model.order(pool, history, rng)[: self.roots[0]]), *elite]:
                near = self.generator.vary(roots, self.variations, seed=int(rng.integers(2**63)))
                nfe += near.nfe
                pool += self.domain.fresh(near.archs, seen)
        return nfe

    def _topped_up(
        self, pool: list[Arch], q: int, history: History, seen: set[str], rng: np.random.Generator
    ) -> tuple[list[Arch], tuple[str, ...]]:
        """With neighbours of the best trials, best first, where `pool` has less than `q`; random draws where these do not suffice."""
        if (missing := q - len(pool)) <= 0:
            return pool, ()
        found: list[Arch] = []
        for trial in best_first(history):
            if len(found) >= missing:
                break
            found += self.domain.fresh(self.domain.space.neighbours(trial.arch), seen)
        found += islice(self.domain.random(rng, seen), max(missing - len(found), 0))
        told = (
            f"{self.tries} generations gave {len(pool)} new candidates for {q} places; {len(found)} others, neighbours of the best or "
            f"else random draws, were added to choose from"
        )
        return pool + found, (told,)
