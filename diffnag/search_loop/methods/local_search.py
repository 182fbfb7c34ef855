"""Local search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.search_loop.methods.base import WithoutOptions, batch_of, shuffled
from diffnag.search_loop.trial import Batch, Known

if TYPE_CHECKING:
    from diffnag.arch import Arch


@dataclass(frozen=True)
class LocalSearch(WithoutOptions):
    """Local search by first improvement (White et al., UAI 2021; den Ottelander et al., GECCO 2021).

    It evaluates the neighbours of the current architecture in random order and moves to the first that is better. If none is, it
    starts again from a random draw. Architectures with a known canonical form are not evaluated again.
    """

    def propose(self, known: Known, q: int) -> Batch:
        """See `Method`. The whole search is replayed from its start."""
        values: dict[str, float | None] = {self._key(arch): None for arch in known.pending}  # no move leads there yet
        values |= {self._key(trial.arch): trial.value for trial in known.history}
        rng = np.random.default_rng(self.seed)
        visited: set[str] = set()
        for start in self.domain.random(rng, visited):
            if self._key(start) not in values:
                return batch_of([start])
            step: Arch | None = start
            while step is not None:
                current, step = step, None
                near = shuffled(self.domain.space.neighbours(current), rng)
                around = list(self.domain.fresh(near, {self._key(current)}))
                for i, arch in enumerate(around):
                    key = self._key(arch)
                    if key not in values:
                        return batch_of([other for other in around[i:] if self._key(other) not in values][:q])
                    visited.add(key)
                    if self._value(arch, values) > self._value(current, values):
                        step = arch
                        break
        return Batch(())

    def _key(self, arch: Arch) -> str:
        return self.domain.space.canonical(arch)

    def _value(self, arch: Arch, values: dict[str, float | None]) -> float:
        value = values[self._key(arch)]
        return -np.inf if value is None else value
