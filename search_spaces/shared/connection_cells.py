"""Cells of 4 feature maps whose 6 connections each carry an operation, as in NAS-Bench-201 and TransNAS-Bench-101.

In the graph, operations are nodes: input, the 6 operations in the order of `CONNECTIONS`, output. An operation on `a -> b` has an edge to
every operation on `b -> c`. Therefore the wiring is the same in all architectures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Set
from functools import cache, cached_property

import numpy as np

from diffnag.arch import Arch
from diffnag.protocols import Attention, Decoded, Role
from diffnag.search_spaces.shared.matrices import operator_fault, wiring_fault

CONNECTIONS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Pairs of feature maps (from, to), in the order of the benchmarks' strings."""
INPUT, OUTPUT, FIRST_OPERATION = 0, 1, 2
"""Indices into the operators."""
ROLES: Mapping[str, Set[Role]] = {
    "input": {"input"}, "output": {"output"}, "none": {"blocks"}, "skip_connect": {"passes"}, "nor_conv_1x1": {"layer"},
    "nor_conv_3x3": {"layer", "spatial"}, "avg_pool_3x3": {"pools"},
}  # fmt: skip
"""Operator -> its roles."""


def _wiring() -> tuple[tuple[int, int], ...]:
    """The edges: node 0 is the input, node i + 1 the operation on connection i, node 7 the output."""
    ends = [(0, 0), *CONNECTIONS, (3, 3)]
    return tuple((i, j) for i in range(8) for j in range(i + 1, 8) if ends[i][1] == ends[j][0])


class ConnectionCells:
    """Base class of the spaces of such cells. A subclass adds name, operators, strings, canonical form and networks."""

    operators: tuple[str, ...]
    """Input, output, then the operations."""
    nodes = 8
    attention: Attention = "ancestors"
    edges = _wiring()

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operators without input and output."""
        return self.operators[FIRST_OPERATION:]

    @property
    def roles(self) -> Mapping[str, Set[Role]]:
        """Operator -> its roles."""
        return {operator: ROLES[operator] for operator in self.operators}

    @cached_property
    def constant(self) -> tuple[np.ndarray, np.ndarray]:
        """All of E; in V the rows of input and output, and the columns of input and output, which no operation has."""
        rows = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        rows[[0, 7]] = True
        rows[:, [INPUT, OUTPUT]] = True
        return rows, np.ones((self.nodes, self.nodes), dtype=bool)

    # -- matrices

    def of_operations(self, operations: tuple[int, ...]) -> Arch:
        """The architecture with `operations[i]`, an index into `operation_names`, on connection i."""
        return Arch((INPUT, *(FIRST_OPERATION + op for op in operations), OUTPUT), self.edges)

    def operations(self, arch: Arch) -> tuple[int, ...]:
        """Indices of an architecture's operations: the inverse of `of_operations`."""
        return tuple(op - FIRST_OPERATION for op in arch.ops[1:-1])

    def names(self, arch: Arch) -> tuple[str, ...]:
        """Names of an architecture's operations, in the order of `CONNECTIONS`."""
        return tuple(self.operators[op] for op in arch.ops[1:-1])

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (8, f)` and `E (8, 8)`, float32 in {0, 1}."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (8, f)`, `E (8, 8)`; valid are exactly the encodings of the space's architectures."""
        if fault := operator_fault(V) or wiring_fault(E, _adjacency()):
            return Decoded(None, fault)
        ops = V.argmax(1).tolist()
        for node, op in enumerate(ops):
            if self._misplaced[node, op]:
                return Decoded(None, f"node {node} is {self.operators[op]}")
        return Decoded(Arch(tuple(ops), self.edges), None)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """Read quantised `V (b, 8, f)`, `E (b, 8, 8)`."""
        ops = V.argmax(2)
        one = (V.sum(2) == 1).all(1) & (_adjacency() == E).all((1, 2))
        valid = one & ~self._misplaced[np.arange(self.nodes), ops].any(1)
        return [
            Decoded(Arch.unchecked(tuple(row), self.edges), None) if fine else self.decode(v, e)
            for row, fine, v, e in zip(ops.tolist(), valid.tolist(), V, E, strict=True)
        ]

    @cached_property
    def _misplaced(self) -> np.ndarray:
        """Whether a node cannot have an operator, `(8, f)` bool."""
        found = self.constant[0].copy()
        found[[0, -1], [INPUT, OUTPUT]] = False
        return found

    # -- draws, neighbours, parameters

    def random(self, rng: np.random.Generator) -> Arch:
        """Uniform over all architectures."""
        return self.of_operations(tuple(rng.integers(len(self.operation_names), size=len(CONNECTIONS)).tolist()))

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The architectures that differ in one operation."""
        operations = self.operations(arch)
        return [
            self.of_operations((*operations[:i], op, *operations[i + 1 :]))
            for i in range(len(CONNECTIONS))
            for op in range(len(self.operation_names))
            if op != operations[i]
        ]

    def enumerate(self) -> Iterator[Arch]:
        """All architectures; the operation of the first connection varies slowest."""
        return map(self.of_operations, itertools.product(range(len(self.operation_names)), repeat=len(CONNECTIONS)))

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """Connection, such as `0->1` -> its operations."""
        return {f"{a}->{b}": self.operation_names for a, b in CONNECTIONS}

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """Connection -> operation."""
        return dict(zip(self.parameters, self.names(arch), strict=True))

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these operations: the inverse of `to_parameters`."""
        return self.of_operations(tuple(self.operation_names.index(parameters[name]) for name in self.parameters))


@cache
def _adjacency() -> np.ndarray:
    """E `(8, 8)` of every architecture."""
    return Arch((0,) * 8, ConnectionCells.edges).matrices(nodes=8, operators=1)[1]


def incoming(names: tuple[str, ...]) -> list[list[tuple[str, int]]]:
    """Pairs of operation and source map for each connection into feature map 1, into 2 and into 3."""
    return [
        [(op, a) for op, (a, b) in zip(names, CONNECTIONS, strict=True) if b == target]
        for target in (1, 2, 3)
    ]


@cache
def canonical(names: tuple[str, ...], *, first_skip_is_layer: bool = False) -> str:
    """Key of the function that a cell computes: without dead branches and skips, with sums flattened and sorted; `0` for a dead cell.

    With `first_skip_is_layer`, a skip from the cell's input counts as an operation, as in cells that halve their image.
    """
    sums: list[tuple[str, ...]] = [("x",)]
    for connections in incoming(names):
        terms: list[str] = []
        for op, source in connections:
            if op == "none" or not sums[source]:
                continue
            dissolved = op == "skip_connect" and not (first_skip_is_layer and source == 0)
            terms += sums[source] if dissolved else (f"{op}({'+'.join(sums[source])})",)
        sums.append(tuple(sorted(terms)))
    return "+".join(sums[-1]) or "0"
