"""What the next node of a network may be while it is built node by node, and random networks that are built so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from diffnag.search_spaces.network_zoo.operators import INPUT, MOST_INPUTS, NAMES, OUTPUT, TABLE
from diffnag.search_spaces.network_zoo.shapes import COARSEST, IMAGES, UNIT, WIDEST, Shape, shape_behind

ADD, CONCAT, POOL, NARROW = map(NAMES.index, ("add", "concat", "avgpool-s2", "conv1-d6"))
UNARY = [op for op, operator in enumerate(TABLE) if operator.inputs == (1, 1) and op != OUTPUT]
JOINS = [op for op, operator in enumerate(TABLE) if operator.inputs[1] > 1]


@cache
def _behind(op: int, shape: Shape) -> Shape | None:
    """Shape behind an operator of one input, None where it does not take it."""
    found = shape_behind(TABLE[op], [shape])
    return found if isinstance(found, Shape) else None


class Growth:
    """A network of at most `nodes` nodes that grows in topological order and begins with its input.

    What `operators` and `sources` allow never breaks a rule, and leaves a way to an output. The sources of a node are named one after the
    other, the latest first.
    """

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.ops, self.shapes = [INPUT], [IMAGES]
        self.reads: list[tuple[int, ...]] = [()]
        self.unread = {0}
        """Nodes that nothing reads so far."""

    @property
    def done(self) -> bool:
        """Whether the output is there."""
        return self.ops[-1] == OUTPUT

    def operators(self) -> np.ndarray:
        """Bool `(f,)`: operators that the next node may have."""
        allowed = np.zeros(len(TABLE), dtype=bool)
        allowed[OUTPUT] = len(self.ops) > 1 and len(self.unread) == 1
        if self._roomy():
            counts = Counter(self.shapes)
            if len(self.ops) > 1:  # the stem alone reads the images
                del counts[IMAGES]
            allowed[UNARY] = [any(_behind(op, shape) is not None for shape in counts) for op in UNARY]
            allowed[JOINS] = any(count > 1 for count in counts.values())
            allowed[CONCAT] = any(
                one.width + other.width <= WIDEST
                for one in counts for other in counts if one.halvings == other.halvings and (one != other or counts[one] > 1)
            )  # fmt: skip
        else:
            for op in (*UNARY, *JOINS):
                allowed[op] = bool(self.sources(op).any())
        return allowed

    def sources(self, op: int, chosen: Sequence[int] = ()) -> np.ndarray:
        """Bool `(k,)`: which of the k nodes the next node may read besides `chosen`, if it has the operator `op`.

        Whether it may also read no more is what `enough` returns.
        """
        allowed = np.zeros(len(self.ops), dtype=bool)
        if op == OUTPUT:
            allowed[list(self.unread)] = not chosen and len(self.unread) == 1
            allowed[0] = False
        elif len(chosen) < TABLE[op].inputs[1]:
            if TABLE[op].inputs == (1, 1):
                known = {shape: _behind(op, shape) is not None for shape in set(self.shapes)}
                allowed[:] = [known[shape] for shape in self.shapes]
            else:
                allowed[:] = self._partners(op, chosen)
            allowed[0] &= len(self.ops) == 1  # the stem alone reads the images
            if not self._roomy():
                self._keep_a_way(op, chosen, allowed)
        return allowed

    def enough(self, op: int, chosen: Sequence[int]) -> bool:
        """Whether the next node may have the operator `op` and read the nodes `chosen` alone."""
        fewest, most = TABLE[op].inputs
        return fewest <= len(chosen) <= most and (op == OUTPUT or self._fits(op, chosen))

    def add(self, op: int, sources: Sequence[int]) -> None:
        """Let the next node have the operator `op` and read `sources`; raises `ValueError` if that breaks a rule of shapes."""
        shape = shape_behind(TABLE[op], [self.shapes[node] for node in sources])
        if isinstance(shape, str):
            raise ValueError(f"node {len(self.ops)} {shape}")
        self.ops.append(op)
        self.reads.append(tuple(sorted(sources)))
        self.shapes.append(shape)
        self.unread -= set(sources)
        self.unread.add(len(self.ops) - 1)

    def closing(self) -> tuple[int, list[int]]:
        """The next node on a short way to an output: it pools the largest map that nothing reads, joins two maps, or is the output."""
        ends = sorted(self.unread, reverse=True)
        if len(ends) == 1:
            return OUTPUT, ends
        finest = [node for node in ends if self.shapes[node].halvings == min(self.shapes[end].halvings for end in ends)]
        if len(finest) == 1:
            return POOL, finest
        equal = max(([node for node in finest if self.shapes[node] == self.shapes[one]] for one in finest), key=len)
        if len(equal) > 1:
            return ADD, equal[:MOST_INPUTS]
        narrowest = sorted(finest, key=lambda node: self.shapes[node].width)[:2]
        if sum(self.shapes[node].width for node in narrowest) <= WIDEST:
            return CONCAT, sorted(narrowest, reverse=True)
        return NARROW, narrowest[1:]

    def _partners(self, op: int, chosen: Sequence[int]) -> np.ndarray:
        """Bool `(k,)`: nodes that may be joined with those chosen, or with a node before them if none is."""
        widths, halvings = np.array(self.shapes).T
        if chosen:
            fits = halvings == halvings[chosen[0]]
            fits &= widths + widths[list(chosen)].sum() <= WIDEST if op == CONCAT else widths == widths[chosen[0]]
            fits[min(chosen) :] = False
            return fits & (widths > 0)
        pairs = halvings[:, None] == halvings
        pairs &= widths[:, None] + widths <= WIDEST if op == CONCAT else widths[:, None] == widths
        return np.tril(pairs & (widths > 0), -1).any(1)

    def _roomy(self) -> bool:
        """Whether so many slots are left that any node may come next."""
        return self.nodes - len(self.ops) > 3 * (len(self.unread) + 1) + COARSEST

    def _keep_a_way(self, op: int, chosen: Sequence[int], allowed: np.ndarray) -> None:
        """Deny nodes, in place, after which the slots might not be enough. Those that others read may not be joined first."""
        known: dict[Shape, bool] = {}
        for node in np.flatnonzero(allowed).tolist():
            if node in self.unread:
                allowed[node] = self._leaves_a_way(op, [*chosen, node])
            else:
                shape = self.shapes[node]
                if shape not in known:
                    known[shape] = len(chosen) + 1 >= TABLE[op].inputs[0] and self._fits(op, [*chosen, node])
                allowed[node] = known[shape]

    def _leaves_a_way(self, op: int, chosen: Sequence[int]) -> bool:
        """Whether a network whose next node reads `chosen` fits the slots, perhaps with all others that nothing reads and that it may read."""
        wanted, (fewest, most) = list(chosen), TABLE[op].inputs
        while not (len(wanted) >= fewest and self._fits(op, wanted)):
            if len(wanted) == most or not (fits := [node for node in np.flatnonzero(self._partners(op, wanted)).tolist() if node in self.unread]):
                return False
            wanted.append(fits[-1])
        return True

    def _fits(self, op: int, chosen: Sequence[int]) -> bool:
        """Whether a network whose next node reads `chosen` alone fits the slots."""
        shape = shape_behind(TABLE[op], [self.shapes[node] for node in chosen])
        if isinstance(shape, str):
            return False
        return self._roomy() or self.nodes - len(self.ops) - 1 >= _steps([*(self.shapes[node] for node in self.unread - set(chosen)), shape])


def _steps(ends: Sequence[Shape]) -> int:
    """Nodes, at most, by which `Growth.closing` joins maps that nothing reads and ends in the output.

    Each of its steps makes this number smaller: two maps become one, which may be wide, a map is pooled, or a wide one is narrowed.
    """
    if len(ends) == 1:
        return 1
    halvings = [shape.halvings for shape in ends]
    wide = sum(2 * shape.width > WIDEST for shape in ends)
    return 2 * len(ends) - 1 + max(halvings) - min(halvings) + wide


def random_growth(nodes: int, rng: np.random.Generator, *, most: int) -> Growth:
    """A random network of about 4 to `most` nodes: each node has a random operator that the rules allow, and reads random nodes.

    Nodes that nothing reads are preferred, and joined at last. Widths may double where sides are halved, as in real networks: wide maps at
    full resolution would take minutes an image.
    """
    growth, wanted = Growth(nodes), int(rng.integers(3, most))
    while not growth.done:
        goes_on = len(growth.ops) < wanted and growth._roomy()
        op, sources = _random_node(growth, rng) if goes_on else growth.closing()
        behind = shape_behind(TABLE[op], [growth.shapes[node] for node in sources])
        if not goes_on or (isinstance(behind, Shape) and behind.width <= UNIT << behind.halvings):
            growth.add(op, sources)
    return growth


def _random_node(growth: Growth, rng: np.random.Generator) -> tuple[int, list[int]]:
    """A random operator but the output, and what it reads."""
    allowed = growth.operators()
    allowed[OUTPUT] = False
    op = int(rng.choice(np.flatnonzero(allowed)))
    chosen: list[int] = []
    while not growth.enough(op, chosen):
        fits = np.flatnonzero(growth.sources(op, chosen))
        ends = [node for node in fits if node in growth.unread]
        chosen.append(int(rng.choice(ends if ends and rng.random() < 0.8 else fits)))
    return op, chosen
