"""The architecture as a value (`Arch`) and as matrices (`ArchBatch`, and the packed x that is diffused)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace


@dataclass(frozen=True, order=True)
class Arch:
    """One architecture: an operator a node, in topological order, and directed edges `i -> j`, i < j.

    Hashable and equal by content. `ops` are indices into the space's `operators`.
    """

    ops: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    _hash: ClassVar[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(int(op) for op in self.ops))
        object.__setattr__(self, "edges", tuple(sorted((int(i), int(j)) for i, j in self.edges)))
        if any(not 0 <= i < j < len(self.ops) for i, j in self.edges):
            raise ValueError(f"edges must satisfy 0 <= i < j < {len(self.ops)}, got {self.edges}")

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:  # it is asked for again and again
            object.__setattr__(self, "_hash", hash((self.ops, self.edges)))
            return self._hash

    @classmethod
    def unchecked(cls, ops: tuple[int, ...], edges: tuple[tuple[int, int], ...]) -> Self:
        """An architecture of plain integers whose `edges` are sorted and lead forwards: for thousands at a time."""
        made = object.__new__(cls)
        object.__setattr__(made, "ops", ops)
        object.__setattr__(made, "edges", edges)
        return made

    def matrices(self, *, nodes: int, operators: int) -> tuple[np.ndarray, np.ndarray]:
        """`V (n, f)` one-hot and `E (n, n)` upper triangular, both float32 in {0, 1}; unused nodes are zero."""
        V = np.zeros((nodes, operators), dtype=np.float32)
        E = np.zeros((nodes, nodes), dtype=np.float32)
        V[np.arange(len(self.ops)), self.ops] = 1
        if self.edges:
            E[tuple(np.array(self.edges).T)] = 1
        return V, E


@dataclass(frozen=True)
class ArchBatch:
    """A batch of architectures: `V (b, n, f)`, `E (b, n, n)` in [0, 1], `mask (b, n)` bool, True where a node is."""

    V: Tensor
    E: Tensor
    mask: Tensor

    @classmethod
    def of(cls, archs: Sequence[Arch], space: SearchSpace, *, device: torch.device | str = "cpu") -> ArchBatch:
        """Encode `archs` in `space`."""
        n, f = space.nodes, len(space.operators)
        V = np.zeros((len(archs), n, f), dtype=np.float32)
        E = np.zeros((len(archs), n, n), dtype=np.float32)
        mask = np.zeros((len(archs), n), dtype=bool)
        for k, arch in enumerate(archs):
            V[k], E[k] = space.encode(arch)
            mask[k] = V[k].any(axis=1)
        return cls(torch.from_numpy(V).to(device), torch.from_numpy(E).to(device), torch.from_numpy(mask).to(device))

    def __len__(self) -> int:
        return len(self.V)

    def __getitem__(self, rows: Tensor) -> ArchBatch:
        """The architectures in these rows, `(m,)` integers."""
        rows = rows.to(self.V.device)
        return ArchBatch(self.V[rows], self.E[rows], self.mask[rows])

    def replaced(self, rows: Tensor, other: ArchBatch) -> ArchBatch:
        """A copy with the architectures `other` in these rows, `(m,)` integers."""
        rows = rows.to(self.V.device)
        return ArchBatch(*(mine.index_copy(0, rows, theirs) for mine, theirs in ((self.V, other.V), (self.E, other.E), (self.mask, other.mask))))

    def to(self, device: torch.device | str) -> ArchBatch:
        """The batch on another device."""
        return ArchBatch(self.V.to(device), self.E.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Packing:
    """How (V, E) lie in the one vector `x (b, d)` that SDE and samplers see, d = n f + n (n - 1) / 2.

    `x` is scaled to [-1, 1]; of E only the upper triangle is in it.
    """

    nodes: int
    operators: int

    @classmethod
    def of(cls, space: SearchSpace) -> Packing:
        return cls(nodes=space.nodes, operators=len(space.operators))

    @property
    def size(self) -> int:
        return self.nodes * self.operators + self.nodes * (self.nodes - 1) // 2

    def upper(self, device: torch.device) -> Tensor:
        """Row and column indices of the upper triangle, `(2, n (n - 1) / 2)`."""
        return torch.triu_indices(self.nodes, self.nodes, 1, device=device)

    def pack(self, V: Tensor, E: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)` in [0, 1] -> `x (b, d)` in [-1, 1]."""
        i, j = self.upper(V.device)
        return torch.cat([V.flatten(1), E[:, i, j]], dim=1) * 2 - 1

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x (b, d)` -> `V (b, n, f)`, `E (b, n, n)`, scale unchanged; zero where E is not upper triangular."""
        cut = self.nodes * self.operators
        V = x[:, :cut].unflatten(1, (self.nodes, self.operators))
        i, j = self.upper(x.device)
        flat = x.new_zeros(len(x), self.nodes * self.nodes)
        E = flat.index_copy(1, i * self.nodes + j, x[:, cut:])
        return V, E.unflatten(1, (self.nodes, self.nodes))

    def relaxed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x (b, d)` in [-1, 1] -> `V (b, n, f)`, `E (b, n, n)` in [0, 1]; the inverse of `pack`."""
        return self.split((x + 1) / 2)

    def quantise(self, x: Tensor, rule: str = "threshold") -> tuple[np.ndarray, np.ndarray]:
        """Map back to [0, 1] and quantise: `V (b, n, f)`, `E (b, n, n)` as uint8 arrays in {0, 1}.

        `threshold` is the paper's `> 1/2` in every entry; `argmax` takes the largest operator of each row
        (E keeps the threshold).
        """
        V, E = (part.detach().cpu().numpy() for part in self.split(x))
        hard = (V > 0).astype(np.uint8)
        if rule == "argmax":
            hard = (np.arange(self.operators) == V.argmax(2)[..., None]).astype(np.uint8)
        elif rule != "threshold":
            raise ValueError(f"unknown quantisation {rule!r}; there are: threshold, argmax")
        return hard, (E > 0).astype(np.uint8)
