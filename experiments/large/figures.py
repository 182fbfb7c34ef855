"""Figures of large graphs, and the runtime of programs from them: what `experiments.large_graphs` measures with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

DEGREES = 6
"""Nodes are counted by how many take them, from 0; those with more belong to the last count."""


def takers(arch: Arch) -> np.ndarray:
    """How many nodes take each node, `(nodes,)`."""
    return np.bincount([i for i, _ in arch.edges], minlength=len(arch.ops))


def inputs(arch: Arch) -> np.ndarray:
    """How many nodes each node takes, `(nodes,)`."""
    return np.bincount([j for _, j in arch.edges], minlength=len(arch.ops))


def paths(arch: Arch) -> float:
    """Natural logarithm of the number of paths from nodes without inputs to the last node."""
    count = [0] * len(arch.ops)
    for node, given in enumerate(inputs(arch).tolist()):
        count[node] = 0 if given else 1
    for i, j in sorted(arch.edges, key=lambda edge: edge[1]):
        count[j] += count[i]
    return float(np.log(count[-1]))


def distances(archs: Sequence[Arch], others: Sequence[Arch], space: SearchSpace) -> dict[str, float]:
    """Wasserstein distances between two sets of graphs.

    `takers` and `inputs` compare the degrees of all nodes, `operators` is the mean over them of the numbers of nodes that have each, and
    `paths` is in logarithms.
    """
    from scipy.stats import wasserstein_distance

    from diffnag.generators.metrics import GraphStatistics

    found: Mapping[str, Any] = GraphStatistics.of(archs, space).distances(GraphStatistics.of(others, space))
    sets = (archs, others)
    nodes, count = ([[len(arch.ops) for arch in some] for some in sets], [[paths(arch) for arch in some] for some in sets])
    degrees = {name: [np.concatenate([of(arch) for arch in some]) for some in sets] for name, of in (("takers", takers), ("inputs", inputs))}
    values: dict[str, Any] = {"nodes": nodes, **degrees, "paths": count}
    return {**found, **{name: float(wasserstein_distance(*pair)) for name, pair in values.items()}}


def shares(archs: Sequence[Arch], n: int, space: SearchSpace, known: Set[str]) -> dict[str, float]:
    """Shares of `n` samples, of which `archs` are the valid ones: valid, distinct, and these without those `known`, canonical keys.

    `novel` is the share of the distinct ones that are not known; NaN where there are none.
    """
    classes = {space.canonical(arch) for arch in archs}
    new = len(classes - known)
    return {"valid": len(archs) / n, "unique": len(classes) / n, "valid_unique_novel": new / n, "novel": new / len(classes) if classes else np.nan}


def wasserstein(archs: Sequence[Arch], others: Sequence[Arch], space: SearchSpace) -> dict[str, float]:
    """The distances with the names that results have."""
    return {f"wasserstein_{key}": value for key, value in distances(archs, others, space).items()}


class RuntimeForest:
    """A predictor of runtimes: a random forest on counts of operators, of pairs of operators along an edge, degrees, edges and depth.

    It learns logarithms, as runtimes span two powers of ten.
    """

    labels_source: ClassVar[dict[str, int]] = {}
    trees = 100

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        self._space, self._seed = space, seed

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn runtimes `y (m,)`, which are positive."""
        from sklearn.ensemble import RandomForestRegressor

        features = self._features(archs)
        self._columns = features.any(0)
        self._forest = RandomForestRegressor(self.trees, max_features=1 / 3, random_state=self._seed).fit(features[:, self._columns], np.log(y))

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean logarithms `(b,)`, and zeros."""
        return self._forest.predict(self._features(archs)[:, self._columns]), np.zeros(len(archs))

    def runtimes(self, archs: Sequence[Arch]) -> np.ndarray:
        """Runtimes `(b,)`."""
        return np.exp(self.predict(archs)[0])

    def _features(self, archs: Sequence[Arch]) -> np.ndarray:
        from diffnag.generators.metrics import GraphStatistics

        f = len(self._space.operators)
        counts = GraphStatistics.of(archs, self._space)
        pairs = np.stack([
            np.bincount([arch.ops[i] * f + arch.ops[j] for i, j in arch.edges], minlength=f * f) for arch in archs
        ])  # fmt: skip
        degrees = np.stack([np.bincount(np.minimum(takers(arch), DEGREES - 1), minlength=DEGREES) for arch in archs])
        return np.column_stack([counts.edges, counts.depth, counts.operators, degrees, pairs])
