"""The search that this package is for: a generator makes candidates, guided by a predictor that learns from every label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from diffnag.generators.base import Condition, Steer
from diffnag.guidance.checked import CheckedPredictor
from diffnag.protocols import MeasuresConditions
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import Setting, promising, taken
from diffnag.search_loop.methods.preference import ExpectedImprovement
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Batch, Generated, Known, Proposal, Trial
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import Generator

CANDIDATES = 128
"""Architectures that are generated a round."""
SCALE = 6.0
"""Strength of the guidance: twice the default of generation, as a search wants the best more than variety."""
EXAMPLES, FEWEST = 1_000, 8
"""Random architectures of which those within the limits say what a generator with conditions is asked for; so many at least, the nearest."""


@dataclass(frozen=True)
class Diffnag:
    """Generates candidates with guidance by the predictor, then proposes those with the largest acquisition values.

    Guided samples follow a law, but a search wants its best architectures. So before every choice the most promising candidates and
    the best trials are noised part of the way and denoised, `refinements` times, `variations` each, and the results join the
    candidates. New candidates are generated every `every` labels: between them one label changes the law little. Guidance by
    particles keeps to architectures that are not labelled yet and meet the limits: in a small space, a law that peaks where
    labels are would give little else. Workers share one pool of candidates: a batch reports new ones, and `Known.generated`
    returns them. With several objectives the candidates are guided by the improvement that is expected of them; in a space that is small
    enough to look at all of it, nothing is generated, and one of each canonical class is a candidate. A candidate beyond a limit that costs
    nothing to check gives way to its copy within, if there is one, and a generator that is conditioned on what a limit is about is asked for
    values within. What the domain names as first comes first.
    """

    domain: Domain
    seed: int
    generator: Generator
    model: Model
    candidates: int
    scale: float
    initial: int = 5
    """Labels of unguided samples before the predictor is asked, if it has no prior or one that is good for fewer labels."""
    every: int = 10
    tries: int = 4
    """Most generations in a row, each of `candidates`, until there is a new candidate for each of the next labels."""
    refinements: int = 2
    variations: int = 128
    roots: tuple[int, int] = (16, 4)
    """Candidates and trials that a refinement starts from."""
    searches_fronts: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset({"predictor", "acquisition", "candidates", "scale", "generator", "checkpoint"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "acquisition": "ucb", "candidates": CANDIDATES, "scale": SCALE, "generator": None, "checkpoint": None,
    }  # fmt: skip

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        options = setting.options
        assert options.predictor and options.acquisition and options.candidates and options.scale is not None, "by their defaults"
        predictor = setting.load_predictor(options.predictor)
        model = Model(setting.outlook(predictor), options.acquisition, options.confidence)
        return cls(setting.domain, setting.seed, setting.load_generator(), model, candidates=options.candidates, scale=options.scale)

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        history, pending, generated = known.history, known.pending, known.generated
        count = len(history) + len(pending)
        rng = np.random.default_rng([self.seed, count])
        seen = taken(self.domain, known)
        if first := list(islice(self.domain.fresh(self.domain.first, set(seen)), q)):
            return Batch(tuple(map(Proposal, first)))
        begin, asked = self._phase(len(history))
        guide = self.model.fit(history) if asked else None
        if guide is not None and self.domain.goal.has_front and (left := self._left(seen)):
            self.model.believe(history, pending)
            note = f"each of {len(left):,} classes of {self.domain.space.name} is a candidate; nothing is generated"
            return Batch(self.model.choose(left, q, history, rng, pending=pending), notes=(note,) if count == begin else ())
        due = count - (count - begin) % self.every
        new, nfe, predictor_nfe = None, 0, 0
        if generated is None or generated.labels != due:
            generated, nfe, predictor_nfe = self._generate(guide, history, due, set(seen))
            new = generated
        pool = list(self.domain.fresh(generated.archs, seen))
        if guide is not None:
            self.model.believe(history, pending)  # only now: what few labels suggest of it would narrow what is generated
            nfe += self._refine(pool, history, seen, rng)
        pool, notes = self._topped_up(pool, q, history, seen, rng)
        chosen = self.model.choose(pool, q, history, rng, pending=pending) if guide else tuple(map(Proposal, pool[:q]))
        if self.domain.goal.has_front:
            chosen = tuple(replace(proposal, arch=self.domain.cheapest_copy(proposal.arch)) for proposal in chosen)
        return Batch(chosen, generated.guidance, nfe, predictor_nfe, new, notes)

    def _left(self, seen: set[str]) -> list[Arch]:
        """The cheapest copy of each canonical class that is not in `seen`; none if the space is too large to look at all of them."""
        return [arch for key, arch in self.domain.cheapest.items() if key not in seen]

    def _phase(self, labels: int) -> tuple[int, bool]:
        """The number of labels at which the present phase began, and whether the predictor is asked in it.

        First comes the prior, then, up to `initial` labels, unguided samples; after that the labels decide. What is pending does not
        count: from two labels a predictor only learns to be too sure.
        """
        worth = self._worth
        if labels < worth or worth >= self.initial:
            return 0, True
        return (self.initial, True) if labels >= self.initial else (ceil(worth), False)

    @cached_property
    def _worth(self) -> float:
        """Number of labels for which the prior is good: none for a front if it says nothing of what is traded there. Asked before any fit."""
        model = self.model
        worth = model.predictor.prior_labels
        return 0 if worth and model.outlook.goal.has_front and model.outlook.prior_is_an_objective() else worth

    def _generate(self, guide: CheckedPredictor | None, history: Sequence[Trial], due: int, seen: set[str]) -> tuple[Generated, int, int]:
        """Candidates that are not in `seen`, with the evaluations of the generator's network and of the predictor that they took."""
        rng = np.random.default_rng([self.seed, due, 1])
        archs: list[Arch] = []
        guidance, nfe, predictor_nfe = "none", 0, 0
        for _ in range(self.tries):
            steer = self._steer(guide, history, seen)
            made = self.generator.sample(self.candidates, seed=int(rng.integers(2**63)), steer=steer)
            archs += self.domain.fresh(self.domain.within(made.archs), seen)
            guidance, nfe, predictor_nfe = made.guidance, nfe + made.nfe, predictor_nfe + made.predictor_nfe
            if len(archs) >= (self.initial if guide is None else self.every):
                break
        return Generated(due, tuple(archs), guidance), nfe, predictor_nfe

    def _steer(self, guide: CheckedPredictor | None, history: Sequence[Trial], seen: set[str]) -> Steer:
        """What the next candidates are guided by: nothing, the predictor of the label, or the improvement of the front."""

        def wanted(arch: Arch) -> bool:
            return self.domain.fresh_key(arch, seen) is not None

        if guide is None:
            return Steer(condition=self._within, weight=0.0, wanted=wanted)
        preference = guide
        if self.domain.goal.has_front:
            outlook = self.model.outlook
            preference = CheckedPredictor("improvement", ExpectedImprovement(outlook, outlook.standing(history)))
        return replace(Steer.by(preference, self.domain.space, self.scale, wanted=wanted), condition=self._within, weight=0.0)

    @cached_property
    def _within(self) -> Condition:
        """What the generator is asked for: the values of random architectures within the limits, as far as they are its conditions.

        The limits are on the task at hand, the conditions perhaps on another dataset: architectures are what both know.
        """
        domain, generator = self.domain, self.generator
        if not isinstance(generator, MeasuresConditions):
            return {}
        limits = tuple(limit for limit, _ in domain.goal.free_limits if limit.objective in generator.conditions)
        if not limits:
            return {}
        goal = replace(domain.goal, limits=limits)
        beyond = {arch: goal.beyond(arch) for arch in random_archs(domain.space, EXAMPLES, seed=self.seed)}
        nearest = sorted(beyond, key=lambda arch: beyond[arch])
        return generator.condition_of(nearest[: max(FEWEST, sum(not far for far in beyond.values()))], [limit.objective for limit in limits])

    def _refine(self, pool: list[Arch], history: Sequence[Trial], seen: set[str], rng: np.random.Generator) -> int:
        """Add to `pool` what lies near its most promising candidates and the best trials; return the evaluations of the generator's network."""
        elite, nfe = [trial.arch for trial in self._elite(history, rng)], 0
        for _ in range(self.refinements):
            if roots := [*(pool[i] for i in self.model.order(pool, history, rng)[: self.roots[0]]), *elite]:
                near = self.generator.vary(roots, self.variations, seed=int(rng.integers(2**63)))
                nfe += near.nfe
                pool += self.domain.fresh(self.domain.within(near.archs), seen)
        return nfe

    def _elite(self, history: Sequence[Trial], rng: np.random.Generator) -> list[Trial]:
        """The best trials, or members of the front, drawn at random."""
        ordered = promising(self.domain, history)
        if not self.domain.goal.has_front:
            return ordered[: self.roots[1]]
        front = self.domain.goal.front(history)
        return [front[i] for i in rng.permutation(len(front))[: self.roots[1]]]

    def _topped_up(
        self, pool: list[Arch], q: int, history: Sequence[Trial], seen: set[str], rng: np.random.Generator
    ) -> tuple[list[Arch], tuple[str, ...]]:
        """Fill a `pool` of fewer than `q` with neighbours of the best trials, best first, then with random draws; and a note of it."""
        if (missing := q - len(pool)) <= 0:
            return pool, ()
        found: list[Arch] = []
        for trial in promising(self.domain, history):
            if len(found) >= missing:
                break
            found += self.domain.fresh(self.domain.space.neighbours(trial.arch), seen)
        found += islice(self.domain.random(rng, seen), max(missing - len(found), 0))
        note = (
            f"{self.tries} generations gave {len(pool)} new candidates for {q} places; {len(found)} others, neighbours of the best or "
            f"random draws, were added"
        )
        return pool + found, (note,)
