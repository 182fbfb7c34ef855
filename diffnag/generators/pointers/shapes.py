"""Shapes of what nodes give, as the networks of the family `pointers` see them: for spaces that say shapes, beside operators and edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffnag.protocols import TracksShapes

BUCKETS = 64
"""Buckets of a number: quarters of an octave, so that all up to 50,000 have one; the first is for shapes that are not known."""
UNKNOWN = -1


class Shapes(nn.Module):
    """Vectors of the shapes of nodes, and which nodes have the same.

    Args:
        space: Says the shape that a node gives, some numbers.
        width: Size of the vectors.
        tops: Nodes that nothing takes yet, of which the shapes are seen.
    """

    def __init__(self, space: TracksShapes, width: int, tops: int) -> None:
        super().__init__()
        self._space, count = space, space.shape_numbers
        self.own = nn.ModuleList(nn.Embedding(BUCKETS, width) for _ in range(count))
        self.tops = nn.ModuleList(nn.Embedding(BUCKETS, width) for _ in range(count * tops))
        self.alike = nn.Embedding(2**count, width)
        self.relations = nn.Linear(width, 2 * 2**count)

    def behind(self, op: int, inputs: Sequence[Sequence[int]]) -> Sequence[int]:
        """Shape of what a node with the operator `op` gives; `UNKNOWN` throughout where it does not take inputs of such shapes."""
        wrong = any(UNKNOWN in shape for shape in inputs)
        found = None if wrong else self._space.shape_behind(op, [tuple(shape) for shape in inputs])
        return found or [UNKNOWN] * self._space.shape_numbers

    def unknown(self, b: int, n: int, device: torch.device) -> Tensor:
        """Shapes `(b, n, p)` of nodes that are not there yet."""
        return torch.full((b, n, self._space.shape_numbers), UNKNOWN, device=device)

    def next(self, own: Tensor, taken: Tensor, shapes: Tensor) -> Tensor:
        """Shapes `(r, p)` of nodes with the operators `own (r,)` that take the nodes `taken (r, m)`, bool; `shapes (r, n, p)` are there."""
        inputs: list[list[list[int]]] = [[] for _ in range(len(own))]
        rows, sources = taken.nonzero().unbind(1)
        for row, shape in zip(rows.tolist(), shapes[rows, sources].tolist(), strict=True):
            inputs[row].append(shape)
        return torch.tensor([self.behind(op, given) for op, given in zip(own.tolist(), inputs, strict=True)], device=own.device)

    def every(self, ops: Tensor, E: Tensor) -> Tensor:
        """Shapes `(b, n, p)` of all nodes in graphs `ops (b, n)`, `E (b, n, n)`."""
        found = []
        for operators, taken in zip(ops.tolist(), E.transpose(1, 2).cpu(), strict=True):
            shapes: list[Sequence[int]] = []
            inputs: list[list[int]] = [[] for _ in operators]
            for node, source in taken.nonzero().tolist():
                inputs[node].append(source)
            for op, sources in zip(operators, inputs, strict=True):
                shapes.append(self.behind(op, [shapes[source] for source in sources]))
            found.append(shapes)
        return torch.tensor(found, device=ops.device)

    def token(self, own: Tensor) -> Tensor:
        """Shapes `(b, q, p)` as vectors `(b, q, width)`."""
        return sum((table(number) for table, number in zip(self.own, _buckets(own).unbind(2), strict=True)), start=torch.zeros(()))

    def state(self, tops: Sequence[Tensor]) -> Tensor:
        """Vector `(b, q, width)` of the shapes `(b, q, p)` of the latest nodes that nothing takes yet."""
        numbers = [number for top in tops for number in _buckets(top).unbind(2)]
        return self.alike(_relation(tops[0], tops[1])) + sum(table(number) for table, number in zip(self.tops, numbers, strict=True))

    def scores(self, query: Tensor, shapes: Tensor, reference: Tensor, first: Tensor) -> Tensor:
        """Scores `(b, d, n)` of candidates with `shapes (b, n, p)`, by which of their numbers those of nodes `reference (b, d)` have too.

        `first (b, d, 1)` says of which decisions the reference is the node before, and of which it is an input that was chosen.
        """
        theirs = shapes.gather(1, reference[..., None].expand(-1, -1, shapes.shape[2]))
        relation = _relation(shapes[:, None], theirs[:, :, None]) + first * 2 ** shapes.shape[2]
        return self.relations(query).gather(2, relation)


def _buckets(numbers: Tensor) -> Tensor:
    """Buckets of whole numbers from `UNKNOWN` on."""
    return torch.where(numbers == UNKNOWN, 0, 1 + (4 * (1 + numbers).clamp_min(1).float().log2()).round().long()).clamp_max(BUCKETS - 1)


def _relation(one: Tensor, other: Tensor) -> Tensor:
    """Which of the numbers `(..., p)` are equal, as one number `(...)`."""
    bits = 2 ** torch.arange(one.shape[-1], device=one.device)
    return ((one == other) * bits).sum(-1)
