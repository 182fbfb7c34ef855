"""The network of the family `discrete`: the law of each entry of the clean architecture, given a noisy one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffnag.arch import ArchBatch
from diffnag.generators.discrete.noising import NOISES
from diffnag.generators.discrete.options import Config
from diffnag.generators.discrete.structure import structural, structural_size
from diffnag.generators.edge_groups import EdgeGroups
from diffnag.generators.linear import Linear
from diffnag.generators.network import IMPOSSIBLE, GraphNetwork, space_attention
from diffnag.generators.transformer import GraphTransformer, noise_embedding
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

DRAWS = 10_000
"""Random architectures from which the law of each entry is read."""
LEVELS = (1e-2, 1e2)
"""Bounds of the noise level that the network is shown."""


class DiscreteNetwork(GraphNetwork):
    """Estimates `p(x | z_t)`, entry by entry, of a noisy architecture `z_t`.

    An architecture is its D = n + m entries, an operator of each node and 0 or 1 for each edge i < j, as numbers `(b, D)`. With
    `config.edge_groups` the edges of a group are one entry, the pattern that they form, and come after the other edges. All entries
    have K categories, as many as the one that has most, of which some are impossible; the number K means that an entry is hidden.

    If all entries were independent, Bayes' rule would give `p(x | z_t) = m_x q(z_t | x)` up to a constant, with `m` the marginal law of
    the entry. The network adds a term to these logits, so that it learns only how entries depend on each other. It sees hidden edges
    as 0, others as 1 or -1. What is constant in the space has probability 1.
    """

    family: ClassVar[str] = "discrete"
    config_type: ClassVar[type] = Config
    marginals: Tensor
    """`(D, K)`: how often an entry has each category in the space."""
    free: Tensor
    """`(D,)` bool: entries that vary."""
    patterns: Tensor
    offset: Tensor
    grouped: Tensor
    apart: Tensor
    """Edges in no group."""
    around: Tensor
    """`(D K, D K)`: what graph-dependent noise draws entries by; there with that noise."""

    def __init__(self, space: SearchSpace, config: Config, marginals: Tensor | None = None, groups: EdgeGroups | None = None) -> None:
        super().__init__(space, config)
        n, f, width = space.nodes, len(space.operators), config.width
        groups = (groups or EdgeGroups.of(space)) if config.edge_groups else EdgeGroups.none(len(self.wiring))
        for name, value in groups._asdict().items():
            self.register_buffer(name, value, persistent=config.edge_groups)
        self.register_buffer("apart", (~groups.grouped).nonzero()[:, 0], persistent=False)
        self.categories = max(f, 2, groups.patterns.shape[1])
        seen = self._seen(space) if marginals is None else None
        self.register_buffer("marginals", marginals if seen is None else self._marginals(seen))
        self.register_buffer("free", (self.marginals > 0).sum(1) > 1, persistent=False)
        laws = [self.marginals, self.free]
        if config.noise == "graph":
            size = self.marginals.numel()
            self.register_buffer("around", torch.empty(size, size) if seen is None else self._laws_around(seen))
            laws.append(self.around)
        self.noising = NOISES[config.noise](*laws)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.trunk = GraphTransformer(
            nodes=n, operators=f + (structural_size(n) if config.structure else 0), width=width, layers=config.layers, heads=config.heads,
            allowed=space_attention(space),
        )  # fmt: skip
        self.make_heads(width)
        self.joint = JointHead(self.marginals > 0, width, config.joint) if config.joint else None

    def forward(self, z: Tensor, abar: Tensor, condition: Tensor | None = None) -> Tensor:
        """Noisy numbers `z (b, D)` of which a share `abar`, `(b,)` or `(1,)`, is not noise -> log probabilities `(b, D, K)`."""
        n, f, k = self.packing.nodes, self.packing.operators, self.categories
        i, j = self.packing.upper(z.device)
        V = nn.functional.one_hot(z[:, :n], k + 1)[..., :f].float()
        E = V.new_zeros(len(z), n, n)
        E[:, i, j] = self._signed_edges(z[:, n:])
        tokens = torch.cat([V, structural(E)], dim=2) if self.config.structure else V
        context = self.context(self.level(abar), condition)
        h = self.trunk(tokens, E, None, context)
        packed = self.entry_logits(h, V, E, all_edges=False)
        rows, edges, pairs = packed[:, : n * f].unflatten(1, (n, f)), packed[:, n * f :], packed[:, n * f :].index_select(1, self.apart)
        parts = rows, torch.stack([torch.zeros_like(pairs), pairs], dim=2), self._groups.energies(edges)
        logits = torch.cat([nn.functional.pad(part, (0, k - part.shape[2])) for part in parts], dim=1)
        if self.joint is not None:
            logits = logits + self.joint(z, context)
        return (logits + self.noising.alone(z, abar)).clamp_min(IMPOSSIBLE).log_softmax(dim=2)

    def level(self, abar: Tensor) -> Tensor:
        """The noise level that the network is shown, `(b, width)`, or `(1, width)` where it is the same for all rows."""
        return self.time(noise_embedding(((1 - abar) / abar).sqrt().clamp(*LEVELS), self.config.width))

    def numbers(self, batch: ArchBatch) -> Tensor:
        """Architectures as numbers `(b, D)`."""
        operators, edges = self.codes(batch)
        return torch.cat([operators, edges[:, self.apart], self._groups.formed(edges)], dim=1)

    def matrices_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `numbers`: `V (b, n, f)` and `E (b, n, n)`."""
        n = self.packing.nodes
        return self.matrices(x[:, :n], self.expected_edges(nn.functional.one_hot(x[:, n:], self.categories).float()))

    def expected_edges(self, p: Tensor) -> Tensor:
        """Probability of each edge `(b, m)`, from those of the categories of the entries that are edges or groups, `(b, D - n, K)`."""
        cut, k = len(self.apart), self.patterns.shape[1]
        return torch.einsum("bgk,gkm->bm", p[:, cut:, :k], self.patterns).index_copy(1, self.apart, p[:, :cut, 1])

    def _signed_edges(self, z: Tensor) -> Tensor:
        """Edges `(b, m)` of noisy numbers `z (b, D - n)`: 1 there, -1 not there, 0 hidden."""
        there = self.expected_edges(nn.functional.one_hot(z, self.categories + 1)[..., :-1].float())
        seen, cut = (z != self.categories).float(), len(self.apart)
        return 2 * there - (seen[:, cut:] @ self.patterns.amax(1)).index_copy(1, self.apart, seen[:, :cut])

    @property
    def _groups(self) -> EdgeGroups:
        return EdgeGroups(self.patterns, self.offset, self.grouped)

    @classmethod
    def rebuilt(cls, space: SearchSpace, config: Any, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The network of a file, before its weights are set; marginal laws and groups of edges come from the file."""
        del meta
        groups = EdgeGroups(*(tensors[name] for name in EdgeGroups._fields)) if config.edge_groups else None
        return cls(space, config, tensors["marginals"], groups)

    def _seen(self, space: SearchSpace) -> Tensor:
        """The entries of random draws, one-hot, `(DRAWS, D, K)`."""
        x = self.numbers(ArchBatch.of(random_archs(space, DRAWS, seed=0), space))
        return nn.functional.one_hot(x, self.categories).float()

    def _marginals(self, seen: Tensor) -> Tensor:
        """Shares of the categories in what was seen; what is possible is never 0."""
        pairs = torch.stack([self.varying | (self.wiring == 0), self.varying | (self.wiring == 1)], dim=1)[self.apart]
        parts = self.possible, pairs, self.offset == 0
        possible = torch.cat([nn.functional.pad(part, (0, self.categories - part.shape[1])) for part in parts])
        counts = (seen.sum(0) + 1) * possible
        return counts / counts.sum(1, keepdim=True)

    def _laws_around(self, seen: Tensor) -> Tensor:
        """See `GraphDependent`: rows are categories of entries, and a sum over the entries of an architecture is a law of each entry."""
        D, K = self.marginals.shape
        together = torch.einsum("bak,bdc->akdc", seen, seen) + self.marginals  # one draw more by the marginal law, so that nothing is 0
        law = together / together.sum(3, keepdim=True)
        n = self.packing.nodes
        i, j = self.packing.upper(seen.device)
        near = torch.zeros(D, D)
        edges = torch.arange(n, D)
        for end in (i, j):
            near[end, edges] = near[edges, end] = 1
        share = 1 / (1 + near.sum(0))
        law = law * (near * share)[:, None, :, None]
        law += (share[:, None] * self.marginals / D)[None, None]  # all entries together add the marginal law once
        return law.reshape(D * K, D * K)


class JointHead(nn.Module):
    """Adds to every logit what can be counted over all entries at once, given the context; zero before training.

    It reads and writes the possible categories of the entries that vary.

    Args:
        possible: `(D, K)` bool: categories that each entry has in some architecture.
        context: Size of the context.
        hidden: Hidden units.
    """

    shown: Tensor
    made: Tensor

    def __init__(self, possible: Tensor, context: int, hidden: int) -> None:
        super().__init__()
        varies = possible.sum(1, keepdim=True) > 1
        for name, places in (("shown", torch.cat([possible, torch.ones_like(varies)], dim=1)), ("made", possible)):
            self.register_buffer(name, (places & varies).flatten().nonzero()[:, 0], persistent=False)
        self.shape = possible.shape
        self.first = Linear(len(self.shown), hidden)
        self.inner = nn.ModuleList(Linear(hidden, hidden) for _ in range(2))
        self.context = nn.ModuleList(Linear(context, hidden) for _ in range(3))
        self.last = Linear(hidden, len(self.made))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        """Numbers `z (b, D)`, K where hidden, and `context (b, width)` -> `(b, D, K)`."""
        entries, categories = self.shape
        seen = nn.functional.one_hot(z, categories + 1).flatten(1)[:, self.shown].float()
        h = nn.functional.silu(self.first(seen) + self.context[0](context))
        for inner, shown in zip(self.inner, self.context[1:], strict=True):
            h = h + nn.functional.silu(inner(h) + shown(context))
        logits = h.new_zeros(len(z), entries * categories).index_copy(1, self.made, self.last(h))
        return logits.unflatten(1, self.shape)
