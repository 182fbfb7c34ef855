"""Graphs that are chains: edges link consecutive nodes that are present."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diffnag.arch import Arch
from diffnag.protocols import Decoded


@dataclass(frozen=True, eq=False)
class Chains:
    """The chains of a space whose last operator leaves a node out."""

    possible: np.ndarray
    """`(n, f)` bool: operators that a node may have."""
    behind: np.ndarray
    """`(n,)` bool: nodes that are absent where the node before them is."""

    def decode(self, V: np.ndarray, E: np.ndarray, decode: Callable[[np.ndarray, np.ndarray], Decoded]) -> list[Decoded]:
        """Read quantised `V (b, n, f)`, `E (b, n, n)`; `decode` reads those that are no chain of the space one by one, and finds the reason."""
        ops = V.argmax(2)
        present = ops != V.shape[2] - 1
        valid = (V.sum(2) == 1).all(1) & self.possible[np.arange(V.shape[1]), ops].all(1)
        valid &= ~(present[:, 1:] & ~present[:, :-1] & self.behind[1:]).any(1)
        valid &= (wirings(present) == E).all((1, 2))
        return [
            Decoded(Arch.unchecked(tuple(row), edges_between(tuple(there))), None) if fine else decode(v, e)
            for row, there, fine, v, e in zip(ops.tolist(), present.tolist(), valid.tolist(), V, E, strict=True)
        ]


def wirings(present: np.ndarray) -> np.ndarray:
    """E `(b, n, n)`, bool, of chains through the nodes that are `present (b, n)`."""
    place = present.cumsum(1)
    linked: np.ndarray = place[:, :, None] + 1 == place[:, None, :]
    return linked & present[:, :, None] & present[:, None, :]


@lru_cache(maxsize=10_000)
def edges_between(present: tuple[bool, ...]) -> tuple[tuple[int, int], ...]:
    """The edges of a chain through the nodes that are present."""
    return tuple(itertools.pairwise(itertools.compress(range(len(present)), present)))
