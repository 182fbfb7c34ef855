"""Moves from a network of `network-zoo` to networks close by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diffnag.search_spaces.network_zoo.operators import NAMES, TABLE, Operator
from diffnag.search_spaces.network_zoo.shapes import IMAGES, Shape, shape_behind, shapes_of

Graph = tuple[list[int], list[list[int]]]
"""Operators, and the nodes that each node reads."""
ADDED = tuple(map(NAMES.index, ("conv3-act", "conv1-act", "depthwise3", "gate", "window-attention")))
"""Layers that a move may add or remove; they keep the shape of their map."""


def _alike(one: Operator, other: Operator) -> bool:
    """Whether one operator may take the place of another: both change the shape of their map alike, or they differ in one property."""
    if one.inputs != other.inputs or {one.kind, other.kind} & {"input", "output", "absent"} or one == other:
        return False
    differing = sum(getattr(one, name) != getattr(other, name) for name in ("kernel", "stride", "step", "active"))
    halves = {one.kind, other.kind} <= {"first", "second"}
    same = (one.stride, one.step) == (other.stride, other.step) and not {one.kind, other.kind} & {"first", "second"}
    return halves or same or (one.kind == other.kind and differing == 1)


ALIKE = [[op for op, other in enumerate(TABLE) if _alike(one, other)] for one in TABLE]
"""Operators that may take the place of each."""


def moves(ops: Sequence[int], reads: Sequence[Sequence[int]], *, most: int) -> Iterator[Graph]:
    """Networks one move away, of at most `most` nodes, in a fixed order; a network may come twice."""
    shapes = shapes_of(ops, reads)
    assert not isinstance(shapes, str), shapes
    yield from _replaced(ops, reads, shapes)
    yield from _rewired(ops, reads, shapes)
    if len(ops) < most:
        yield from _longer(ops, reads, shapes)
    yield from _shorter(ops, reads)


def _replaced(ops: Sequence[int], reads: Sequence[Sequence[int]], shapes: Sequence[Shape]) -> Iterator[Graph]:
    """Networks with another operator at one node."""
    for node in range(1, len(ops) - 1):
        inputs = [shapes[source] for source in reads[node]]
        for op in ALIKE[ops[node]]:
            behind = shape_behind(TABLE[op], inputs)
            if isinstance(behind, Shape) and (behind == shapes[node] or _fits(ops, reads, shapes, node, behind)):
                yield [*ops[:node], op, *ops[node + 1 :]], list(map(list, reads))


def _fits(ops: Sequence[int], reads: Sequence[Sequence[int]], shapes: Sequence[Shape], node: int, behind: Shape) -> bool:
    """Whether all nodes behind `node` still take their inputs if it gives the shape `behind`."""
    changed = {node: behind}
    for user in range(node + 1, len(ops) - 1):
        if any(source in changed for source in reads[user]):
            shape = shape_behind(TABLE[ops[user]], [changed.get(source, shapes[source]) for source in reads[user]])
            if isinstance(shape, str):
                return False
            if shape != shapes[user]:
                changed[user] = shape
    return True


def _rewired(ops: Sequence[int], reads: Sequence[Sequence[int]], shapes: Sequence[Shape]) -> Iterator[Graph]:
    """Networks in which one node that joins maps reads one map more, or one less that others read too."""
    used = [0] * len(ops)
    for sources in reads:
        for source in sources:
            used[source] += 1
    for node, sources in enumerate(reads):
        fewest, most = TABLE[ops[node]].inputs
        if most == 1:
            continue
        options = [[source for source in sources if source != left] for left in sources if used[left] > 1 and len(sources) > fewest]
        if len(sources) < most:
            options += [sorted([*sources, source]) for source in range(1, node) if source not in sources and shapes[source] != IMAGES]
        for wanted in options:
            shape = shape_behind(TABLE[ops[node]], [shapes[source] for source in wanted])
            if isinstance(shape, Shape) and (shape == shapes[node] or _fits(ops, reads, shapes, node, shape)):
                yield list(ops), [wanted if other == node else list(old) for other, old in enumerate(reads)]


def _longer(ops: Sequence[int], reads: Sequence[Sequence[int]], shapes: Sequence[Shape]) -> Iterator[Graph]:
    """Networks with one layer more between a node and one node that reads it; the layer comes directly behind the node that it reads."""
    for user, sources in enumerate(reads):
        for source in sources:
            for op in ADDED:
                if isinstance(shape_behind(TABLE[op], [shapes[source]]), Shape) and shapes[source] != IMAGES:
                    new = source + 1
                    moved = [[old + (old >= new) for old in olds] for olds in reads]
                    moved[user] = sorted(new if old == source else old + (old >= new) for old in sources)
                    yield [*ops[:new], op, *ops[new:]], [*moved[:new], [source], *moved[new:]]


def _shorter(ops: Sequence[int], reads: Sequence[Sequence[int]]) -> Iterator[Graph]:
    """Networks with one layer less: the inverse of `_longer`."""
    for node in range(2, len(ops) - 1):
        users = [user for user, sources in enumerate(reads) if node in sources]
        if ops[node] in ADDED and list(reads[node]) == [node - 1] and len(users) == 1 and node - 1 not in reads[users[0]]:
            joined = [sorted({node - 1 if old == node else old - (old > node) for old in olds}) for olds in reads]
            yield [*ops[:node], *ops[node + 1 :]], [*joined[:node], *joined[node + 1 :]]
