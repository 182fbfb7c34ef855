"""What `bananas` and `gp-enumerate` share: a predictor chooses from a pool of candidates that no generator makes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import batch_of, taken
from diffnag.search_loop.model import Model
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    from diffnag.arch import Arch

INITIAL = 10
"""Random draws before there is a model."""


class Pool(Protocol):
    """The candidates that a model chooses from."""

    def __call__(self, known: Known, seen: set[str], rng: np.random.Generator) -> list[Arch]:
        """Fresh architectures of the domain, whose canonical forms are added to `seen`; none only if it is exhausted."""
        ...


@dataclass(frozen=True)
class ModelBased:
    """Fits the predictor to all labels and proposes the candidates with the largest acquisition values."""

    domain: Domain
    seed: int
    model: Model
    pool: Pool

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        count = len(known.history) + len(known.pending)
        rng = np.random.default_rng([self.seed, count])
        seen = taken(self.domain, known)
        if count < INITIAL or self.model.fit(known.history, known.pending) is None:
            return batch_of(islice(self.domain.random(rng, seen), min(max(INITIAL - count, 1), q)))
        return Batch(self.model.choose(self.pool(known, seen, rng), q, known.history, rng, pending=known.pending))
