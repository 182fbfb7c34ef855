"""The generator of the family `autoregressive`: draws, moves and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.generators.autoregressive import options
from diffnag.generators.base import refuse_strangers
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise
from diffnag.protocols import LogProb

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.autoregressive.network import AutoregressiveNetwork
    from diffnag.generators.base import Steer


class AutoregressiveGenerator(NetworkGenerator):
    """Draws one symbol after the other."""

    Sampling: ClassVar[type] = options.Sampling
    network: AutoregressiveNetwork

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        del sampling, steer, kind
        u = noise.uniform(b, self.network.symbols, device=self.network.device)
        return Matrices.of(*self.network.written(self._drawn(u)))

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        """Draw a random run of symbols anew, each given those before it; a Metropolis step makes up for those after it."""
        net, now = self.network, self.network.read(batch)
        ends, u = noise.uniform(len(now), 2, device=now.device), noise.uniform(len(now), net.symbols + 1, device=now.device)
        begin, end = (ends * torch.tensor([net.symbols, net.symbols + 1], device=now.device)).long().sort(dim=1).values[..., None].unbind(1)
        place = torch.arange(net.symbols, device=now.device)
        proposed = self._drawn(u[:, 1:], now, (begin <= place) & (place <= end))
        gain = (net.log_likelihood(proposed) - net.log_likelihood(now)) * (place > end)
        accepted = u[:, :1].log() < gain.sum(1, keepdim=True)
        return Matrices.of(*net.written(torch.where(accepted, proposed, now)))

    def _drawn(self, u: Tensor, given: Tensor | None = None, free: Tensor | None = None) -> Tensor:
        """Symbols `(b, L)` from uniform numbers `u (b, L)`; those that are not `free (b, L)` stay as `given (b, L)`."""
        net = self.network
        state = u.new_zeros(len(u), 1, net.config.width)
        drawn = []
        for place in range(net.symbols):
            value = Noise.pick(u[:, place], net(state, slice(place, place + 1))[:, 0].exp())
            if given is not None and free is not None:
                value = torch.where(free[:, place], value, given[:, place])
            drawn.append(value)
            state = state + net.embedding(value)[:, None]
        return torch.stack(drawn, dim=1)

    @torch.no_grad()
    def log_prob(self, archs: Sequence[Arch], *, seed: int = 0) -> LogProb:
        """Log probability of each (V, E) that `encode` gives, exact."""
        del seed
        refuse_strangers(archs, self.space)
        net, found = self.network, [np.zeros(0)]
        for batch in self._batches(archs):
            found.append(net.log_likelihood(net.read(batch)).double().sum(1).cpu().numpy())
        return LogProb(np.concatenate(found), "exact")
