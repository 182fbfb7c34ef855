"""What a latency is predicted from: how many operators of each kind run, and which run at each node.

A framework that runs a network as it is written also runs what cannot reach the output. A compiler leaves it out. So there are three
ways to count, `COUNTINGS`, and the measurements of a device show which of them it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import ArchBatch
from diffnag.spaces.draws import random_archs
from diffnag.spaces.roles import roles_of

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace, Size

COUNTINGS = ("all", "leading", "live")
"""What counts: every operator, those that lead to the output, or those that the input reaches as well."""
COSTS = ("flops", "params", "depth")
REFERENCE_DRAWS = 500
"""Random architectures over which features are scaled."""


@dataclass(frozen=True)
class Described:
    """Features of `b` architectures, counted in one way."""

    columns: np.ndarray
    """`(b, k)`: 1, then for spaces without a learned prior the costs relative to their means, then the count of each operator."""
    detail: np.ndarray
    """`(b, d)`: which operator runs at each node, around 0; scaled so that the mean square length of a row is 1."""


class Features:
    """Features of a space's architectures.

    Args:
        space: The space; the roles of its operators say which of them run.
        size: Function that returns the size of an architecture's network; None leaves the costs out.
    """

    def __init__(self, space: SearchSpace, size: Callable[[Arch], Size] | None = None) -> None:
        self.space, self._size = space, size
        roles = roles_of(space)
        self._blocks = np.array(["blocks" in words for words in roles.values()])
        self._inputs = np.array(["input" in words for words in roles.values()])
        self._counted = np.array([words.isdisjoint({"absent", "input", "output", "blocks"}) for words in roles.values()])
        counted = tuple(f"count {name}" for name, there in zip(roles, self._counted, strict=True) if there)
        self.names = ("base", *(COSTS if size else ()), *counted)
        """Names of the columns."""
        self.reference = random_archs(space, REFERENCE_DRAWS, seed=0)
        V, E = self._matrices(self.reference)
        self._means = self._costs(self.reference, V, E).mean(0) if size else np.empty(0)
        runs = {counting: V * self._runs(V, E, counting)[..., None] for counting in COUNTINGS}
        self.countings = tuple(one for k, one in enumerate(COUNTINGS) if not any((runs[one] == runs[two]).all() for two in COUNTINGS[:k]))
        """The ways to count that differ in this space; the first is `all`."""
        self._scaling = {one: _scaling(self._detail(runs[one])) for one in self.countings}

    @property
    def mean_flops(self) -> float:
        """Mean number of multiply-adds of the reference architectures."""
        assert self._size is not None
        return float(self._means[0])

    def __call__(self, archs: Sequence[Arch], counting: str) -> Described:
        """The features of `archs`, counted in one of the ways `countings`."""
        V, E = self._matrices(archs)
        runs = V * self._runs(V, E, counting)[..., None]
        counts = runs.sum(1)[:, self._counted]
        costs = self._costs(archs, V, E) / self._means if self._size else np.empty((len(archs), 0))
        centre, length = self._scaling[counting]
        return Described(np.column_stack([np.ones(len(archs)), costs, counts]), (self._detail(runs) - centre) / length)

    def _matrices(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        batch = ArchBatch.of(archs, self.space)
        return batch.V.numpy().astype(np.float64), batch.E.numpy().astype(np.float64)

    def _runs(self, V: np.ndarray, E: np.ndarray, counting: str) -> np.ndarray:
        """Mask `(b, n)` of the nodes whose operator is run."""
        active = V.any(2) & ~(V @ self._blocks > 0)
        if counting == "all":
            return active
        b, n = active.shape
        leads = np.zeros((b, n), dtype=bool)
        leads[np.arange(b), n - 1 - V.any(2)[:, ::-1].argmax(1)] = True  # the output is the last node that exists
        for i in reversed(range(n)):
            leads[:, i] = active[:, i] & (leads[:, i] | ((E[:, i] > 0) & leads).any(1))
        if counting == "leading":
            return leads
        reached = V @ self._inputs > 0 if self._inputs.any() else V.any(2) & ~E.any(1)
        for j in range(n):
            reached[:, j] = active[:, j] & (reached[:, j] | ((E[:, :, j] > 0) & reached).any(1))
        return leads & reached

    def _costs(self, archs: Sequence[Arch], V: np.ndarray, E: np.ndarray) -> np.ndarray:
        """Multiply-adds, parameters, and operators on the longest path: `(b, 3)`."""
        assert self._size is not None
        sizes = [self._size(arch) for arch in archs]
        return np.column_stack([[size.flops for size in sizes], [size.params for size in sizes], self._depth(V, E)])

    def _depth(self, V: np.ndarray, E: np.ndarray) -> np.ndarray:
        """Most operators that count on a path, plus one: `(b,)`."""
        weight = V @ self._counted
        longest = np.zeros(weight.shape)
        for j in range(weight.shape[1]):
            longest[:, j] = weight[:, j] + (E[:, :, j] * longest).max(1)
        return 1 + longest.max(1)

    def _detail(self, runs: np.ndarray) -> np.ndarray:
        return runs[:, :, self._counted].reshape(len(runs), runs.shape[1] * int(self._counted.sum()))


def _scaling(detail: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean of each column, and the root of the mean square length of the rows around it."""
    centre = detail.mean(0)
    return centre, float(np.sqrt(((detail - centre) ** 2).sum(1).mean())) or 1.0
