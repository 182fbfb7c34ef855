"""Graphs that grow node by node, and spaces that say what may come next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


class Growth(Protocol):
    """A graph that grows node by node in topological order, and what its next node may be."""

    ops: list[int]
    """Operators of the nodes so far."""

    @property
    def done(self) -> bool:
        """Whether the graph is whole, so that all slots left are absent."""
        ...

    def operators(self) -> np.ndarray:
        """Bool `(f,)`: operators that the next node may have; never none unless the graph is done."""
        ...

    def sources(self, op: int, chosen: Sequence[int] = ()) -> np.ndarray:
        """Bool `(k,)`: which of the k nodes the next one may read besides `chosen`, all before them: the latest is chosen first."""
        ...

    def enough(self, op: int, chosen: Sequence[int]) -> bool:
        """Whether the next node may have the operator `op` and read `chosen` alone."""
        ...

    def add(self, op: int, sources: Sequence[int]) -> None:
        """Let the next node have this operator and read these nodes; raises `ValueError` if that breaks a rule."""
        ...


@runtime_checkable
class TracksShapes(Protocol):
    """A space in which what a node gives has a shape that decides which nodes take it: generators may look at shapes as they draw.

    Nothing is forbidden by it; for that there is `GuidesGrowth`.
    """

    shape_numbers: int
    """Numbers of which a shape consists."""

    def shape_behind(self, op: int, inputs: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
        """Shape of what a node with the operator `op` gives for inputs of these shapes, numbers from 0 on; None if it does not take them."""
        ...


@runtime_checkable
class GuidesGrowth(Protocol):
    """A space that says, while a graph is built node by node, which operators and which inputs are possible next.

    A graph that is built within these masks is valid: whatever they allow leaves a way to a whole graph.
    """

    def growth(self) -> Growth:
        """The graph of which nothing is there but what all graphs have in common: its first node, if that is the input."""
        ...
