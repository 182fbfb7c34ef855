"""Random search."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from diffnag.search_loop.methods.base import WithoutOptions, batch_of, taken
from diffnag.search_loop.trial import Batch, Known


@dataclass(frozen=True)
class Random(WithoutOptions):
    """Uniform draws from what is left of the domain."""

    searches_fronts: ClassVar[bool] = True

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        rng = np.random.default_rng([self.seed, len(known.history) + len(known.pending)])
        return batch_of(islice(self.domain.random(rng, taken(self.domain, known)), q))
