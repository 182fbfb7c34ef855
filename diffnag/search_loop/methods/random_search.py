"""Random search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Self

import numpy as np

from diffnag.search_loop.domain import Domain
from diffnag.search_loop.methods.base import Setting, batch_of, taken
from diffnag.search_loop.trial import Batch, Known


@dataclass(frozen=True)
class Random:
    """Uniform draws from what is left of the domain."""

    domain: Domain
    seed: int
    uses: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        return cls(setting.domain, setting.seed)

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        rng = np.random.default_rng([self.seed, len(known.history) + len(known.pending)])
        return batch_of(islice(self.domain.random(rng, taken(self.domain, known)), q))
