"""The generator of the family `flow-map`: one evaluation maps noise to architectures, further ones correct what it missed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch

from diffnag.generators.diffusion.samplers import time_at
from diffnag.generators.flow_map import options
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.base import Steer

MOVE_NOISE = (0.8, 2.0)
"""A move noises an architecture to a random sigma / alpha in this range (entries are -1 and 1) and maps it back."""


class FlowMapGenerator(NetworkGenerator):
    """Draws architectures by a flow map.

    A further evaluation takes the answer A back to `A + level z` with the noise z that it came from. The ODE's path from z to A passes
    near this state, and from there the map is easier. Fresh noise would give more valid samples, but too few edges.
    """

    Sampling: ClassVar[type] = options.Sampling
    steers = frozenset({"pool", "particles"})

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        z = noise.normal(b, self.network.packing.size, device=self.network.device)

        def drawn(z: Tensor) -> Tensor:
            t = time_at(self.network.sde, math.inf).to(z.device)
            x = self.network.mapped(self.network.sde.marginal(t)[1] * z, t)
            for _ in range(sampling.evaluations - 1):
                x = self._again(x, z, sampling.level)
            return x

        return self._matrices(self._pieces(drawn, z))

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        z = noise.normal(len(batch), self.network.packing.size, device=self.network.device)
        level = noise.log_uniform(*MOVE_NOISE)

        def moved(pairs: Tensor) -> Tensor:
            x, z = pairs.unbind(1)
            return self._again(self._again(x, z, level), z, min(level, self.sampling.level))

        return self._matrices(self._pieces(moved, torch.stack([self.network.packing.pack(batch.V, batch.E), z], dim=1)))

    def _again(self, x: Tensor, z: Tensor, level: float) -> Tensor:
        """Noise architectures `x (b, d)` by `level z` and map them back."""
        t = time_at(self.network.sde, level).to(x.device)
        return self.network.mapped(self.network.sde.marginal(t)[0] * (x + level * z), t)

    def _matrices(self, x: Tensor) -> Matrices:
        return Matrices.of(*self.network.packing.relaxed(x))
