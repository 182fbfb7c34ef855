"""What the next node of a network may be while it is built node by node, and random networks that are built so."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from diffnag.search_spaces.network_zoo.operators import ABSENT, INPUT, MOST_INPUTS, NAMES, OUTPUT, TABLE
from diffnag.search_spaces.network_zoo.shapes import COARSEST, IMAGES, UNIT, Shape, shape_behind

ADD, CONCAT, POOL = map(NAMES.index, ("add", "concat", "avgpool-s2"))
UNARY = [op for op, operator in enumerate(TABLE) if operator.inputs == (1, 1) and op != OUTPUT]
JOINS = [op for op, operator in enumerate(TABLE) if operator.inputs[1] > 1]


class Growth:
    """A network of at most `nodes` nodes that grows in topological order, and begins with its input.

    An operator and sources that `operators` and `sources` allow never break a rule, and a way to an output always remains.
    """

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.ops, self.reads, self.shapes = [INPUT], [()], [IMAGES]
        self.unread = {0}
        """Nodes that nothing reads so far."""

    @property
    def done(self) -> bool:
        """Whether the output is there."""
        return self.ops[-1] == OUTPUT

    def operators(self) -> np.ndarray:
        """Bool `(f,)`: operators that the next node may have."""
        allowed = np.zeros(len(TABLE), dtype=bool)
        for op in (*UNARY, *JOINS, OUTPUT):
            allowed[op] = bool(self.sources(op).any())
        return allowed

    def sources(self, op: int, chosen: Sequence[int] = ()) -> np.ndarray:
        """Bool `(k,)`: which of the k nodes the next node may read if it has the operator `op` and reads the nodes `chosen` already.

        A node that joins maps must read one more if `enough` denies that it has all.
        """
        shapes, count = self.shapes, len(self.ops)
        if op == OUTPUT:
            fits = [not chosen and node in self.unread and len(self.unread) == 1 and node > 0 for node in range(count)]
        elif op in (INPUT, ABSENT) or len(chosen) >= TABLE[op].inputs[1]:
            fits = [False] * count
        elif TABLE[op].inputs == (1, 1):
            known = {shape: isinstance(shape_behind(TABLE[op], [shape]), Shape) for shape in set(shapes)}
            fits = [known[shape] and self._leaves_a_way([node], shape_behind(TABLE[op], [shape])) for node, shape in enumerate(shapes)]
        else:
            fits = self._partners(op, chosen)
        return np.array(fits)

    def enough(self, op: int, chosen: Sequence[int]) -> bool:
        """Whether the next node may have the operator `op` and read the nodes `chosen` alone."""
        fewest, most = TABLE[op].inputs
        if not fewest <= len(chosen) <= most:
            return False
        shape = shape_behind(TABLE[op], [self.shapes[node] for node in chosen])
        return op == OUTPUT or self._leaves_a_way(chosen, shape)

    def add(self, op: int, sources: Sequence[int]) -> None:
        """Let the next node have the operator `op` and read `sources`; raises `ValueError` if that breaks a rule."""
        shape = shape_behind(TABLE[op], [self.shapes[node] for node in sources])
        if isinstance(shape, str):
            raise ValueError(f"node {len(self.ops)} {shape}")
        self.ops.append(op)
        self.reads.append(tuple(sorted(sources)))
        self.shapes.append(shape)
        self.unread -= set(sources)
        self.unread.add(len(self.ops) - 1)

    def closing(self) -> tuple[int, list[int]]:
        """The next node on the shortest way to an output: it pools the largest map that nothing reads, joins maps, or is the output."""
        ends = sorted(self.unread)
        if len(ends) == 1:
            return OUTPUT, ends
        fine = min(self.shapes[node].halvings for node in ends)
        finest = [node for node in ends if self.shapes[node].halvings == fine]
        if len(finest) == 1:
            return POOL, finest
        by_width = [[node for node in finest if self.shapes[node] == self.shapes[first]][:MOST_INPUTS] for first in finest]
        equal = max(by_width, key=len)
        return (ADD, equal) if len(equal) > 1 else (CONCAT, finest[:MOST_INPUTS])

    def _partners(self, op: int, chosen: Sequence[int]) -> list[bool]:
        """Nodes that may be joined with those chosen."""
        shapes = self.shapes
        if chosen:
            return [
                node not in chosen and shape != IMAGES
                and isinstance(behind := shape_behind(TABLE[op], [*(shapes[one] for one in chosen), shape]), Shape)
                and self._leaves_a_way([*chosen, node], behind, joining=MOST_INPUTS - len(chosen) - 1)
                for node, shape in enumerate(shapes)
            ]  # fmt: skip
        distinct = set(shapes) - {IMAGES}
        paired = {
            shape: any(
                isinstance(shape_behind(TABLE[op], [shape, other]), Shape) for other in distinct if other != shape or shapes.count(shape) > 1
            )
            for shape in distinct
        }  # fmt: skip
        return [
            paired.get(shape, False) and self._leaves_a_way([node], shape, joining=MOST_INPUTS - 1) for node, shape in enumerate(shapes)
        ]

    def _leaves_a_way(self, sources: Collection[int], behind: Shape | str, *, joining: int = 0) -> bool:
        """Whether an output can still be reached once the next node reads `sources`; up to `joining` sources more may follow."""
        left = self.nodes - len(self.ops) - 1
        ends = self.unread - set(sources)
        if left > 2 * len(ends) + COARSEST + 1:  # each end is pooled or joined
            return True
        shapes = [self.shapes[node] for node in ends] + ([behind] if isinstance(behind, Shape) else [])
        spread = max(shape.halvings for shape in shapes) - min(shape.halvings for shape in shapes)
        return left >= max(0, len(ends) - joining) + spread + 1


def random_growth(nodes: int, rng: np.random.Generator, *, most: int) -> Growth:
    """A random network of about 4 to `most` nodes: each node has a random operator that the rules allow, and reads random nodes.

    Nodes that nothing reads are preferred, and joined at last. Widths may double where sides are halved, as in real networks: wide
    maps at full resolution would take minutes an image.
    """
    growth, wanted = Growth(nodes), int(rng.integers(3, most))
    while not growth.done:
        op, sources = _random_node(growth, rng) if len(growth.ops) < wanted else growth.closing()
        behind = shape_behind(TABLE[op], [growth.shapes[node] for node in sources])
        if len(growth.ops) >= wanted or isinstance(behind, Shape) and behind.width <= UNIT << behind.halvings:
            growth.add(op, sources)
    return growth


def _random_node(growth: Growth, rng: np.random.Generator) -> tuple[int, list[int]]:
    """A random operator but the output, and what it reads."""
    allowed = growth.operators()
    allowed[OUTPUT] = False
    op = int(rng.choice(np.flatnonzero(allowed)))
    chosen: list[int] = []
    while not growth.enough(op, chosen) or (len(chosen) == 1 and TABLE[op].inputs[0] > 1):
        fits = np.flatnonzero(growth.sources(op, chosen))
        ends = [node for node in fits if node in growth.unread]
        chosen.append(int(rng.choice(ends if ends and rng.random() < 0.8 else fits)))
    return op, chosen
