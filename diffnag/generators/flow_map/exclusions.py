"""Choices that no architecture of a space has together, and a way to decide all entries that keeps to this."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from diffnag.generators.edge_groups import DRAWS, EXPECTED, EdgeGroups
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

LEAST = 1e-18
"""Probability of a choice that is as good as none, but not excluded."""


class Exclusions:
    """What the choices of an architecture exclude: each operator of a node is one, and each pattern of a group of edges.

    Of the choices that belong together one is made, so that there is a decision for each node and for each group.

    Args:
        pairs: Choices that exclude each other, `(p, 2)`; see `excluded_pairs`.
        nodes: Nodes of the space, whose operators come first.
        operators: Operators of the space.
        groups: Groups of edges, whose patterns follow.
    """

    def __init__(self, pairs: Tensor, nodes: int, operators: int, groups: EdgeGroups) -> None:
        self.decision = decisions(nodes, operators, groups)
        self.excluded = torch.zeros(len(self.decision), len(self.decision), device=pairs.device)
        self.excluded[pairs[:, 0], pairs[:, 1]] = self.excluded[pairs[:, 1], pairs[:, 0]] = 1
        self.belongs = one_hot(self.decision).float()
        self.concerned = (self.excluded @ self.belongs > 0).any(0)

    def contradict(self, chosen: Tensor) -> Tensor:
        """Whether some of the choices `chosen (b, c)` in {0, 1} exclude each other, `(b,)` bool."""
        return ((chosen @ self.excluded) * chosen).any(1)

    def settled(self, log_p: Tensor, chosen: Tensor) -> Tensor:
        """The choices `(b, c)` in {0, 1}, decided one after another, the surest first: each rules out what it excludes.

        `log_p (b, c)` are their log probabilities, `chosen (b, c)` what is decided where nothing excludes anything.
        """
        row = torch.arange(len(log_p), device=log_p.device)
        left = torch.where(log_p.isinf(), 0, log_p.exp().clamp_min(LEAST))
        waiting = self.concerned.expand(len(log_p), -1).clone()
        for _ in range(int(self.concerned.sum())):
            left = left / ((left @ self.belongs) @ self.belongs.T).clamp_min(LEAST**2)
            best = torch.where(waiting[:, self.decision], left, -1).argmax(1)
            decided = self.decision[best]
            chosen = torch.where(self.belongs.T[decided] > 0, one_hot(best, left.shape[1]), chosen)
            left = left * (1 - self.excluded[best])
            waiting[row, decided] = False
        return chosen


def decisions(nodes: int, operators: int, groups: EdgeGroups) -> Tensor:
    """The decision of each choice `(c,)`, int64: first those of the nodes, then those of the groups."""
    many, patterns, _ = groups.patterns.shape
    numbers = torch.arange(nodes + many, device=groups.patterns.device)
    return numbers.repeat_interleave(torch.where(numbers < nodes, operators, patterns))


def excluded_pairs(space: SearchSpace, groups: EdgeGroups) -> Tensor:
    """Pairs of choices `(p, 2)`, int64, that random architectures never have together, although they would if the two were independent."""
    archs = random_archs(space, DRAWS, seed=0)
    V, E = (torch.from_numpy(np.stack(part)) for part in zip(*map(space.encode, archs), strict=True))
    i, j = torch.triu_indices(space.nodes, space.nodes, 1)
    patterns = one_hot(groups.formed(E[:, i, j]), groups.patterns.shape[1]).float()
    chosen = torch.cat([V.flatten(1), patterns.flatten(1)], dim=1)
    expected = torch.outer(chosen.sum(0), chosen.sum(0)) / DRAWS
    never = (chosen.T @ chosen == 0) & (expected >= EXPECTED)
    decision = decisions(space.nodes, len(space.operators), groups)
    return (never & (decision[:, None] != decision)).triu().nonzero()
