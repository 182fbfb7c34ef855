"""NAS-Bench-101 (Ying et al., ICML 2019): a cell of up to 7 vertices and 9 edges, with any wiring and 3 operations.

The matrices have 7 slots. The input is always in the first slot and the output in the last, so that no operator has to mark the end of a
cell. The vertices between them stand in the order of the normal form (`graphs`); unused slots are `absent` and come just before the
output. So the number of vertices is generated like the operators, and the first slots, which matter most, are rarely absent: one cell in
seven has fewer than 7 vertices. Other orders are no easier to learn. The entropies of the single entries sum to 23.9 bits (the space has
18.7), and to 23.5 for the best of eleven orders. With that order a network of the same training made 91.9 % valid cells instead of
91.0 %, which is within the error of 1,024 samples.

An `Arch` is always pruned and in normal form. So equal cells are equal architectures, and `decode` returns the cell of any graph that it
reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.protocols import Attention, Decoded, Role, Size
from diffnag.search_spaces.nasbench101 import graphs
from diffnag.search_spaces.nasbench101.graphs import EDGES, VERTICES, Edge
from diffnag.search_spaces.nasbench101.notation import NAMES, OPERATIONS, text_of
from diffnag.search_spaces.shared.matrices import operator_fault

if TYPE_CHECKING:
    from torch import nn

    from diffnag.io.tables import BenchmarkTable

INPUT, FIRST_OPERATION, OUTPUT, ABSENT = 0, 1, len(OPERATIONS) + 1, len(OPERATIONS) + 2
"""Indices into the operators."""
LAST = VERTICES - 1
"""The slot of the output."""
UPPER = tuple((i, j) for i in range(VERTICES) for j in range(i + 1, VERTICES))
"""All pairs of slots that an edge can connect."""


class NASBench101:
    """The search space `nasbench101`: 7 slots, 6 operators, 423,624 cells."""

    name = "nasbench101"
    nodes = VERTICES
    operators: tuple[str, ...] = ("input", *OPERATIONS, "output", "absent")
    roles: Mapping[str, Set[Role]] = {
        "input": {"input"}, "conv3x3-bn-relu": {"layer", "spatial"}, "conv1x1-bn-relu": {"layer"}, "maxpool3x3": {"pools"},
        "output": {"output"}, "absent": {"absent"},
    }  # fmt: skip
    attention: Attention = "full"
    resnet_like = "conv3x3@0/conv3x3@1/output@0,2"
    """Two 3x3 convolutions in parallel to a projection of the input."""
    table_file = "nas_bench_101.npz"
    datasets: Mapping[str, tuple[int, int]] = {"cifar10": (10, 32)}
    skeletons = ((8, 1), (16, 1), (32, 1), (32, 2), (64, 2), (64, 3), (128, 3))

    def __init__(self) -> None:
        rows = np.zeros((VERTICES, len(self.operators)), dtype=bool)
        rows[[INPUT, LAST]] = True
        rows[:, [INPUT, OUTPUT]] = True
        self.constant = (rows, np.tri(VERTICES, dtype=bool))

    # -- strings and matrices

    def to_str(self, arch: Arch) -> str:
        """Operation and read vertices of each vertex but the input, which is vertex 0: `conv3x3@0/maxpool3x3@0,1/output@1,2`."""
        return text_of(_labels(arch), arch.edges)

    def from_str(self, text: str) -> Arch:
        """Parse such a string with the vertices in any order; `UserError` names the rule that it breaks.

        Vertices that are not on a path from input to output are pruned, as in the benchmark.
        """
        parts = re.findall(r"([^@/]+)@(\d+(?:,\d+)*)", text)
        names = [name for name, _ in parts]
        sources = [[int(source) for source in listed.split(",")] for _, listed in parts]
        if not parts or "/".join(f"{name}@{listed}" for name, listed in parts) != text:
            raise _refused(text, "it does not have this form")
        if names[-1] != "output" or "output" in names[:-1]:
            raise _refused(text, "exactly its last vertex must be output")
        if strange := [name for name in names[:-1] if name not in NAMES]:
            raise _refused(text, f"there is no operation {strange[0]!r}")
        vertices = len(names) + 1
        if beyond := [source for listed in sources for source in listed if source >= vertices - 1]:
            raise _refused(text, f"vertex {beyond[0]} is read, but only vertices 0 to {vertices - 2} can be read")
        edges = {(source, vertex) for vertex, listed in enumerate(sources, start=1) for source in listed}
        ops = [FIRST_OPERATION + NAMES.index(name) for name in names[:-1]]
        arch, why = self._cell([INPUT, *ops, OUTPUT], edges)
        if arch is None:
            raise _refused(text, why)
        return arch

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (7, 6)` and `E (7, 7)`, float32 in {0, 1}."""
        V = np.zeros((VERTICES, len(self.operators)), dtype=np.float32)
        E = np.zeros((VERTICES, VERTICES), dtype=np.float32)
        slots = _slots(len(arch.ops))
        V[len(arch.ops) - 1 : LAST, ABSENT] = 1
        V[slots, arch.ops] = 1
        for i, j in arch.edges:
            E[slots[i], slots[j]] = 1
        return V, E

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (7, 6)`, `E (7, 7)`.

        A graph is valid as in the benchmark: absent vertices, and vertices that are on no path from input to output, are left out; then
        there must be a path and at most 9 edges. `needs_no_pruning` reports whether anything was left out.
        """
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = V.argmax(1).tolist()
        for slot, op in enumerate(ops):
            if (op == INPUT) != (slot == 0) or (op == OUTPUT) != (slot == LAST):
                return Decoded(None, f"node {slot} is {self.operators[op]}")
        edges = [tuple(edge) for edge in np.argwhere(E).tolist()]
        if any(i >= j for i, j in edges):
            return Decoded(None, "an edge leads backwards: E is not upper triangular")
        arch, why = self._cell(ops, [(i, j) for i, j in edges if ABSENT not in (ops[i], ops[j])])
        return Decoded(arch, None if arch else why)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """Read quantised `V (b, 7, 6)`, `E (b, 7, 7)`."""
        ops = V.argmax(2)
        slots = np.arange(VERTICES)
        placed = (((ops == INPUT) == (slots == 0)) & ((ops == OUTPUT) == (slots == LAST))).all(1)
        there = ops != ABSENT
        edges = E.astype(bool) & there[:, :, None] & there[:, None, :]
        kept = graphs.on_a_path(edges)
        known = graphs.wirings().normal
        valid = placed & (V.sum(2) == 1).all(1) & ~np.tril(E).any((1, 2)) & kept[:, 0]
        found = []
        for k, (fine, code) in enumerate(zip(valid.tolist(), graphs.wirings_of(edges, kept).tolist(), strict=True)):
            if fine and code in known:  # others have too many edges
                labels = ops[k, kept[k]][1:-1] - FIRST_OPERATION
                found.append(Decoded(_arch(*graphs.normalised(labels.tolist(), code)), None))
            else:
                found.append(self.decode(V[k], E[k]))
        return found

    def needs_no_pruning(self, V: np.ndarray, E: np.ndarray) -> bool:
        """Whether the graph is valid, all its vertices are on a path from input to output, and absent slots have no edges."""
        arch, _ = self.decode(V, E)
        return arch is not None and len(arch.edges) == E.sum() and len(arch.ops) == VERTICES - V[:, ABSENT].sum()

    def _cell(self, ops: Sequence[int], edges: Iterable[Edge]) -> tuple[Arch | None, str]:
        """The architecture of a graph, pruned and in normal form, or None and the rule that the graph breaks.

        `ops` are the operators of its vertices, the first the input and the last the output; others may be absent if no edge meets them.
        """
        edges = set(edges)
        if any(i >= j for i, j in edges):
            order = graphs.in_order(len(ops), edges)
            if order is None:
                return None, "its graph has a cycle"
            ops, edges = [ops[vertex] for vertex in order], {(order.index(i), order.index(j)) for i, j in edges}
        kept, left = graphs.pruned(len(ops), edges)
        if not left:
            return None, "its input does not reach its output"
        if len(kept) > VERTICES:
            return None, f"it has {len(kept)} vertices, at most {VERTICES} are allowed"
        if len(left) > EDGES:
            return None, f"it has {len(left)} edges, at most {EDGES} are allowed"
        place = {vertex: k for k, vertex in enumerate(kept)}
        labels = [ops[vertex] - FIRST_OPERATION for vertex in kept[1:-1]]
        return _arch(*graphs.normalised(labels, graphs.wiring((place[i], place[j]) for i, j in left))), ""

    # -- identity

    def canonical(self, arch: Arch) -> str:
        """The benchmark's hash of the graph, an MD5 that does not depend on the order of the vertices."""
        return graphs.md5(_labels(arch), arch.edges)

    # -- draws, neighbours, parameters

    def random(self, rng: np.random.Generator) -> Arch:
        """Uniform over the 423,624 cells."""
        return _arch(*graphs.cell(int(rng.integers(graphs.COUNT))))

    def enumerate(self) -> Iterator[Arch]:
        """All 423,624 cells, in the order of their number of vertices."""
        return (_arch(labels, edges) for labels, edges in graphs.cells())

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Cells with one operation changed, one edge added or removed, or one vertex added or removed; every move has an inverse.

        An edge may be added in any direction that makes no cycle. It may be removed if no vertex loses its only edge in or out. A vertex
        is added with one edge to it and one from it: in place of an edge, or in addition to all edges. It is removed likewise.
        """
        found = dict.fromkeys(self._cell(ops, edges)[0] for ops, edges in _moves(list(arch.ops), set(arch.edges)))
        return [other for other in found if other is not None and other != arch]

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """An operator for each slot and `yes` or `no` for each edge.

        Most combinations have too many edges; `from_parameters` refuses them.
        """
        slots = {f"slot {slot}": (*OPERATIONS, "absent") for slot in range(1, LAST)}
        return slots | {f"{i}->{j}": ("no", "yes") for i, j in UPPER}

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        V, E = self.encode(arch)
        slots = {f"slot {slot}": self.operators[V[slot].argmax()] for slot in range(1, LAST)}
        return slots | {f"{i}->{j}": "yes" if E[i, j] else "no" for i, j in UPPER}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices, pruned; `UserError` if they make no cell."""
        ops = [self.operators.index(parameters[f"slot {slot}"]) for slot in range(1, LAST)]
        V = np.eye(len(self.operators))[[INPUT, *ops, OUTPUT]]
        E = np.zeros((VERTICES, VERTICES))
        for i, j in UPPER:
            E[i, j] = parameters[f"{i}->{j}"] == "yes"
        arch, why = self.decode(V, E)
        if arch is None:
            raise UserError(f"these choices make no nasbench101 cell: {why}")
        return arch

    # -- networks and tables

    def size(
        self, arch: Arch, *, channels: int = 128, cells: int = 3, num_classes: int, image_size: int = 32, stem_stride: int = 1
    ) -> Size:
        """Parameters and multiply-adds of `build` on 3-channel images."""
        from diffnag.search_spaces.nasbench101.network import size

        side = -(-image_size // stem_stride)  # side of the stem's output
        return size(_names(arch), arch.edges, num_classes=num_classes, image_size=side, channels=channels, cells=cells)

    def build(self, arch: Arch, *, channels: int = 128, cells: int = 3, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """The benchmark's network, whose stem has stride 1: images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        from diffnag.search_spaces.nasbench101.network import Network

        return Network(_names(arch), arch.edges, channels=channels, cells=cells, num_classes=num_classes, stem_stride=stem_stride)

    def read_table(self, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
        """Read the official `.tfrecord`, or an `.npz` with the columns of `nas_bench_101.npz`; neither is a pickle.

        Raises `UserError` for other files.
        """
        from diffnag.search_spaces.nasbench101.table import read

        return read(path, self)


def _arch(labels: Sequence[int], edges: tuple[Edge, ...]) -> Arch:
    """The architecture with these labels of the interior vertices, indices into `OPERATIONS`."""
    return Arch.unchecked((INPUT, *[FIRST_OPERATION + label for label in labels], OUTPUT), edges)


def _labels(arch: Arch) -> tuple[int, ...]:
    """The inverse of `_arch`."""
    return tuple([op - FIRST_OPERATION for op in arch.ops[1:-1]])


def _names(arch: Arch) -> list[str]:
    """Operations of the interior vertices by name."""
    return [OPERATIONS[label] for label in _labels(arch)]


def _slots(vertices: int) -> list[int]:
    """Slots of the vertices of a cell: the first ones, but the last slot for the output."""
    return [*range(vertices - 1), LAST]


def _refused(text: str, why: str) -> UserError:
    """The error for a text that is no cell."""
    return UserError(
        f"{text!r} is no NAS-Bench-101 string: {why}; expected operation@read,vertices for each vertex, separated by '/', such as "
        f"conv3x3@0/maxpool3x3@0,1/output@1,2, with the operations {', '.join(NAMES)}, output for the last vertex, and 0 for the input"
    )


def _moves(ops: list[int], edges: set[Edge]) -> Iterator[tuple[list[int], set[Edge]]]:
    """Operators and edges of the graphs one move away, in a fixed order; some have too many edges for a cell."""
    n = len(ops)
    last = n - 1
    operations = range(FIRST_OPERATION, FIRST_OPERATION + len(OPERATIONS))
    after = _after(n, edges)
    pairs = [(i, j) for i in range(last) for j in range(1, n) if i != j and i not in after[j]]
    for vertex in range(1, last):
        for op in operations:
            if op != ops[vertex]:
                yield [*ops[:vertex], op, *ops[vertex + 1 :]], edges
    for pair in pairs:
        if (changed := edges ^ {pair}) and _whole(n, changed):
            yield ops, changed
    for i, j in pairs if n < VERTICES else []:
        for rest in (edges, edges - {(i, j)}) if (i, j) in edges else (edges,):
            shifted = {(a + (a >= last), b + (b >= last)) for a, b in rest}  # the new vertex comes just before the output
            end = j + (j >= last)
            for op in operations:
                yield [*ops[:last], op, ops[last]], shifted | {(i, last), (last, end)}
    for vertex in range(1, last):
        before, behind = [i for i, j in edges if j == vertex], [j for i, j in edges if i == vertex]
        if len(before) == len(behind) == 1:
            bridge = (before[0], behind[0])
            rest = edges - {(before[0], vertex), (vertex, behind[0])}
            for left in (rest,) if bridge in edges else (rest, rest | {bridge}):
                without = {(a - (a > vertex), b - (b > vertex)) for a, b in left}
                if _whole(n - 1, without):
                    yield [*ops[:vertex], *ops[vertex + 1 :]], without


def _after(n: int, edges: set[Edge]) -> list[set[int]]:
    """For each of `n` vertices, the vertices that paths from it reach; all edges lead to higher vertices."""
    after: list[set[int]] = [set() for _ in range(n)]
    for i, j in sorted(edges, reverse=True):
        after[i] |= {j} | after[j]
    return after


def _whole(n: int, edges: set[Edge]) -> bool:
    """Whether every vertex but the input has an edge to it, and every vertex but the output an edge from it."""
    return len({i for i, _ in edges}) == len({j for _, j in edges}) == n - 1
