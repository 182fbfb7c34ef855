"""The generator of the family `pointers`: draws, moves and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.generators.base import refuse_strangers
from diffnag.generators.pointers import options
from diffnag.generators.pointers.masks import Masks
from diffnag.generators.pointers.network import Pointers
from diffnag.generators.trained import Matrices, NetworkGenerator, Noise
from diffnag.protocols import LogProb

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.base import Steer
    from diffnag.generators.pointers.network import PointerNetwork

ROWS = 64
"""Graphs whose probabilities are computed at once."""
SPARE = 0.2
"""Share of the graphs in a run that may have ended before they are dropped from it."""


class PointerGenerator(NetworkGenerator):
    """Draws one node after the other."""

    Sampling: ClassVar[type] = options.Sampling
    steers = frozenset({"particles", "pool"})
    network: PointerNetwork

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        del steer, kind
        masks = Masks(self.space, b, absent=self.network.absent, rules=sampling.masks, least=sampling.least)
        return self._matrices(*self._drawn(self._numbers(b, noise), masks=masks))

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

    def _drawn(
        self, u: Tensor, given: tuple[Tensor, Tensor, Tensor] | None = None, *, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Operators `(b, n)` and edges `(b, n, n)`, bool, from uniform numbers `u (b, n, 1 + k)`.

        Of `given` graphs (operators, edges, numbers of nodes) so many nodes are kept. What `masks` forbid is not drawn.
        """
        net, (b, n) = self.network, u.shape[:2]
        ops = torch.full((b, n), net.absent, device=u.device)
        E = torch.zeros(b, n, n, dtype=torch.bool, device=u.device)
        run = Run.begun(net, b)
        for step in range(n):
            rows, m = run.rows, step + 1
            h, law = run.read(net, step)
            law = law if masks is None else masks.operators(law, rows, step)
            own = Noise.pick(u[rows, step, 0], law.exp())
            kept = None if given is None else step < given[2][rows]
            if given is not None and kept is not None:
                own = torch.where(kept, given[0][rows, step], own)
            own = torch.where(run.ended, net.absent, own)
            taken = self._inputs(h, run.keys[:, :m], own, run.takers[:, :m], run.shapes_of(m), u[rows, step, 1:], masks, rows)
            if given is not None and kept is not None:
                taken = torch.where(kept[:, None], given[1][rows, :m, step], taken)
            ops[rows, step], E[rows, :m, step] = own, taken
            if masks is not None:
                masks.add(rows, step, own, taken)
            run.write(net, step, ops, own, taken)
            if run.ended.all():
                break
            if run.ended.sum() > SPARE * len(rows):
                run = run.shortened(m)
        return ops, E

    def _inputs(
        self, h: Tensor, keys: Tensor, own: Tensor, takers: Tensor, shapes: Tensor | None, u: Tensor, masks: Masks | None, graphs: Tensor
    ) -> Tensor:
        """The inputs `(b, m)`, bool, of the nodes at the last of m steps, with the operators `own (b,)`, in the graphs of these numbers."""
        net, (b, m) = self.network, keys.shape[:2]
        found = torch.zeros(b, m + 1, dtype=torch.bool, device=u.device)
        rows = (net.most[own] > 0).nonzero()[:, 0]
        before = torch.full_like(rows, m - 1)
        for slot in range(m - 1):
            if not len(rows):
                break
            if slot == 0:
                h, keys, own, takers, u = (part[rows] for part in (h, keys, own, takers, u))
                shapes = None if shapes is None else shapes[rows]
            asked = Pointers(*(part[:, None] for part in (torch.full_like(own, m - 1), torch.full_like(own, slot), before, before, own > 0)))
            law = net.inputs(h, keys, own[:, None], takers[:, None], shapes, asked)[:, 0]
            law = law if masks is None else masks.inputs(law, graphs[rows].tolist(), own, found[rows, :m])
            chosen = Noise.pick(u[:, slot], law.exp())
            found[rows, chosen] = True
            more = (chosen < m) & (slot + 1 < net.most[own]) & (chosen > 0)
            rows, before, h, keys, own, takers, u = (part[more] for part in (rows, chosen, h, keys, own, takers, u))
            shapes = None if shapes is None else shapes[more]
        return found[:, :m]

    @torch.no_grad()
    def log_prob(self, archs: Sequence[Arch], *, seed: int = 0) -> LogProb:
        """Log probability of each (V, E) that `encode` gives, exact."""
        del seed
        refuse_strangers(archs, self.space)
        found = [np.zeros(0), *(self.network.log_likelihood(batch).double().cpu().numpy() for batch in self._batches(archs, ROWS))]
        return LogProb(np.concatenate(found), "exact")


