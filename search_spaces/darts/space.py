"""The DARTS space (Liu et al., ICLR 2019, section 2.1) as in NAS-Bench-301 (Siems et al., 2020): a normal and a reduction cell.

A cell has two inputs, states 0 and 1, and computes states 2 to 5. Each is the sum of two operations on two different earlier states. The
output of the cell is the concatenation of states 2 to 5. There are (180 * 7^8)^2, about 1e18, architectures.

Both cells together are one graph. Operations are nodes, as in `nasbench201`: an operation that reads a state has edges from both
operations whose sum that state is. The normal cell has nodes 0 and 1 (its inputs) and 2 to 9 (two operations for each state). The
reduction cell reads the outputs of the last two normal cells: nodes 10 and 11, each with edges from all of nodes 2 to 9. Nodes 12 to 19
are its operations and have edges to node 20, the output. The first of two operations of a state reads the earlier state, so that each
architecture is exactly one graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import Arch
from diffnag.protocols import Attention, Decoded, Picture, Role, Size
from diffnag.search_spaces.darts.genotype import CELLS, OPERATIONS, STATES, Cell, Genotype, by_state, computed, read_genotype
from diffnag.search_spaces.shared.matrices import operator_fault, wiring_fault

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT, FIRST_OPERATION = 0, 1, 2
"""Indices into the operators."""
FIRST_NODE = (0, 10)
"""First node of each cell; a cell has two inputs, then eight operations."""
LAST = 20
"""The output node."""
BITS = 2 ** np.arange(LAST + 1)
"""A column of E as one number."""
OUTPUTS = ((10, 11), (LAST,))
"""Nodes to which all operations of each cell lead."""
FIXED: Mapping[int, int] = {0: INPUT, 1: INPUT, 10: OUTPUT, 11: OUTPUT, LAST: OUTPUT}
"""Node -> operator, for the nodes that are not operations."""


class DARTS:
    """The search space `darts`: 21 nodes, 9 operators."""

    name = "darts"
    nodes = LAST + 1
    operators: tuple[str, ...] = ("input", "output", *OPERATIONS)
    parts = (*[0] * FIRST_NODE[1], *[1] * (LAST + 1 - FIRST_NODE[1]))
    roles: Mapping[str, Set[Role]] = {
        "input": {"input"}, "output": {"output"}, "max_pool_3x3": {"pools"}, "avg_pool_3x3": {"pools"}, "skip_connect": {"passes"},
        "sep_conv_3x3": {"layer", "spatial"}, "sep_conv_5x5": {"layer", "spatial"},
        "dil_conv_3x3": {"layer", "spatial"}, "dil_conv_5x5": {"layer", "spatial"},
    }  # fmt: skip
    attention: Attention = "full"
    datasets: Mapping[str, tuple[int, int]] = {"cifar10": (10, 32)}
    skeletons = ((8, 1), (16, 1), (16, 2), (32, 2), (36, 6))

    def __init__(self) -> None:
        rows = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        rows[list(FIXED)] = True
        rows[:, [INPUT, OUTPUT]] = True
        wiring = np.ones((self.nodes, self.nodes), dtype=bool)
        for number, place in itertools.product(range(2), range(2, 8)):  # place 0 and 1 are the operations of state 2, which have no choice
            later = place % 2  # the second of two operations reads the later state
            for state in range(later, STATES[place // 2] - 1 + later):
                wiring[_nodes_of(state, number), FIRST_NODE[number] + 2 + place] = False
        self.constant = (rows, wiring)
        self._possible = ~rows
        self._possible[list(FIXED), list(FIXED.values())] = True

    # -- strings and matrices

    def of_cells(self, normal: Cell, reduce: Cell) -> Arch:
        """The architecture of two cells; the two pairs of a state may come in either order."""
        ops: list[int] = []
        edges: tuple[tuple[int, int], ...] = ()
        for number, cell in enumerate((normal, reduce)):
            pairs = list(itertools.chain(*by_state(cell)))
            ops += [FIXED[FIRST_NODE[number]]] * 2 + [FIRST_OPERATION + op for op, _ in pairs]
            edges += _edges(number, tuple(state for _, state in pairs))
        return Arch((*ops, OUTPUT), edges)

    def cells(self, arch: Arch) -> tuple[Cell, Cell]:
        """The normal and the reduction cell: the inverse of `of_cells`."""
        read = {j: i for i, j in reversed(arch.edges)}  # the first source of each node, as edges are in order
        normal, reduce = (
            tuple((arch.ops[node] - FIRST_OPERATION, _state_of(read[node], number)) for node in range(first + 2, first + 10))
            for number, first in enumerate(FIRST_NODE)
        )
        return normal, reduce

    def genotype(self, arch: Arch) -> Genotype:
        """The architecture in the common notation, which other libraries accept."""
        return Genotype.of(*self.cells(arch))

    def to_str(self, arch: Arch) -> str:
        """The text `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=[...], reduce_concat=[2, 3, 4, 5])`."""
        return repr(self.genotype(arch))

    def from_str(self, text: str) -> Arch:
        """Parse such a text, the two operations of a state in either order; `UserError` names the rule that the text breaks."""
        return self.of_cells(*read_genotype(text))

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (21, 9)` and `E (21, 21)`, float32 in {0, 1}."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (21, 9)`, `E (21, 21)`; for an invalid graph the reason is returned."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = V.argmax(1).tolist()
        for node, op in enumerate(ops):
            if (op if op < FIRST_OPERATION else None) != FIXED.get(node):
                return Decoded(None, f"node {node} is {self.operators[op]}")
        cells: list[Cell] = []
        for number, first in enumerate(FIRST_NODE):
            cell: list[tuple[int, int]] = []
            for node in range(first + 2, first + 10):
                state = _state_read(np.flatnonzero(E[:, node]).tolist(), node, number)
                if state is None:
                    return Decoded(None, f"node {node} does not read one input or both operations of one earlier state of its cell")
                if (node - first) % 2 and state <= cell[-1][1]:
                    return Decoded(None, f"nodes {node - 1} and {node} read states {cell[-1][1]} and {state}, not one and a later one")
                cell.append((ops[node] - FIRST_OPERATION, state))
            cells.append(tuple(cell))
        arch = self.of_cells(*cells)
        if fault := wiring_fault(E, self.encode(arch)[1]):
            return Decoded(None, fault)
        return Decoded(arch, None)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """Read quantised `V (b, 21, 9)`, `E (b, 21, 21)`."""
        ops = V.argmax(2)
        found = np.einsum("i,bij->bj", BITS, E)[:, :, None] == _columns()
        states = found.argmax(2)[:, [*range(2, 10), *range(12, LAST)]]
        valid = (V.sum(2) == 1).all(1) & self._possible[np.arange(self.nodes), ops].all(1) & found.any(2).all(1)
        valid &= (states[:, ::2] < states[:, 1::2]).all(1)
        return [
            Decoded(Arch.unchecked(tuple(row), _edges(0, tuple(read[:8])) + _edges(1, tuple(read[8:]))), None) if fine else self.decode(v, e)
            for row, read, fine, v, e in zip(ops.tolist(), states.tolist(), valid.tolist(), V, E, strict=True)
        ]

    def picture(self, arch: Arch) -> Picture:
        """Both cells side by side as in the paper, with states as words and the operations between them as boxes."""
        texts: list[str] = []
        edges: list[tuple[int, int]] = []
        panels: list[str] = []
        for name, cell in zip(("normal cell", "reduction cell"), self.cells(arch), strict=True):
            first = len(texts)
            texts += ["$c_{k-2}$", "$c_{k-1}$", "0", "1", "2", "3", "$c_k$", *(OPERATIONS[op] for op, _ in cell)]
            for place, (_, state) in enumerate(cell):
                edges += [(first + state, first + 7 + place), (first + 7 + place, first + STATES[place // 2])]
            edges += [(first + state, first + 6) for state in STATES]
            panels += [name] * (len(texts) - first)
        return Picture(tuple(texts), tuple(edges), tuple(panels))

    # -- identity

    def canonical(self, arch: Arch) -> str:
        """Key of the function that the cells compute: without identities, with sums and the output states sorted.

        The order of the output states does not matter, as a 1x1 convolution reads them. A skip connection of the reduction cell is an
        identity only between the states that it computes: from the inputs it halves the map.
        """
        normal, reduce = self.cells(arch)
        return f"{computed(normal, skips_from=0)};{computed(reduce, skips_from=2)}"

    # -- draws, neighbours, parameters

    def random(self, rng: np.random.Generator) -> Arch:
        """Uniform over the space."""
        return self.of_cells(*(
            tuple(
                (int(rng.integers(len(OPERATIONS))), int(state))
                for target in STATES
                for state in np.sort(rng.choice(target, size=2, replace=False))
            )
            for _ in CELLS
        ))  # fmt: skip

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The 120 architectures that differ in one operation, or in the state that one operation reads."""
        cells, found = self.cells(arch), []
        for number, cell in enumerate(cells):
            for place, (op, state) in enumerate(cell):
                target, (_, other) = STATES[place // 2], cell[place ^ 1]
                changed = [(new, state) for new in range(len(OPERATIONS)) if new != op]
                changed += [(op, new) for new in range(target) if new not in (state, other)]
                for pair in changed:
                    edited = [*cells]
                    edited[number] = (*cell[:place], pair, *cell[place + 1 :])
                    found.append(self.of_cells(*edited))
        return found

    def enumerate(self) -> None:
        """None: there are about 1e18 architectures."""

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """For each state: the two states that it reads, if there is a choice, and the operations on the earlier and on the later one."""
        return {
            f"{cell} {state} {what}": choices
            for cell in CELLS
            for state in STATES
            for what, choices in (("inputs", _inputs(state)), ("first", OPERATIONS), ("second", OPERATIONS))
            if len(choices) > 1
        }

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        values: dict[str, str] = {}
        for name, cell in zip(CELLS, self.cells(arch), strict=True):
            for state, ((op, source), (other_op, other)) in zip(STATES, by_state(cell), strict=True):
                values |= {
                    f"{name} {state} inputs": f"{source},{other}",
                    f"{name} {state} first": OPERATIONS[op], f"{name} {state} second": OPERATIONS[other_op],
                }  # fmt: skip
        return {name: values[name] for name in self.parameters}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices."""
        return self.of_cells(*(
            tuple(
                (OPERATIONS.index(parameters[f"{name} {state} {which}"]), int(source))
                for state in STATES
                for which, source in zip(("first", "second"), parameters.get(f"{name} {state} inputs", "0,1").split(","), strict=True)
            )
            for name in CELLS
        ))  # fmt: skip

    # -- networks

    def size(
        self, arch: Arch, *, channels: int = 32, cells: int = 2, num_classes: int, image_size: int = 32, stem_stride: int = 1
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.darts.network import size

        side = -(-image_size // stem_stride)
        return size(self.genotype(arch), num_classes=num_classes, image_size=side, channels=channels, cells=cells)

    def build(self, arch: Arch, *, channels: int = 32, cells: int = 2, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """The network of DARTS for CIFAR: images `(b, 3, h, w)` -> logits `(b, num_classes)`.

        It has three stages of `cells` normal cells with a reduction cell between them, and `channels` of a state in the first stage. The
        default is the network of NAS-Bench-301 with 8 cells and 32 channels; `channels=36, cells=6` gives the network of 20 cells that
        DARTS evaluates. The auxiliary classifier and the dropping of paths, which serve only training, are left out.
        """
        from diffnag.search_spaces.darts.network import Network

        return Network(self.genotype(arch), channels=channels, cells=cells, num_classes=num_classes, stem_stride=stem_stride)

    def build_small(self, arch: Arch, *, num_classes: int, image_size: int) -> nn.Module:
        """One normal cell in each stage, with 8, 16 and 32 channels of a state, on maps of about 8 x 8 pixels."""
        return self.build(arch, channels=8, cells=1, num_classes=num_classes, stem_stride=max(1, image_size // 8))


def _nodes_of(state: int, number: int) -> tuple[int, ...]:
    """The nodes whose sum is `state` of cell `number` (0 normal, 1 reduction)."""
    first = FIRST_NODE[number]
    return (first + state,) if state < 2 else (first + 2 * state - 2, first + 2 * state - 1)


def _state_of(node: int, number: int) -> int:
    """The state of cell `number` that a node is, or is added to."""
    place = node - FIRST_NODE[number]
    return place if place < 2 else place // 2 + 1


def _state_read(sources: Sequence[int], node: int, number: int) -> int | None:
    """The state before that of `node` whose nodes are `sources`; None if there is none."""
    states = range(_state_of(node, number))
    return next((state for state in states if _nodes_of(state, number) == tuple(sources)), None)


def _inputs(state: int) -> tuple[str, ...]:
    """The pairs of states that a state can read, such as `0,1`."""
    return tuple(f"{a},{b}" for a, b in itertools.combinations(range(state), 2))


@cache
def _columns() -> np.ndarray:
    """The columns of E that each node may have, `(21, 5)`: those of operations by the state that they read; -1 where there are fewer."""
    columns = np.full((LAST + 1, STATES[-1]), -1)
    columns[[0, 1], 0] = 0
    for number, first in enumerate(FIRST_NODE):
        columns[list(OUTPUTS[number]), 0] = BITS[first + 2 : first + 10].sum()
        for node in range(first + 2, first + 10):
            for state in range(_state_of(node, number)):
                columns[node, state] = BITS[list(_nodes_of(state, number))].sum()
    return columns


@cache
def _edges(number: int, states: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The edges that begin in cell `number`, whose operations read these states, in order."""
    first = FIRST_NODE[number]
    edges = [(node, first + 2 + place) for place, state in enumerate(states) for node in _nodes_of(state, number)]
    return tuple(sorted(edges + [(node, target) for node in range(first + 2, first + 10) for target in OUTPUTS[number]]))
