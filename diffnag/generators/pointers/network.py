"""The network of the family `pointers`: the law of each operator, and of each input, given all that stands before.

A graph is read in the order of its nodes. Causal attention gives a vector h of all nodes so far; from it the operator of the next node is
drawn, and then its inputs, the latest first, by pointers to earlier nodes (Vinyals et al. 2015). The operator says how many inputs it
takes (`CountsInputs`), and nodes that nothing takes yet are known at each step. So every draw has the right numbers of inputs, and ends in
one node unless it runs out of slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.generators.network import GraphNetwork, check_width
from diffnag.generators.pointers.options import Config
from diffnag.generators.pointers.shapes import UNKNOWN, Shapes
from diffnag.generators.transformer import GELU, sinusoidal
from diffnag.protocols import CountsInputs, TracksShapes

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.protocols import SearchSpace

TOPS = 4
"""Nodes that nothing takes yet, of which the operators are seen at each step: the latest ones."""
RANKS, COUNTS, DISTANCES = 10, 4, 9
"""Buckets of the features of a candidate: unused nodes between, takers, and the logarithm of a distance."""


class Pointers(NamedTuple):
    """The decisions about inputs in a batch of graphs, in the order in which they are taken, padded to `d` a graph."""

    node: Tensor
    """`(b, d)`: whose input it is."""
    slot: Tensor
    """`(b, d)`: how many inputs the node has already."""
    before: Tensor
    """`(b, d)`: the input chosen before, the node itself where there is none."""
    chosen: Tensor
    """`(b, d)`: the input that is chosen; n, the number of slots, for none: the node has all its inputs."""
    real: Tensor
    """`(b, d)` bool, False for padding."""


class Layer(nn.Module):
    """Causal self-attention and MLP, each behind a layer norm; keys and values of earlier nodes can be kept."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.before, self.behind = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), GELU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, kept: Tensor | None = None, place: int = 0) -> Tensor:
        """`h (b, q, width)` -> `(b, q, width)`.

        With `kept (2, b, heads, n, width / heads)` it is the one node at `place` (q = 1), whose key and value are kept there.
        """
        q, k, v = self.qkv(self.before(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if kept is not None:
            kept[0, :, :, place], kept[1, :, :, place] = k[:, :, 0], v[:, :, 0]
            k, v = kept[:, :, :, : place + 1]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=kept is None).transpose(1, 2).flatten(2)
        h = h + self.out(attended)
        return h + self.mlp(self.behind(h))


class PointerNetwork(GraphNetwork):
    """`p(A)` as a product over nodes: the operator of each, and its inputs one after the other."""

    family = "pointers"
    config_type = Config
    fewest: Tensor
    """`(f,)`: fewest inputs of each operator."""
    most: Tensor
    places: Tensor

    def __init__(self, space: SearchSpace, config: Config) -> None:
        if not isinstance(space, CountsInputs):
            raise UserError(f"the family 'pointers' is for spaces that say how many inputs an operator takes; {space.name!r} does not")
        super().__init__(space, config)
        check_width(config.width, config.heads)
        f, n, width = self.packing.operators, self.packing.nodes, config.width
        rules = [space.inputs.get(name, (0, 0)) for name in space.operators]
        (self.absent,) = [k for k, name in enumerate(space.operators) if name not in space.inputs]
        for name, column in zip(("fewest", "most"), zip(*rules, strict=True), strict=True):
            self.register_buffer(name, torch.tensor(column), persistent=False)
        self.register_buffer("places", 0.5 * sinusoidal(torch.arange(n, dtype=torch.float32), width), persistent=False)
        self.start = nn.Parameter(torch.zeros(width))
        self.own, self.taken = nn.Embedding(f, width), nn.Embedding(f, width)
        self.tops, self.open = nn.ModuleList(nn.Embedding(f + 1, width) for _ in range(TOPS)), nn.Embedding(RANKS, width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.operator = nn.Linear(width, f)
        self.key, self.previous, self.asked = nn.Linear(width, width), nn.Linear(width, width), nn.Embedding(f, width)
        self.slots = nn.Embedding(int(self.most.max()) + 1, width)
        self.query = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), GELU(), nn.Linear(2 * width, width))
        self.ranks, self.counts, self.distances = (nn.Linear(width, k) for k in (RANKS, COUNTS, DISTANCES))
        self.enough = nn.Linear(width, 1)
        self.shapes = Shapes(space, width, TOPS) if isinstance(space, TracksShapes) else None
        for table in (module for module in self.modules() if isinstance(module, nn.Embedding)):
            nn.init.normal_(table.weight, std=0.3)

    # -- what is seen of a graph at a step

    def state(self, ops: Tensor, unused: Tensor, shapes: Tensor | None) -> Tensor:
        """What nothing takes yet, `(b, q, width)`: how many nodes, and the operators and shapes of the latest, at q steps.

        `ops (b, n)`, `shapes (b, n, p)`, and `unused (b, q, n)` bool: nodes before each step that nothing takes.
        """
        ahead = unused.flip(2).cumsum(2).flip(2) - unused.long()  # unused nodes behind each
        found, tops = self.open(_bucket(unused.sum(2), RANKS)), []
        for rank, table in enumerate(self.tops):
            there = unused & (ahead == rank)
            found = found + table(torch.where(there.any(2), (there * ops[:, None]).sum(2), self.packing.operators))
            if shapes is not None:
                tops.append(torch.where(there.any(2)[..., None], torch.einsum("bqn,bnp->bqp", there.long(), shapes), UNKNOWN))
        return found if self.shapes is None else found + self.shapes.state(tops)

    def tokens(self, ops: Tensor, own: Tensor, taken: Tensor, unused: Tensor, shapes: Tensor | None, own_shapes: Tensor | None) -> Tensor:
        """Nodes as vectors `(b, q, width)`.

        `ops (b, n)` and `shapes (b, n, p)` are those of all nodes so far, `own (b, q)` and `own_shapes (b, q, p)` those of the nodes,
        `taken (b, q, n)` float their inputs, and `unused (b, q, n)` the nodes that nothing takes after them.
        """
        inputs = taken @ self.taken(ops) / taken.sum(2, keepdim=True).clamp_min(1)
        found = self.own(own) + inputs + self.state(ops, unused, shapes)
        return found if self.shapes is None or own_shapes is None else found + self.shapes.token(own_shapes)

    def forward(self, tokens: Tensor, places: slice, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors `(b, q, width)` of all before the steps `places`, and keys of the nodes read last, from `tokens (b, q, width)`.

        With `kept (layers, 2, b, heads, n, width / heads)` it is one step, and what is needed of it later is kept.
        """
        h = tokens + self.places[places]
        for number, layer in enumerate(self.layers):
            h = layer(h, None if kept is None else kept[number], places.start or 0)
        h = self.norm(h)
        return h, self.key(h)

    def operators(self, h: Tensor, open_nodes: Tensor, places: slice) -> Tensor:
        """Log probabilities `(b, q, f)` of the operators at the steps `places`; `open_nodes (b, q)` count the unused nodes before each."""
        step = torch.arange(self.packing.nodes, device=h.device)[places, None]
        allowed = self.possible[places] & (self.fewest <= step)
        ends = F.one_hot(torch.tensor(self.absent, device=h.device), self.packing.operators).bool()
        allowed = allowed & (~ends | (open_nodes == 1)[..., None])
        return F.log_softmax(self.operator(h).masked_fill(~allowed, -torch.inf), dim=2)

    def inputs(self, h: Tensor, keys: Tensor, own: Tensor, takers: Tensor, shapes: Tensor | None, asked: Pointers) -> Tensor:
        """Log probabilities `(b, d, n + 1)` of the inputs at decisions `asked`, the last of them for no further input.

        `h (b, d, width)` and the operators `own (b, d)` are those of the nodes that decide, `keys (b, n, width)` and `shapes (b, n, p)` those
        of all nodes, and `takers (b, d, n)` count how many took each node before.
        """
        node, slot, before = asked.node, asked.slot, asked.before
        first = (slot == 0)[..., None]
        last = keys.gather(1, before[..., None].expand(-1, -1, keys.shape[2]))
        query = self.query(h + self.asked(own) + self.slots(slot) + torch.where(first, 0.0, self.previous(last)))
        candidate = torch.arange(keys.shape[1], device=h.device)
        unused = (takers == 0) & (candidate < node[..., None])
        below = unused & (candidate < before[..., None])
        between = below.flip(2).cumsum(2).flip(2) - below.long()
        rank = torch.where(unused, _bucket(between, RANKS - 1), RANKS - 1)
        distance = _bucket((before[..., None] - candidate).clamp_min(1).float().log2().long(), DISTANCES)
        scores = query @ keys.transpose(1, 2) / query.shape[2] ** 0.5
        scores = scores + self.ranks(query).gather(2, rank) + self.counts(query).gather(2, _bucket(takers, COUNTS))
        scores = scores + self.distances(query).gather(2, distance)
        if self.shapes is not None and shapes is not None:
            scores = scores + self.shapes.scores(query, shapes, torch.where(slot == 0, node - 1, before).clamp_min(0), first)
        needed = (self.fewest[own] - slot)[..., None]  # inputs that must follow, this one included
        scores = scores.masked_fill((candidate >= before[..., None]) | (candidate < needed - 1), -torch.inf)
        none = self.enough(query).masked_fill(needed > 0, -torch.inf)
        return F.log_softmax(torch.cat([scores, none], dim=2), dim=2)

    # -- whole graphs

    def log_likelihood(self, batch: ArchBatch, seen: Tensor | None = None) -> Tensor:
        """Log probability of each graph `(b,)`, in nats; `seen (b, n, width)` scales the entries of the nodes as they are read."""
        ops, there = batch.V.argmax(2), batch.V.argmax(2) != self.absent
        n = min(int(there.sum(1).max()) + 1, self.packing.nodes)  # steps: the last one ends the longest graph
        ops, E, there = ops[:, :n], batch.E[:, :n, :n], there[:, :n]
        takers = (E.cumsum(2) - E).transpose(1, 2).long()  # (b, step, node), before the step
        before = torch.ones(n, n, dtype=torch.bool, device=E.device).tril(-1)
        unused = (takers == 0) & before & there[:, None]
        shapes = None if self.shapes is None else self.shapes.every(ops, E)
        nodes = self.tokens(ops, ops[:, :-1], E.transpose(1, 2)[:, :-1], unused[:, 1:], shapes, None if shapes is None else shapes[:, :-1])
        after = torch.cat([self.start.expand(len(ops), 1, -1), nodes], dim=1)
        h, keys = self(after if seen is None else after * seen[:, :n], slice(0, n))
        keys = torch.cat([keys[:, 1:], keys[:, :1]], dim=1)  # the key of a node is known one step behind it
        decided = self.operators(h, unused.sum(2), slice(0, n)).gather(2, ops[..., None])[..., 0]
        ended = F.pad(there, (1, 0), value=True)[:, :-1]  # steps up to the first absent one
        asked = self.pointers(ops, E, there)
        rows = asked.node[..., None]
        found = self.inputs(
            h.gather(1, rows.expand(-1, -1, h.shape[2])), keys, ops.gather(1, asked.node), takers.gather(1, rows.expand(-1, -1, n)), shapes, asked
        ).gather(2, asked.chosen[..., None])[..., 0]
        return torch.where(ended, decided, 0.0).sum(1) + torch.where(asked.real, found, 0.0).sum(1)

    def pointers(self, ops: Tensor, E: Tensor, there: Tensor) -> Pointers:
        """The decisions about inputs in graphs `ops (b, n)`, `E (b, n, n)` with the nodes `there (b, n)`."""
        b, n = ops.shape
        count = E.sum(1).long()
        ends = there & (count < self.most[ops])  # a node that could take more decides to take none
        row, node, back = torch.cat([E.transpose(1, 2).flip(2) > 0, ends[..., None]], dim=2).nonzero().unbind(1)
        chosen = torch.where(back == n, n, n - 1 - back)
        same = torch.zeros_like(row, dtype=torch.bool)
        same[1:] = (row[1:] == row[:-1]) & (node[1:] == node[:-1])
        number = torch.arange(len(row), device=row.device)
        slot = number - torch.where(same, 0, number).cummax(0).values
        before = torch.where(same, chosen.roll(1), node)
        each = torch.bincount(row, minlength=b)
        column = number - (each.cumsum(0) - each)[row]
        padded = [torch.zeros(b, max(int(each.max()), 1), dtype=torch.long, device=row.device) for _ in range(5)]
        for table, values in zip(padded, (node, slot, before, chosen, torch.ones_like(row)), strict=True):
            table[row, column] = values
        node, slot, before, chosen, real = padded
        return Pointers(node, slot, before, torch.where(real > 0, chosen, n), real > 0)


def _bucket(values: Tensor, buckets: int) -> Tensor:
    """Whole numbers from 0 on, the largest together in the last bucket."""
    return values.clamp_max(buckets - 1)
