"""Regularised evolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.methods.base import WithoutOptions, batch_of, shuffled, taken
from diffnag.search_loop.trial import Batch, Known, Trial

if TYPE_CHECKING:
    from diffnag.arch import Arch


@dataclass(frozen=True)
class Evolution(WithoutOptions):
    """Regularised evolution (Real et al., AAAI 2019, algorithm 1).

    The population are the youngest `population` trials, at first random draws. A child is a neighbour of the best of `sample`
    members that is in the domain and not yet evaluated. The defaults are the best of seven settings on the table of NAS-Bench-201 at
    30 and 100 labels.
    """

    population: int = 10
    sample: int = 10

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        history, count = known.history, len(known.history) + len(known.pending)
        rng = np.random.default_rng([self.seed, count])
        seen = taken(self.domain, known)
        if (missing := self.population - count) > 0 or not history:
            return batch_of(islice(self.domain.random(rng, seen), min(max(missing, 1), q)))
        return batch_of(islice(self._children(history[-self.population :], rng, seen), q))

    def _children(self, members: Sequence[Trial], rng: np.random.Generator, seen: set[str]) -> Iterator[Arch]:
        barren = 0
        while barren < self.population:  # no parent in so many rounds had a neighbour that is left
            contestants = [members[i] for i in rng.choice(len(members), size=min(self.sample, len(members)), replace=False)]
            parent = max(contestants, key=lambda trial: -np.inf if trial.worth is None else trial.worth)
            child = next(self.domain.fresh(shuffled(self.domain.space.neighbours(parent.arch), rng), seen), None)
            barren = 0 if child else barren + 1
            if child:
                yield child
        yield from self.domain.random(rng, seen)
