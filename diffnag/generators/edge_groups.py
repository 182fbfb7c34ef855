"""Edges of a space that demand or exclude each other, and the few patterns in which they occur together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

DRAWS = 10_000
"""Random architectures from which groups are read: what none of them has counts as impossible."""
EXPECTED = 8.0
"""How often a combination would have to occur at least, were two edges independent, for its absence to count as a rule of the space."""
MOST = 64
"""Most patterns of a group; edges that form more stay independent."""


class EdgeGroups(NamedTuple):
    """`g` groups of up to `k` patterns, over the `m = n (n - 1) / 2` edges of the upper triangle."""

    patterns: Tensor
    """`(g, k, m)` in {0, 1}, 0 outside the group."""
    offset: Tensor
    """`(g, k)`: 0, or -inf where a group has fewer patterns."""
    grouped: Tensor
    """`(m,)` bool: edges in a group."""

    @classmethod
    def of(cls, space: SearchSpace) -> EdgeGroups:
        """Read the groups off a space.

        Two edges belong together where one of their four combinations (there or not) never occurs, although it would if they were
        independent. Of two rare edges it would not, and nothing is known of them.
        """
        import networkx

        upper = np.triu_indices(space.nodes, 1)
        there = np.array([space.encode(arch)[1][upper] for arch in random_archs(space, DRAWS, seed=0)])
        (varying,) = np.nonzero((there != there[0]).any(0))
        one = there[:, varying].astype(np.float64)
        ways = [(a.T @ b, np.outer(a.sum(0), b.sum(0)) / DRAWS) for a in (one, 1 - one) for b in (one, 1 - one)]
        bound = networkx.from_numpy_array(np.logical_or.reduce([(seen == 0) & (expected >= EXPECTED) for seen, expected in ways]))
        groups = [varying[sorted(group)] for group in networkx.connected_components(bound) if len(group) > 1]
        found = [(group, kinds) for group in groups if len(kinds := np.unique(there[:, group], axis=0)) <= MOST]
        patterns = np.zeros((len(found), max((len(kinds) for _, kinds in found), default=1), len(upper[0])), dtype=np.float32)
        offset = np.full(patterns.shape[:2], -np.inf, dtype=np.float32)
        for g, (group, kinds) in enumerate(found):
            patterns[g, : len(kinds), group] = kinds.T
            offset[g, : len(kinds)] = 0
        return cls(torch.from_numpy(patterns), torch.from_numpy(offset), torch.from_numpy(patterns.any((0, 1))))

    @classmethod
    def none(cls, edges: int) -> EdgeGroups:
        """No group among so many edges."""
        return cls(torch.zeros(0, 1, edges), torch.zeros(0, 1), torch.zeros(edges, dtype=torch.bool))

    def formed(self, there: Tensor) -> Tensor:
        """Which pattern of each group edges `there (b, m)` in {0, 1} form, int64 `(b, g)`."""
        return self.energies(2.0 * there - 1).argmax(dim=2)

    @property
    def _is_empty(self) -> bool:
        """Whether all edges are independent: the plain formulas are faster."""
        return len(self.patterns) == 0

    def energies(self, logits: Tensor) -> Tensor:
        """Unnormalised log probabilities `(b, g, k)` of the patterns, from logits of the edges `(b, m)`."""
        return torch.einsum("bm,gkm->bgk", logits, self.patterns) + self.offset

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability that each edge is there `(b, m)`, from its logits `(b, m)`: the edges of a group form one of its patterns."""
        if self._is_empty:
            return logits.sigmoid()
        together = torch.einsum("bgk,gkm->bm", self.energies(logits).softmax(dim=2), self.patterns)
        return torch.where(self.grouped, together, logits.sigmoid())

    def log_odds(self, logits: Tensor) -> Tensor:
        """Log odds that each edge is there `(b, m)`, from its logits `(b, m)`, which they are outside of groups."""
        return logits if self._is_empty else self.probabilities(logits).logit(1e-6)

    def likeliest(self, logits: Tensor) -> Tensor:
        """Whether each edge is there `(b, m)` bool: of each group its likeliest pattern."""
        if self._is_empty:
            return logits > 0
        best = torch.nn.functional.one_hot(self.energies(logits).argmax(dim=2), self.patterns.shape[1])
        together = torch.einsum("bgk,gkm->bm", best.to(self.patterns.dtype), self.patterns) > 0
        return torch.where(self.grouped, together, logits > 0)

    def cross_entropy(self, logits: Tensor, there: Tensor) -> Tensor:
        """Minus log probability of edges `there (b, m)` in {0, 1}, given their logits `(b, m)` -> `(b,)`."""
        if self._is_empty:
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, there, reduction="none").sum(dim=1)
        alone = torch.where(self.grouped, 0, torch.nn.functional.softplus(logits)).sum(1)
        return alone + self.energies(logits).logsumexp(dim=2).sum(1) - (logits * there).sum(1)
