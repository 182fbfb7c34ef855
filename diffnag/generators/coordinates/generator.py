"""The generator of the family `coordinates`: points and operators from noise, edges read off the points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from diffnag.generators.coordinates import options
from diffnag.generators.coordinates.network import LEVELS
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.generators.base import Steer

MOVE = (0.6, 1.6)
"""A move noises an architecture to a random level in this range, as in the family `sde`."""


class CoordinateGenerator(NetworkGenerator):
    """Draws architectures by an equivariant diffusion of points and operators."""

    Sampling: ClassVar[type] = options.Sampling

    def figures(self, batch: ArchBatch) -> Mapping[str, float]:
        """Share of a batch that is read off its own points again, at the lowest noise: it bounds everything else."""
        noise = torch.randn(len(batch), self.network.packing.nodes, self.network.channels, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            read = self._codes(self.network.lift(batch) + LEVELS[0] * noise.to(batch.V.device))
        return {"reconstructed": float(self.network.are(batch, *read).float().mean())}

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        del steer, kind
        return self._read(self._denoise(LEVELS[1] * self._noise(b, noise), LEVELS[1], sampling.steps, noise))

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        """Noise the points and operators part of the way and denoise them: editing under a constraint of similarity."""
        level = noise.log_uniform(*MOVE)
        share = math.log(level / LEVELS[0]) / math.log(LEVELS[1] / LEVELS[0])
        state = self.network.lift(batch) + level * self._noise(len(batch), noise)
        return self._read(self._denoise(state, level, max(math.ceil(share * self.sampling.steps), 1), noise))

    def _noise(self, b: int, noise: Noise) -> Tensor:
        return noise.normal(b, self.network.packing.nodes, self.network.channels, device=self.network.device)

    def _denoise(self, state: Tensor, level: float, steps: int, noise: Noise) -> Tensor:
        """Ancestral sampling (Ho et al. 2020) from `level` to the lowest, levels equidistant in their logarithm."""
        levels = torch.linspace(math.log(level), math.log(LEVELS[0]), steps + 1).exp().tolist()
        for now, then in itertools.pairwise(levels):
            clean = self.network(state, state.new_full((len(state),), now))
            kept = (then / now) ** 2
            state = clean + kept * (state - clean) + then * math.sqrt(1 - kept) * self._noise(len(state), noise)
        return state

    def _codes(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Operators `(b, n)` and edges `(b, m)`, bool, of states at the lowest level."""
        found = self.network.estimate(state, state.new_full((len(state),), LEVELS[0]))
        return found.operators.argmax(2), found.edges > 0

    def _read(self, state: Tensor) -> Matrices:
        return Matrices.of(*self.network.matrices(*self._codes(state)))
