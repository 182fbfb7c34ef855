"""Simple sources of candidates that replace the generator, to measure what the generator is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffnag.arch import Arch
    from diffnag.generators.base import Generation
    from diffnag.protocols import SearchSpace
    from diffnag.search_loop.loop import Search

PARENTS = 10
MUTATED = {"mutation": 1.0, "mutation and uniform": 0.5, "uniform": 0.0}
"""Name of a source -> share of its draws that are mutations; the others are uniform."""


class Draws:
    """Draws random neighbours of the best labelled architectures, uniform samples of the space, or both.

    Set `search` before the first draw.
    """

    search: Search

    def __init__(self, space: SearchSpace, *, mutated: float) -> None:
        self.space, self._mutated = space, mutated
        self._around: dict[Arch, list[Arch]] = {}

    def sample(self, n: int, *, seed: int, steer: object = None, sampling: object = None) -> Generation:
        """Draw neighbours of the `PARENTS` best labelled architectures; uniform samples before the first label."""
        from diffnag.search_loop.trial import best_first

        del steer, sampling
        return self.vary([trial.arch for trial in best_first(self.search.study.history)[:PARENTS]], n, seed=seed)

    def vary(self, archs: Sequence[Arch], n: int, *, seed: int) -> Generation:
        """Draw neighbours of `archs`, which take turns, and uniform samples for the rest of `n`."""
        from diffnag.generators.base import Generation
        from diffnag.protocols import Decoded

        rng = np.random.default_rng(seed)
        near = round(self._mutated * n) if archs else 0
        drawn = [self._neighbour(archs[k % len(archs)], rng) for k in range(near)]
        drawn += [self.space.random(rng) for _ in range(n - near)]
        decoded = tuple(Decoded(arch, None) for arch in drawn)
        return Generation(decoded=decoded, by_threshold=decoded, guidance="none", nfe=0, predictor_nfe=0, wall_s=0.0)

    def provenance(self) -> Mapping[str, str]:
        """Its share of mutations."""
        return {"generator": f"draws, {self._mutated:.0%} mutated"}

    def _neighbour(self, arch: Arch, rng: np.random.Generator) -> Arch:
        if arch not in self._around:  # many draws start at the same architecture
            self._around[arch] = self.space.neighbours(arch)
        around = self._around[arch]
        return around[rng.integers(len(around))]
