"""Graphs in which every node but the last leads to another: a normal order of their nodes, a hash of their class, and draws.

The order is the one in which a stack machine computes the last node: what a node takes stands before it, and of several inputs the one
that takes the longest chain comes first (Sethi & Ullman 1970). So most edges are short, whatever the size of the graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush

import numpy as np

ROUNDS = 3
"""Refinements of the colours after both passes along the edges."""
Graph = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""Operators in topological order, and edges."""


def neighbours_of(nodes: int, edges: Iterable[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    """The inputs of each node, and the nodes that take it."""
    inputs: list[list[int]] = [[] for _ in range(nodes)]
    takers: list[list[int]] = [[] for _ in range(nodes)]
    for i, j in edges:
        inputs[j].append(i)
        takers[i].append(j)
    return inputs, takers


def colours(ops: Sequence[int], inputs: Sequence[Sequence[int]], takers: Sequence[Sequence[int]]) -> list[bytes]:
    """One colour a node by the method of Weisfeiler and Lehman: equal wherever two nodes are alike, in whatever order nodes stand.

    One pass forwards and one backwards carry what is far away, so that a few rounds are enough at any size.
    """
    found = [b""] * len(ops)
    for node, op in enumerate(ops):
        found[node] = _hash(b"%d" % op, [found[i] for i in inputs[node]])
    for node in reversed(range(len(ops))):
        found[node] = _hash(found[node], [found[j] for j in takers[node]])
    for _ in range(ROUNDS):
        found = [
            _hash(_hash(found[node], [found[i] for i in inputs[node]]), [found[j] for j in takers[node]])
            for node in range(len(ops))
        ]
    return found


def graph_hash(ops: Sequence[int], edges: Iterable[tuple[int, int]]) -> str:
    """A hash of the graph that does not depend on the order of its nodes, 32 hexadecimal digits."""
    return _hash(b"", colours(ops, *neighbours_of(len(ops), edges))).hex()


def in_normal_order(ops: Sequence[int], edges: Sequence[tuple[int, int]]) -> Graph:
    """The graph with its nodes in normal order; nodes that do not lead to the last one are left out.

    Where colours do not tell two inputs of a node apart their present order decides. In practice they are then alike.
    """
    inputs, takers = neighbours_of(len(ops), edges)
    height = [0] * len(ops)
    for node, given in enumerate(inputs):
        height[node] = 1 + max((height[i] for i in given), default=0)
    colour = colours(ops, inputs, takers)
    place: dict[int, int] = {}
    stack = [len(ops) - 1]
    while stack:
        node = stack[-1]
        left = [i for i in inputs[node] if i not in place]
        if node in place or not left:
            stack.pop()
            place.setdefault(node, len(place))
        else:
            stack.append(min(left, key=lambda i: (-height[i], ops[i], colour[i], i)))
    order = sorted(place, key=place.__getitem__)
    return tuple([ops[node] for node in order]), tuple(sorted([(place[i], place[j]) for i, j in edges if j in place]))


def input_fault(ops: Sequence[int], edges: Iterable[tuple[int, int]], rules: Mapping[int, tuple[int, int]], names: Sequence[str]) -> str | None:
    """The first node with too few or too many inputs, or that leads nowhere though it is not the last, as a reason; None if there is none.

    `rules` are the fewest and the most inputs of each operator, `names` what operators are called.
    """
    inputs, takers = neighbours_of(len(ops), edges)
    for node, op in enumerate(ops):
        fewest, most = rules[op]
        if not fewest <= len(inputs[node]) <= most:
            asked = str(fewest) if fewest == most else f"{fewest} to {most}"
            return f"node {node} is {names[op]} with {len(inputs[node])} inputs, not {asked}"
        if not takers[node] and node < len(ops) - 1:
            return f"node {node} leads to no other"
    return None


def program_neighbours(ops: tuple[int, ...], edges: tuple[tuple[int, int], ...], rules: Mapping[int, tuple[int, int]]) -> Iterator[Graph]:
    """The graphs with another operator at one node, and those in which a node takes an input or a taker of a node instead of that node.

    Nodes are in a topological order. Every such step can be undone by another.
    """
    inputs, takers = neighbours_of(len(ops), edges)
    for node, op in enumerate(ops):
        for other, (fewest, most) in rules.items():
            if other != op and fewest <= len(inputs[node]) <= most:
                yield (*ops[:node], other, *ops[node + 1 :]), edges
    behind = _behind(takers)
    for i, j in edges:
        for near in (*inputs[i], *takers[i]):
            alone = len(takers[i]) == 1 and near in inputs[i]  # i would lead nowhere
            if near != j and near not in behind[j] and near not in inputs[j] and not alone:
                yield _sorted(ops, [(near if edge == (i, j) else edge[0], edge[1]) for edge in edges])


def _behind(takers: Sequence[Sequence[int]]) -> list[set[int]]:
    """For each node, those that paths from it reach."""
    found: list[set[int]] = [set() for _ in takers]
    for node in reversed(range(len(takers))):
        found[node] = set(takers[node]).union(*(found[j] for j in takers[node]))
    return found


def _sorted(ops: Sequence[int], edges: Sequence[tuple[int, int]]) -> Graph:
    """An acyclic graph in a topological order, nodes as early as their number allows."""
    inputs, takers = neighbours_of(len(ops), edges)
    missing = [len(given) for given in inputs]
    ready = [node for node, count in enumerate(missing) if not count]
    order = []
    while ready:
        order.append(node := heappop(ready))
        for taker in takers[node]:
            missing[taker] -= 1
            if not missing[taker]:
                heappush(ready, taker)
    place = {node: k for k, node in enumerate(order)}
    return tuple([ops[node] for node in order]), tuple([(place[i], place[j]) for i, j in edges])


def random_program(inputs: Mapping[int, tuple[int, int]], nodes: int, rng: np.random.Generator) -> Graph:
    """A random graph of `nodes` nodes in which each operator has as many inputs as it takes, from its fewest to its most.

    Operators are uniform, and so are the inputs among all nodes before, but one of them at least leads nowhere yet. The last node takes
    all that lead nowhere, and is the operator that can take most.
    """
    last = max(inputs, key=lambda op: inputs[op][1])
    ops: list[int] = []
    edges: list[tuple[int, int]] = []
    unused: list[int] = []
    for node in range(nodes - 1):
        free = len(unused) < inputs[last][1] - 1
        some = [op for op, (fewest, _) in inputs.items() if fewest <= node and (free or fewest > 0) and (node or fewest == 0)]
        op = some[rng.integers(len(some))]
        fewest, most = inputs[op]
        count = int(rng.integers(fewest, min(most, node) + 1))
        taken = {unused[rng.integers(len(unused))]} if count else set()
        others = [k for k in rng.permutation(node).tolist() if k not in taken]
        taken |= set(others[: count - len(taken)]) if count else set()
        ops.append(op)
        edges += [(k, node) for k in taken]
        unused = [k for k in unused if k not in taken] + [node]
    ops.append(last)
    return tuple(ops), tuple(sorted([*edges, *[(k, nodes - 1) for k in unused]]))


def _hash(own: bytes, others: list[bytes]) -> bytes:
    return hashlib.md5(own + b"".join(sorted(others)), usedforsecurity=False).digest()
