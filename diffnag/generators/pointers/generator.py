"""The generator of the family `pointers`: draws, moves and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.generators.pointers import options
from diffnag.generators.pointers.network import Pointers
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise
from diffnag.protocols import LogProb

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.base import Steer
    from diffnag.generators.pointers.network import PointerNetwork

ROWS = 64
"""Graphs whose probabilities are computed at once."""


class PointerGenerator(NetworkGenerator):
    """Draws one node after the other."""

    Sampling: ClassVar[type] = options.Sampling
    steers = frozenset({"particles", "pool"})
    network: PointerNetwork

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        del sampling, steer, kind
        return self._matrices(*self._drawn(self._numbers(b, noise)))

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        """Draw all nodes from a random one on anew.

        That one is uniform among the nodes of the graph. A graph of n nodes that becomes one of m is kept with probability n / m at most:
        so a step and its reverse are equally frequent under the generator's law.
        """
        net = self.network
        ops, E = batch.V.argmax(2), batch.E > 0
        count = (ops != net.absent).sum(1)
        chance = noise.uniform(len(ops), 2, device=net.device)
        new_ops, new_E = self._drawn(self._numbers(len(ops), noise), (ops, E, (chance[:, 0] * count).long()))
        new_count = (new_ops != net.absent).sum(1)
        stays = chance[:, 1] * new_count >= count
        return self._matrices(torch.where(stays[:, None], ops, new_ops), torch.where(stays[:, None, None], E, new_E))

    def _numbers(self, b: int, noise: Noise) -> Tensor:
        """Uniform numbers `(b, n, 1 + k)` for the operator and the inputs of each node, k the most that a node takes."""
        return noise.uniform(b, self.network.packing.nodes, 1 + int(self.network.most.max()), device=self.network.device)

    def _matrices(self, ops: Tensor, E: Tensor) -> Matrices:
        V = torch.nn.functional.one_hot(ops, self.network.packing.operators)
        return Matrices.of(V, E)

    def _drawn(self, u: Tensor, given: tuple[Tensor, Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Operators `(b, n)` and edges `(b, n, n)`, bool, from uniform numbers `u (b, n, 1 + k)`.

        Of `given` graphs (operators, edges, numbers of nodes) so many nodes are kept.
        """
        net, (b, n) = self.network, u.shape[:2]
        width, heads = net.config.width, net.config.heads
        ops = torch.full((b, n), net.absent, device=u.device)
        E = torch.zeros(b, n, n, dtype=torch.bool, device=u.device)
        takers = torch.zeros(b, n, dtype=torch.long, device=u.device)
        keys = u.new_zeros(b, n, width)
        kept = u.new_zeros(len(net.layers), 2, b, heads, n, width // heads)
        token, rows = net.start.expand(b, 1, width), torch.arange(b, device=u.device)
        ended = torch.zeros(b, dtype=torch.bool, device=u.device)
        for step in range(n):
            h, key = net(token, slice(step, step + 1), kept)
            if step:
                keys[:, step - 1] = key[:, 0]
            unused = (takers == 0) & (torch.arange(n, device=u.device) < step)
            law = net.operators(h, unused.sum(1, keepdim=True), slice(step, step + 1))[:, 0]
            own = Noise.pick(u[:, step, 0], law.exp())
            if given is not None:
                own = torch.where(step < given[2], given[0][:, step], own)
            own = torch.where(ended, net.absent, own)
            ended = own == net.absent
            if ended.all():
                break
            ops[:, step] = own
            E[:, :, step] = self._inputs(h, keys, own, takers, step, u[:, step, 1:])
            if given is not None:
                E[:, :, step] = torch.where((step < given[2])[:, None], given[1][:, :, step], E[:, :, step])
            takers = takers + E[:, :, step]
            unused = (takers == 0) & (torch.arange(n, device=u.device) <= step)
            token = net.tokens(ops, own[:, None], E[:, None, :, step].to(u.dtype), unused[:, None])
        del rows
        return ops, E

    def _inputs(self, h: Tensor, keys: Tensor, own: Tensor, takers: Tensor, step: int, u: Tensor) -> Tensor:
        """The inputs `(b, n)`, bool, of the nodes at `step` with the operators `own (b,)`."""
        net, (b, n) = self.network, keys.shape[:2]
        found = torch.zeros(b, n + 1, dtype=torch.bool, device=u.device)
        before = torch.full((b,), step, device=u.device)
        going = net.most[own] > 0
        for slot in range(min(int(net.most[own].max()), step)):
            if not going.any():
                break
            asked = Pointers(*(part[:, None] for part in (torch.full_like(own, step), torch.full_like(own, slot), before, before, going)))
            law = net.inputs(h, keys, own[:, None], takers[:, None], asked)[:, 0]
            chosen = Noise.pick(u[:, slot], law.exp())
            found[torch.arange(b, device=u.device), torch.where(going, chosen, n)] = True
            going = going & (chosen < n) & (slot + 1 < net.most[own]) & (chosen > 0)
            before = torch.where(going, chosen, before)
        return found[:, :n]

    @torch.no_grad()
    def log_prob(self, archs: Sequence[Arch], *, seed: int = 0) -> LogProb:
        """Log probability of each (V, E) that `encode` gives, exact."""
        del seed
        found = [np.zeros(0), *(self.network.log_likelihood(batch).double().cpu().numpy() for batch in self._batches(archs, ROWS))]
        return LogProb(np.concatenate(found), "exact")
