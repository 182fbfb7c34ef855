"""Spaces whose architectures are chains: each node has its own choice of operators, of which one may leave the node out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from diffnag.arch import Arch
from diffnag.protocols import Decoded
from diffnag.search_spaces.shared.chains import Chains, edges_between
from diffnag.search_spaces.shared.matrices import operator_fault, wiring_fault


class Chain:
    """What follows from the choices of each node. Edges link consecutive nodes that are present."""

    operators: tuple[str, ...]
    """The last one leaves a node out."""
    choices: tuple[tuple[int, ...], ...]
    """The operators that each node may have."""
    names: tuple[str, ...]
    """What the choice of each node is called as a parameter."""

    def written(self, op: int) -> str:
        """An operator as strings and parameters write it."""
        raise NotImplementedError

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.choices)

    @property
    def absent(self) -> int:
        """Index of the operator that leaves a node out."""
        return len(self.operators) - 1

    @cached_property
    def constant(self) -> tuple[np.ndarray, np.ndarray]:
        """Entries of V and E that are the same in every architecture; see `SearchSpace`."""
        never = np.ones((self.nodes, len(self.operators)), dtype=bool)
        for node, allowed in enumerate(self.choices):
            never[node, list(allowed)] = len(allowed) == 1
        seldom = ~never[:, self.absent]
        fixed = np.ones((self.nodes, self.nodes), dtype=bool)
        for i, j in itertools.combinations(range(self.nodes), 2):
            always = j == i + 1 and not seldom[[i, j]].any()
            fixed[i, j] = always or not seldom[i + 1 : j].all()
        return never, fixed

    def of_operators(self, ops: Sequence[int]) -> Arch:
        """The architecture with these operators, one a node, which must be among its `choices`."""
        return Arch(tuple(ops), edges_between(tuple(op != self.absent for op in ops)))

    def encode(self, arch: Arch) -> tuple[np.ndarray, np.ndarray]:
        """`V (n, f)` and `E (n, n)`, float32 in {0, 1}."""
        return arch.matrices(nodes=self.nodes, operators=len(self.operators))

    def decode(self, V: np.ndarray, E: np.ndarray) -> Decoded:
        """Read quantised `V (n, f)`, `E (n, n)`; for an invalid graph the reason is returned."""
        if fault := operator_fault(V):
            return Decoded(None, fault)
        ops = V.argmax(1).tolist()
        for node, op in enumerate(ops):
            if op not in self.choices[node]:
                return Decoded(None, f"node {node} is {self.operators[op]}, which it cannot be")
        arch = self.of_operators(ops)
        if fault := wiring_fault(E, self.encode(arch)[1]):
            return Decoded(None, f"{fault} with these blocks")
        return Decoded(arch, None)

    def decode_batch(self, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
        """Read quantised `V (b, n, f)`, `E (b, n, n)`."""
        return self._chains.decode(V, E, self.decode)

    @cached_property
    def _chains(self) -> Chains:
        possible = np.zeros((self.nodes, len(self.operators)), dtype=bool)
        for node, allowed in enumerate(self.choices):
            possible[node, list(allowed)] = True
        return Chains(possible, behind=np.zeros(self.nodes, dtype=bool))

    def random(self, rng: np.random.Generator) -> Arch:
        """Draw the operator of each node uniformly."""
        return self.of_operators([allowed[int(rng.integers(len(allowed)))] for allowed in self.choices])

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The architectures that differ in one choice."""
        return [
            self.of_operators([*arch.ops[:node], op, *arch.ops[node + 1 :]])
            for node, allowed in enumerate(self.choices) for op in allowed if op != arch.ops[node]
        ]  # fmt: skip

    @property
    def parameters(self) -> Mapping[str, tuple[str, ...]]:
        """The choices of each node."""
        return {name: tuple(map(self.written, allowed)) for name, allowed in zip(self.names, self.choices, strict=True)}

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        """The choices of an architecture."""
        return dict(zip(self.names, map(self.written, arch.ops), strict=True))

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        """The architecture with these choices."""
        known = [{self.written(op): op for op in allowed} for allowed in self.choices]
        return self.of_operators([ops[parameters[name]] for name, ops in zip(self.names, known, strict=True)])
