"""What a latency is predicted from: how many operators of each kind run, and which run at each node.

A framework that runs a network as it is written also runs what cannot reach the output. A compiler leaves it out. So there are several
ways to count (`diffnag.spaces.paths`), and the measurements of a device show which of them it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import ArchBatch
from diffnag.spaces.draws import random_archs
from diffnag.spaces.paths import COUNTINGS, having, longest_path, running

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace, Size

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
        self._counted = ~having(space, "absent", "input", "output", "blocks")
        self._layers = having(space, "layer", "pools")
        counted = tuple(f"count {name}" for name, there in zip(space.operators, self._counted, strict=True) if there)
        self.names = ("base", *(COSTS if size else ()), *counted)
        """Names of the columns."""
        self.reference = random_archs(space, REFERENCE_DRAWS, seed=0)
        V, E = self._matrices(self.reference)
        self._means = np.maximum(self._costs(self.reference, V, E).mean(0), 1)
        runs = {counting: V * running(V, E, space, counting)[..., None] for counting in COUNTINGS}
        self.countings = tuple(one for k, one in enumerate(COUNTINGS) if not any((runs[one] == runs[two]).all() for two in COUNTINGS[:k]))
        """The ways to count that differ in this space; the first is `all`."""
        self._scaling = {one: _scaling(self._detail(runs[one])) for one in self.countings}

    @property
    def mean_flops(self) -> float:
        """Mean number of multiply-adds of the reference architectures, where sizes are known."""
        return float(self._means[0])

    def __call__(self, archs: Sequence[Arch], counting: str) -> Described:
        """The features of `archs`, counted in one of the ways `countings`."""
        V, E = self._matrices(archs)
        runs = V * running(V, E, self.space, counting)[..., None]
        costs = self._costs(archs, V, E) / self._means
        centre, length = self._scaling[counting]
        return Described(np.column_stack([np.ones(len(archs)), costs, runs.sum(1)[:, self._counted]]), (self._detail(runs) - centre) / length)

    def _matrices(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        batch = ArchBatch.of(archs, self.space)
        return batch.V.numpy().astype(np.float64), batch.E.numpy().astype(np.float64)

    def _costs(self, archs: Sequence[Arch], V: np.ndarray, E: np.ndarray) -> np.ndarray:
        """Multiply-adds, parameters, and layers on the longest path: `(b, 3)`, or `(b, 0)` where sizes are not known."""
        if self._size is None:
            return np.empty((len(archs), 0))
        sizes = [self._size(arch) for arch in archs]
        runs = running(V, E, self.space, "live")
        depth = longest_path(E, runs * V[:, :, self._layers].sum(2))
        return np.column_stack([[size.flops for size in sizes], [size.params for size in sizes], depth])

    def _detail(self, runs: np.ndarray) -> np.ndarray:
        return runs[:, :, self._counted].reshape(len(runs), runs.shape[1] * int(self._counted.sum()))


def _scaling(detail: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean of each column, and the root of the mean square length of the rows around it."""
    centre = detail.mean(0)
    return centre, float(np.sqrt(((detail - centre) ** 2).sum(1).mean())) or 1.0
