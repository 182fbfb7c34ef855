"""ParEGO: each label is for another trade-off of the objectives, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from diffnag.search_loop.acquisition import rank
from diffnag.search_loop.methods.base import Setting, batch_of, mutations, promising, taken
from diffnag.search_loop.methods.model_based import INITIAL
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.guidance.checked import CheckedPredictor
    from diffnag.search_loop.domain import Domain

MUTATIONS, RANDOM = 100, 100
"""Candidates that are scored: neighbours of the best, and random draws."""


AUGMENTED = 0.05
"""Share of the weighted sum, which keeps weakly dominated points from being as good as those that dominate them."""


@dataclass(frozen=True)
class ParEGO:
    """ParEGO (Knowles, IEEE TEVC 2006): the predictor `gp` on the augmented Chebyshev function of all values, expected improvement."""

    domain: Domain
    seed: int
    predictor: CheckedPredictor
    searches_fronts: ClassVar[bool] = True
    uses: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, setting: Setting) -> Self:
        """See `Method`."""
        return cls(setting.domain, setting.seed, setting.load_predictor("gp"))

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`."""
        count = len(known.history) + len(known.pending)
        rng = np.random.default_rng([self.seed, count])
        seen = taken(self.domain, known)
        usable = promising(self.domain, known.history)
        if count < INITIAL or not usable:
            return batch_of(islice(self.domain.random(rng, seen), min(max(INITIAL - count, 1), q)))
        goal = self.domain.goal
        values = goal.signs * goal.values(usable) if goal.objectives else np.array([[trial.worth or 0.0] for trial in usable])
        span = np.ptp(values, axis=0)
        scaled = (values - values.min(0)) / np.where(span > 0, span, 1.0)
        chosen: list[Arch] = []
        pool = mutations(self.domain, (trial.arch for trial in usable), MUTATIONS, seen, rng)
        pool += islice(self.domain.random(rng, seen), RANDOM)
        for weights in rng.dirichlet(np.ones(scaled.shape[1]), size=min(q, len(pool))):
            y = chebyshev(scaled, weights)
            self.predictor.fit([trial.arch for trial in usable], y)
            mean, std = self.predictor.predict(pool)
            chosen.append(pool.pop(rank("ei", mean, std, best=float(y.max()), rng=rng)[0]))
        return batch_of(chosen)


def chebyshev(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The augmented Chebyshev function `(b,)` of values `(b, k)` up to 1, the best, with weights `(k,)`.

    It is `-(max_j w_j (1 - v_j) + 0.05 sum_j w_j (1 - v_j))`: eq. 2 of the paper, with the signs turned for maximising.
    """
    lack = weights * (1.0 - values)
    return -(lack.max(1) + AUGMENTED * lack.sum(1))
