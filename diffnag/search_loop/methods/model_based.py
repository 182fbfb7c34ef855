"""Searches with a predictor and no generator: BANANAS scores mutations of the best, `gp-enumerate` the whole space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from diffnag.errors import UserError
from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import History, batch_of, paid, shuffled
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Batch, Generated, best_first

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.guidance.checked import CheckedPredictor

INITIAL = 10
"""Random draws before there is a model."""
MUTATIONS = 100
LARGEST = 20_000
"""Architectures of a space that is enumerated at every step."""


class Candidates(Protocol):
    """What the model is asked about."""

    def __call__(self, history: History, seen: set[str], rng: np.random.Generator) -> list[Arch]:
        """Fresh architectures of the domain, whose canonical forms `seen` takes up; none only where it is exhausted."""
        ...


@dataclass(frozen=True)
class ModelBased:
    """Fit the predictor to all labels, pay for the candidate of the largest acquisition value."""

    domain: Domain
    seed: int
    predictor: CheckedPredictor
    acquisition: str
    candidates: Candidates

    def propose(self, history: History, q: int, *, pending: Sequence[Arch] = (), generated: Generated | None = None) -> Batch:
        count = len(history) + len(pending)
        rng = np.random.default_rng([self.seed, count])
        seen = paid(self.domain, history, pending)
        model = Model(self.predictor, self.acquisition)
        if count < INITIAL or model.fit(history, pending) is None:
            return batch_of(islice(self.domain.random(rng, seen), min(max(INITIAL - count, 1), q)))
        return Batch(model.choose(self.candidates(history, seen, rng), q, history, rng, pending=pending))


@dataclass(frozen=True)
class Mutations:
    """Neighbours of the best trials, best first; random draws where they do not suffice."""

    domain: Domain

    def __call__(self, history: History, seen: set[str], rng: np.random.Generator) -> list[Arch]:
        found: list[Arch] = []
        for trial in best_first(history):
            near = shuffled(self.domain.space.neighbours(trial.arch), rng)
            found += islice(self.domain.fresh(near, seen), MUTATIONS - len(found))
            if len(found) == MUTATIONS:
                return found
        return found + list(islice(self.domain.random(rng, seen), MUTATIONS - len(found)))


@dataclass(frozen=True)
class Enumerated:
    """All that is left of a space small enough to be enumerated, one of each canonical class, which one the seed tells.

    Raises `UserError` for a larger space.
    """

    domain: Domain
    seed: int

    def __post_init__(self) -> None:
        space = self.domain.space
        if (archs := space.enumerate()) is None or len(list(islice(archs, LARGEST + 1))) > LARGEST:
            raise UserError(
                f"method 'gp-enumerate' scores every architecture of a space, and {space.name} has more than {LARGEST:,}; "
                f"leave it to --method diffnag or bananas"
            )

    def __call__(self, history: History, seen: set[str], rng: np.random.Generator) -> list[Arch]:
        left = [arch for key, arch in self._classes.items() if key not in seen]
        seen.update(self._classes)
        return left

    @cached_property
    def _classes(self) -> dict[str, Arch]:
        archs = shuffled(list(self.domain.space.enumerate() or ()), np.random.default_rng(self.seed))
        return {self.domain.space.canonical(arch): arch for arch in self.domain.fresh(archs, set())}


def bananas(domain: Domain, seed: int) -> ModelBased:
    """BANANAS (White et al., AAAI 2021, algorithm 1): an ensemble on paths, mutations, independent Thompson sampling."""
    return ModelBased(domain, seed, _predictor("path-ensemble", domain, seed), "ts", Mutations(domain))


def gp_enumerate(domain: Domain, seed: int, *, acquisition: str = "ei") -> ModelBased:
    """The predictor `gp` on all that is left of the space; `UserError` where that is too large."""
    everything = Enumerated(domain, seed)
    return ModelBased(domain, seed, _predictor("gp", domain, seed), acquisition, everything)


def _predictor(name: str, domain: Domain, seed: int) -> CheckedPredictor:
    from diffnag.guidance.checked import load_predictor

    return load_predictor(name, space=domain.space, dataset=domain.dataset, seed=seed)
