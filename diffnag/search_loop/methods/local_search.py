"""Local search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.search_loop.methods.base import WithoutOptions, batch_of, shuffled
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    from diffnag.arch import Arch

Worth = np.ndarray | None
"""Values of an architecture in all objectives, more being better; None if it has none yet, or failed."""


@dataclass(frozen=True)
class LocalSearch(WithoutOptions):
    """Local search by first improvement (White et al., UAI 2021; den Ottelander et al., GECCO 2021).

    It evaluates the neighbours of the current architecture in random order and moves to the first that is better. If none is, it
    starts again from a random draw. Architectures with a known canonical form are not evaluated again. With several objectives a
    neighbour is better if it dominates, so that each descent ends in another place of the front (Pareto local search; Paquete,
    Chiarandini & Stuetzle 2004).
    """

    searches_fronts: ClassVar[bool] = True

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`. The whole search is replayed from its start."""
        worths: dict[str, Worth] = {self._key(arch): None for arch in known.pending}  # no move leads there yet
        worths |= self._worths(known)
        rng = np.random.default_rng(self.seed)
        visited: set[str] = set()
        for start in self.domain.random(rng, visited):
            if self._key(start) not in worths:
                return batch_of([start])
            step: Arch | None = start
            while step is not None:
                current, step = step, None
                near = shuffled(self.domain.space.neighbours(current), rng)
                around = list(self.domain.fresh(near, {self._key(current)}))
                for i, arch in enumerate(around):
                    key = self._key(arch)
                    if key not in worths:
                        return batch_of([other for other in around[i:] if self._key(other) not in worths][:q])
                    visited.add(key)
                    if _better(worths[key], worths[self._key(current)]):
                        step = arch
                        break
        return Batch(())

    def _key(self, arch: Arch) -> str:
        return self.domain.space.canonical(arch)

    def _worths(self, known: Known) -> dict[str, Worth]:
        goal = self.domain.goal
        if not goal.has_front:
            return {self._key(trial.arch): None if trial.worth is None else np.array([trial.worth]) for trial in known.history}
        values = goal.signs * goal.values(known.history)
        return {self._key(trial.arch): row if np.isfinite(row).all() else None for trial, row in zip(known.history, values, strict=True)}


def _better(one: Worth, other: Worth) -> bool:
    """Whether the first dominates the second; anything dominates nothing."""
    if one is None or other is None:
        return one is not None
    return bool((one >= other).all() and (one > other).any())
