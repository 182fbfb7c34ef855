"""The search this package is for: candidates generated with guidance by a predictor that learns from every label."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.acquisition import rank
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods import History, paid
from diffnag.search_loop.trial import Batch, Proposal, best_of, expected_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffnag.arch import Arch
    from diffnag.generation import Generator
    from diffnag.predicting import CheckedPredictor


@dataclass(frozen=True)
class Diffnag:
    """Ours: generate with guidance by the predictor, then pay for the candidates of the largest acquisition value.

    Guided samples follow a law; who pays wants its best. So the most promising candidates and the best trials are noised part
    of the way and denoised, `refinements` times, and what that gives joins the candidates.
    """

    domain: Domain
    seed: int
    generator: Generator
    predictor: CheckedPredictor
    acquisition: str
    candidates: int
    scale: float
    tries: int = 4
    """Generations of a round, each of `candidates`, before it turns to neighbours of the best."""
    refinements: int = 2
    roots: tuple[int, int] = (16, 4)
    """Candidates and trials that a refinement starts from."""

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = ()) -> Batch:
        rng = np.random.default_rng([self.seed, len(history) + len(pending)])
        labelled = [trial for trial in history if trial.value is not None]
        if labelled:
            self.predictor.fit([trial.arch for trial in labelled], np.array(expected_values(labelled)))
        guide = self.predictor if labelled or self.predictor.knows_something else None
        seen = paid(self.domain, history, pending)
        pool: list[Arch] = []
        notes: list[str] = []
        nfe = predictor_nfe = 0
        for _ in range(self.tries):
            made = self.generator.generate(self.candidates, seed=int(rng.integers(2**63)), predictor=guide, scale=self.scale)
            pool += self.domain.fresh(made.archs, seen)
            nfe, predictor_nfe = nfe + made.nfe, predictor_nfe + made.predictor_nfe
            if len(pool) >= q:
                break
        else:
            generated = len(pool)
            pool += self._topped_up(history, seen, missing=q - generated, rng=rng)
            notes.append(
                f"{self.tries} generations gave {generated} new candidates for {q} places; {len(pool) - generated} others, "
                f"neighbours of the best or else random draws, were added to choose from"
            )
        if guide is None:
            return Batch(tuple(map(Proposal, pool[:q])), made.guidance, nfe, predictor_nfe, tuple(notes))
        best = best_of(history)
        value = best.value if best else None
        elite = sorted(labelled, key=lambda trial: -(trial.value or 0.0))[: self.roots[1]]
        mean, std = guide.predict(pool)
        for _ in range(self.refinements):
            order = rank(self.acquisition, mean, std, best=value, rng=rng)[: self.roots[0]]
            roots = [*(pool[i] for i in order), *(trial.arch for trial in elite)]
            near = self.generator.vary(roots, self.candidates, seed=int(rng.integers(2**63)))
            nfe += near.nfe
            if fresh := list(self.domain.fresh(near.archs, seen)):
                pool += fresh
                mean, std = (np.concatenate(parts) for parts in zip((mean, std), guide.predict(fresh), strict=True))
        order = rank(self.acquisition, mean, std, best=value, rng=rng)[:q]
        proposals = tuple(Proposal(pool[i], float(mean[i]), float(std[i])) for i in order)
        return Batch(proposals, made.guidance, nfe, predictor_nfe, tuple(notes))

    def _topped_up(self, history: History, seen: set[str], *, missing: int, rng: np.random.Generator) -> list[Arch]:
        """At least `missing` fresh neighbours of the best trials, best first; random draws where these do not suffice."""
        found: list[Arch] = []
        done = [trial for trial in history if trial.value is not None]
        for trial in sorted(done, key=lambda trial: -(trial.value or 0.0)):
            if len(found) >= missing:
                return found
            found += self.domain.fresh(self.domain.space.neighbours(trial.arch), seen)
        return found + list(islice(self.domain.random(rng, seen), max(missing - len(found), 0)))
