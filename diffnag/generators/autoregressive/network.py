"""The network of the family `autoregressive`: the law of each symbol of an architecture, given the symbols before it.

The symbols before a place add up to one state, by an embedding of each, as in NADE (Larochelle & Murray 2011; Uria et al. 2016, "deep
NADE"); residual layers that all places share read the law of the next symbol from it. A causal transformer of equal cost learned no
better, and a sum needs no cache: a draw costs one evaluation of the layers a symbol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.generators.autoregressive.options import Config
from diffnag.generators.network import GraphNetwork

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.protocols import SearchSpace


MOST_EDGES = 2000
"""Edges that may vary: each has values of its own, which all symbols are compared with."""


class Entry(NamedTuple):
    """Where an entry that varies stands: its symbol is the sum of `weight * entry` over the symbol's entries."""

    entry: int
    """Column among the operators of all nodes, followed by all edges."""
    place: int
    """Which symbol it belongs to."""
    weight: int
    base: int
    """How many values it has."""


class AutoregressiveNetwork(GraphNetwork):
    """`p(A)` as a product over symbols: the operator of a node, then up to `together` of its incoming edges a symbol.

    Entries that are constant in the space belong to no symbol. `L` is the number of symbols, `k` that of the values of all of them: each
    place has values of its own, so that a value stands for its place too.
    """

    family = "autoregressive"
    config_type = Config
    first: Tensor
    """`(L,)`: value that stands for the symbol 0 of each place."""
    impossible: Tensor
    """`(L, k)` bool: values that a place does not have."""

    def __init__(self, space: SearchSpace, config: Config) -> None:
        super().__init__(space, config)
        if (edges := int(self.varying.sum())) > MOST_EDGES:
            raise UserError(f"{edges:,} edges of space {space.name!r} vary, of which the family 'autoregressive' accepts {MOST_EDGES:,} at most")
        self._entries, sizes = self._layout(config.together)
        f, n = self.packing.operators, self.packing.nodes
        first = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        values = torch.arange(sum(sizes))
        impossible = (values < first[:, None]) | (values >= (first + torch.tensor(sizes))[:, None])
        for entry, place, _, _ in self._entries:
            if entry < n:
                impossible[place, first[place] : first[place] + f] = ~self.possible[entry]
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("impossible", impossible, persistent=False)
        width = config.width
        self.embedding = nn.Embedding(len(values), width)
        self.places = nn.Embedding(len(sizes), width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
            for _ in range(config.layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(values)))
        for table in (self.embedding, self.places):
            nn.init.normal_(table.weight, std=0.5)

    def _layout(self, together: int) -> tuple[list[Entry], list[int]]:
        """The entries that vary, node after node, and the number of values of each place."""
        n, f = self.packing.nodes, self.packing.operators
        column = {pair: n + k for k, pair in enumerate(zip(*self.packing.upper(torch.device("cpu")).tolist(), strict=True))}
        entries: list[Entry] = []
        sizes: list[int] = []
        for node in range(n):
            if self.possible[node].sum() > 1:
                entries.append(Entry(node, len(sizes), 1, f))
                sizes.append(f)
            into = [column[source, node] for source in range(node) if self.varying[column[source, node] - n]]
            for begin in range(0, len(into), together):
                some = into[begin : begin + together]
                entries += [Entry(entry, len(sizes), 1 << bit, 2) for bit, entry in enumerate(some)]
                sizes.append(1 << len(some))
        return entries, sizes

    @property
    def symbols(self) -> int:
        """L, the number of symbols of an architecture."""
        return len(self.first)

    def read(self, batch: ArchBatch) -> Tensor:
        """Architectures as values `(b, L)`, int64."""
        columns = torch.cat(self.codes(batch), dim=1)
        entry, place, weight, _ = (torch.tensor(part, device=columns.device) for part in zip(*self._entries, strict=True))
        return self.first + columns.new_zeros(len(columns), self.symbols).index_add(1, place, columns[:, entry] * weight)

    def written(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `read`: `V (b, n, f)` and `E (b, n, n)`, float in {0, 1}."""
        columns = torch.cat([self.possible.float().argmax(1), self.wiring.long()]).repeat(len(values), 1)
        entry, place, weight, base = (torch.tensor(part, device=values.device) for part in zip(*self._entries, strict=True))
        columns[:, entry] = (values - self.first)[:, place] // weight % base
        operators, edges = columns.split([self.packing.nodes, columns.shape[1] - self.packing.nodes], dim=1)
        return self.matrices(operators, edges)

    def forward(self, state: Tensor, places: slice) -> Tensor:
        """Log probabilities `(b, l, k)` of the symbols at `places`, from the sums `state (b, l, width)` of the symbols before each."""
        h = state + self.places.weight[places]
        for layer in self.layers:
            h = h + layer(h)
        return F.log_softmax(self.head(h).masked_fill(self.impossible[places], -torch.inf), dim=2)

    def log_likelihood(self, values: Tensor) -> Tensor:
        """Log probability of each symbol given those before it, `(b, L)`, for architectures as `values (b, L)`."""
        embedded = self.embedding(values)
        return self(embedded.cumsum(1) - embedded, slice(None)).gather(2, values[..., None])[..., 0]

