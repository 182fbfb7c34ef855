"""The generator of the family `adversarial`: one pass a sample, and moves of its latents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from diffnag.generators.adversarial import options
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise

if TYPE_CHECKING:
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.base import Steer

MOVE = 0.5
"""Share of the variance of the latents that a move draws anew."""


class AdversarialGenerator(NetworkGenerator):
    """Draws architectures by one pass from normal latents."""

    Sampling: ClassVar[type] = options.Sampling
    steers: frozenset[str] = frozenset({"pool", "particles"})

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        del sampling, steer, kind
        return self._made(noise.normal(b, self.network.size, device=self.network.device), noise)

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        """Read the latents off an architecture, draw a part of them anew (pCN, Cotter et al. 2013) and map them back."""
        read = self.network.reader(self.network.packing.pack(batch.V, batch.E))
        fresh = noise.normal(len(batch), self.network.size, device=self.network.device)
        return self._made(math.sqrt(1 - MOVE) * read + math.sqrt(MOVE) * fresh, noise)

    def _made(self, latents: Tensor, noise: Noise) -> Matrices:
        logits = self.network.drawn(latents, noise.uniform(len(latents), self.network.packing.size, device=latents.device))
        return Matrices.of(*self.network.matrices(*self.network.likeliest(logits)))