@dataclass
class Run:
    """Graphs that are being drawn, node after node: what the network needs of the nodes so far. Those that have ended are dropped in time."""

    rows: Tensor
    """`(r,)`: which of all graphs these are."""
    ended: Tensor
    """`(r,)` bool"""
    token: Tensor
    """`(r, 1, width)`: the node read next."""
    keys: Tensor
    """`(r, n, width)`"""
    kept: Tensor
    """`(layers, 2, r, heads, n, width / heads)`: keys and values of the attention."""
    takers: Tensor
    """`(r, n)`: how many nodes take each."""
    shapes: Tensor | None
    """`(r, n, p)`: shape of what each node gives, for spaces that say shapes."""

    @classmethod
    def begun(cls, net: PointerNetwork, b: int) -> Run:
        """`b` graphs without nodes."""
        n, width, heads = net.packing.nodes, net.config.width, net.config.heads
        zeros = torch.zeros(b, n, width, device=net.device)
        return cls(
            torch.arange(b, device=net.device), torch.zeros(b, dtype=torch.bool, device=net.device), net.start.expand(b, 1, width), zeros,
            zeros.new_zeros(len(net.layers), 2, b, heads, n, width // heads), torch.zeros(b, n, dtype=torch.long, device=net.device),
            None if net.shapes is None else net.shapes.unknown(b, n, net.device),
        )  # fmt: skip

    def read(self, net: PointerNetwork, step: int) -> tuple[Tensor, Tensor]:
        """The vector `(r, 1, width)` of all nodes so far, and log probabilities `(r, f)` of the next operator."""
        h, key = net(self.token, slice(step, step + 1), self.kept)
        if step:
            self.keys[:, step - 1] = key[:, 0]
        unused = (self.takers[:, :step] == 0).sum(1, keepdim=True)
        return h, net.operators(h, unused, slice(step, step + 1))[:, 0]

    def write(self, net: PointerNetwork, step: int, ops: Tensor, own: Tensor, taken: Tensor) -> None:
        """Add the nodes `own (r,)` with the inputs `taken (r, step + 1)`; `ops (b, n)` are all operators so far."""
        m = step + 1
        self.ended = own == net.absent
        self.takers[:, :m] += taken
        if net.shapes is not None and self.shapes is not None:
            self.shapes[:, step] = net.shapes.next(own, taken, self.shapes)
        shapes, unused = self.shapes_of(m), self.takers[:, None, :m] == 0
        own_shape = None if shapes is None else shapes[:, step:]
        self.token = net.tokens(ops[self.rows, :m], own[:, None], taken[:, None].to(self.keys.dtype), unused, shapes, own_shape)

    def shapes_of(self, m: int) -> Tensor | None:
        """Shapes `(r, m, p)` of the first m nodes."""
        return None if self.shapes is None else self.shapes[:, :m]

    def shortened(self, m: int) -> Run:
        """Those that have not ended; only the first m nodes are there yet."""
        on = ~self.ended
        kept = self.kept.new_zeros(*self.kept.shape[:2], int(on.sum()), *self.kept.shape[3:])
        kept[..., :m, :] = self.kept[:, :, on, :, :m]
        shapes = None if self.shapes is None else self.shapes[on]
        return Run(self.rows[on], self.ended[on], self.token[on], self.keys[on], kept, self.takers[on], shapes)
