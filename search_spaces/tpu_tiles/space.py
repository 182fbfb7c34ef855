"""The space of TPU programs: computation graphs of up to 160 nodes and 44 operators, of which 475 real ones are known.

A node is an operation of a program, an edge leads from a value to the operation that takes it, and the last node is the result. The
graphs of the file point the other way, from an operation to what it takes. A program is valid if every operator has as many inputs as it
takes, and every node but the last is taken by another; so it is connected, and acyclic as E is upper triangular. Slots behind the last
node are `absent`.

An `Arch` has its nodes in the normal order of `shared.programs`, and `decode` returns it for any order that it reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import numpy as np

from diffnag.arch import Arch
from diffnag.errors import UserError
from diffnag.io.tables import load_table
from diffnag.protocols import Attention, Decoded, Role, Size
from diffnag.search_spaces.shared.matrices import operator_fault
from diffnag.search_spaces.shared.programs import graph_hash, in_normal_order, input_fault, program_neighbours, random_program
from diffnag.search_spaces.tpu_tiles.rules import INPUTS, MOST_NODES

if TYPE_CHECKING:
    from torch import nn

    from diffnag.io.tables import BenchmarkTable

CODES = tuple(INPUTS)
RULES = dict(enumerate(INPUTS.values()))
"""Index of an operator -> fewest and most inputs."""
ABSENT = len(CODES)
LEAST_NODES = 2
Edges = Sequence[tuple[int, int]]


class TPUTiles:
    """The search space `tpu-tiles`: 160 slots, 44 operators and `absent`."""

    name = "tpu-tiles"
    nodes = MOST_NODES
    operators = (*(f"op{code}" for code in CODES), "absent")
    roles: Mapping[str, Set[Role]] = {**{f"op{code}": {"layer"} for code in CODES}, "absent": {"absent"}}
    inputs: Mapping[str, tuple[int, int]] = {f"op{code}": counts for code, counts in INPUTS.items()}
    attention: Attention = "full"
    table_file = "tpu_tiles.npz"
    datasets: Mapping[str, tuple[int, int]] = {}
    measures: Mapping[str, str] = {"tpu": "runtime"}
    minimised = frozenset({"runtime"})
    skeletons: tuple[tuple[int, int], ...] = ((1, 1),)
    oracle = "table"
    generator = "pointers"
    without_networks: Literal[True] = True

    @cached_property
    def constant(self) -> tuple[np.ndarray, np.ndarray]:
        """The first node takes nothing, and there are at least two nodes; E is upper triangular."""
        rows = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        rows[:LEAST_NODES, ABSENT] = True
        rows[0, :ABSENT] = [fewest > 0 for fewest, _ in RULES.values()]
        return rows, np.tri(self.nodes, dtype=bool)

    # -- strings and matrices

    def to_str(self, arch: Arch) -> str:
        """Code and inputs of each node in order: `29/29/43@0,1/18@2`; nodes are numbered from 0."""
        taken: list[list[str]] = [[] for _ in arch.ops]
        for i, j in arch.edges:
            taken[j].append(str(i))
        return "/".join(f"{CODES[op]}@{','.join(given)}" if given else str(CODES[op]) for op, given in zip(arch.ops, taken, strict=True))

    def from_str(self, text: str) -> Arch:
        """Parse such a string with the nodes in any topological order; `UserError` names the rule that it breaks."""
        ops, edges = [], []
        for node, part in enumerate(text.split("/")):
            match = re.fullmatch(r"(\d{1,2})(?:@(\d+(?:,\d+)*))?", part, re.ASCII)
            if match is None or int(match[1]) not in CODES:
                raise _refused(text, f"node {node} is {part!r}")
            ops.append(CODES.index(int(match[1])))
            edges += [(int(given), node) for given in (match[2] or "").split(",") if given]
        if len(set(edges)) < len(edges) or any(i >= j for i, j in edges):
            raise _refused(text, "a node takes another twice, or one that does not stand before it")
        arch, why = self._program(ops, edges)
        if arch is None:
            raise _refused(text, str(why))
        return arch

    def of_program(self, codes: Sequence[int], edges: Edges) -> Decoded:
        """The architecture of a graph of the file: edges lead from an operation to what it takes, the result comes first."""
        if strange := set(codes) - set(CODES):
            return Decoded(None, f"there is no operator {min(strange)}")
        if any(not 0 <= i < j < len(codes) for i, j in edges):
            return Decoded(None, "its nodes are not in topological order")
        last = len(codes) - 1
        return self._program([CODES.index(code) for code in codes][::-1], [(last - j, last - i) for i, j in edges])

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (160, 45)` and `E (160, 160)`, float32 in {0, 1}."""
        V, E = arch.matrices(nodes=self.nodes, operators=len(self.operators))
        V[len(arch.ops) :, ABSENT] = 1
        return V, E

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (160, 45)`, `E (160, 160)`; for an invalid graph the reason is returned."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = V.argmax(1)
        count = int((ops != ABSENT).sum())
        if (ops[:count] == ABSENT).any():
            return Decoded(None, f"node {int((ops == ABSENT).argmax())} is absent, but not those behind it")
        i, j = np.nonzero(E)
        if (i >= j).any():
            return Decoded(None, "an edge leads backwards: E is not upper triangular")
        if len(j) and j.max() >= count:
            return Decoded(None, f"an edge leads to node {int(j.max())}, which is absent")
        return self._program(ops[:count].tolist(), list(zip(i.tolist(), j.tolist(), strict=True)))

    def needs_no_pruning(self, V: np.ndarray, E: np.ndarray) -> bool:
        """Whether the graph is valid: nothing is left out of any, the nodes are put in order."""
        return self.decode(V, E).arch is not None

    def _program(self, ops: Sequence[int], edges: Edges) -> Decoded:
        """The architecture of a graph with edges from lower to higher nodes, or the rule that it breaks."""
        if not LEAST_NODES <= len(ops) <= self.nodes:
            return Decoded(None, f"it has {len(ops)} nodes, not {LEAST_NODES} to {self.nodes}")
        if fault := input_fault(ops, edges, RULES, self.operators):
            return Decoded(None, fault)
        return Decoded(Arch(*in_normal_order(ops, edges)), None)

    # -- identity, examples, draws, neighbours, parameters

    def canonical(self, arch: Arch) -> str:
        """A hash of the graph that does not depend on the order of its nodes."""
        return graph_hash(arch.ops, arch.edges)

    def examples(self) -> list[Arch]:
        """The 475 programs of the file; raises `DataNotFound` where it is not there."""
        return [self.from_str(text) for text in load_table(self).archs]

    def random(self, rng: np.random.Generator) -> Arch:
        """A random graph with the right numbers of inputs; hardly any is like a real program.

        The logarithm of its number of nodes is uniform, so that their mean is 36, near that of the real ones.
        """
        nodes = int(LEAST_NODES * ((self.nodes + 1) / LEAST_NODES) ** rng.random())
        return Arch(*in_normal_order(*random_program(RULES, nodes, rng)))

    def neighbours(self, arch: Arch) -> list[Arch]:
        """Programs in which one node has another operator of as many inputs, or takes an input or a taker of a node instead of that node.

        A graph of a hundred nodes has thousands of them. They have as many nodes as it has.
        """
        found = dict.fromkeys(Arch(*in_normal_order(*graph)) for graph in program_neighbours(arch.ops, arch.edges, RULES))
        return [other for other in found if other != arch]

    def enumerate(self) -> None:
        """None: there are far too many."""

    @cached_property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """An operator for each slot and `yes` or `no` for each edge; most combinations are no program, and are refused."""
        slots = {f"slot {slot}": self.operators for slot in range(self.nodes)}
        return slots | {f"{i}->{j}": ("no", "yes") for i, j in combinations(range(self.nodes), 2)}

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        ops = (*arch.ops, *[ABSENT] * (self.nodes - len(arch.ops)))
        there = {f"{i}->{j}" for i, j in arch.edges}
        slots = {f"slot {slot}": self.operators[op] for slot, op in enumerate(ops)}
        return {name: slots.get(name) or ("yes" if name in there else "no") for name in self.parameters}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices; `UserError` if they make no program."""
        V = np.eye(len(self.operators))[[self.operators.index(parameters[f"slot {slot}"]) for slot in range(self.nodes)]]
        E = np.zeros((self.nodes, self.nodes))
        for i, j in combinations(range(self.nodes), 2):
            E[i, j] = parameters[f"{i}->{j}"] == "yes"
        arch, why = self.decode(V, E)
        if arch is None:
            raise UserError(f"these choices make no program of {self.name}: {why}")
        return arch

    # -- tables; there are no networks

    def read_table(self, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
        """Read `tpu_tiles.npz`: graphs and runtimes; `UserError` for other files. `trust_pickle` makes no difference."""
        from diffnag.search_spaces.tpu_tiles.table import read

        return read(path, self)

    def size(
        self, arch: Arch, *, channels: int = 1, cells: int = 1, num_classes: int, image_size: int = 1, stem_stride: int = 1
    ) -> Size:
        """Raise `UserError`: see `build`."""
        self._no_network()

    def build(self, arch: Arch, *, channels: int = 1, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        """Raise `UserError`: the shapes and constants of a program are not part of its graph, so that no network follows from it."""
        self._no_network()

    def _no_network(self) -> NoReturn:
        raise UserError(f"an architecture of {self.name} is the graph of a compiled program, without shapes: no network can be built of it")


def _refused(text: str, why: str) -> UserError:
    """The error for a text that is no program."""
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return UserError(
        f"{shown!r} is no tpu-tiles string: {why}; expected code@inputs for each node, separated by '/', such as 29/29/43@0,1/18@2, with the "
        f"codes {', '.join(map(str, CODES))}"
    )
