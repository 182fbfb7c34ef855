"""What a set of generated architectures is worth; the definitions are those of the README's glossary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from diffnag.arch import ArchBatch
from diffnag.errors import DataNotFound
from diffnag.protocols import HasExamples

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace
    from diffnag.spaces.split import CanonicalSplit


class GenerationMetrics(TypedDict):
    """Shares in [0, 1]; None where the denominator is empty."""

    validity: float
    uniqueness: float | None
    uniqueness_canonical: float | None
    novelty: float | None


def generation_metrics(archs: Sequence[Arch], n: int, space: SearchSpace, split: CanonicalSplit | None) -> GenerationMetrics:
    """Metrics of `n` samples of which `archs` are the valid ones, duplicates kept.

    validity = valid / all; uniqueness = distinct / valid, by string and by canonical form; novelty = share of the
    distinct whose canonical class is outside the training split, None without a `split`. Where a generator learned from examples
    it is the share whose class none of them has, None where the examples are not there.
    """
    distinct = set(archs)
    classes = {arch: space.canonical(arch) for arch in distinct}
    known = _known(space, split)
    return {
        "validity": len(archs) / n,
        "uniqueness": len(distinct) / len(archs) if archs else None,
        "uniqueness_canonical": len(set(classes.values())) / len(archs) if archs else None,
        "novelty": sum(not known(key) for key in classes.values()) / len(distinct) if distinct and known else None,
    }


def _known(space: SearchSpace, split: CanonicalSplit | None) -> Callable[[str], bool] | None:
    """Whether a generator that was trained on `split` knows a canonical class; None where that cannot be found out."""
    if split is None or not isinstance(space, HasExamples):
        return split.trains if split else None
    try:
        return {space.canonical(arch) for arch in split.training_archs(space)}.__contains__
    except DataNotFound:
        return None


class GraphDistances(TypedDict):
    """Wasserstein-1 distances between two samples of graphs, in edges, edges, and nodes (the mean over the operators)."""

    edges: float
    depth: float
    operators: float


@dataclass(frozen=True)
class GraphStatistics:
    """What is counted of each graph of a sample: by it two samples are compared where single graphs hardly ever meet twice."""

    edges: np.ndarray
    """`(m,)`"""
    depth: np.ndarray
    """Edges on the longest path, `(m,)`."""
    operators: np.ndarray
    """How many nodes have each operator, `(m, f)`."""

    @classmethod
    def of(cls, archs: Sequence[Arch], space: SearchSpace) -> GraphStatistics:
        batch = ArchBatch.of(archs, space)
        E = batch.E.numpy() > 0
        longest = np.zeros(E.shape[:2], dtype=int)  # of the paths that end in a node
        for node in range(1, space.nodes):  # in topological order
            longest[:, node] = np.where(E[:, :node, node], longest[:, :node] + 1, 0).max(1)
        return cls(E.sum((1, 2)), longest.max(1), batch.V.numpy().sum(1).astype(int))

    def distances(self, other: GraphStatistics) -> GraphDistances:
        """Between the marginal distributions; neither sample may be empty."""
        from scipy.stats import wasserstein_distance

        operators = [wasserstein_distance(one, two) for one, two in zip(self.operators.T, other.operators.T, strict=True)]
        return {
            "edges": float(wasserstein_distance(self.edges, other.edges)),
            "depth": float(wasserstein_distance(self.depth, other.depth)),
            "operators": float(np.mean(operators)),
        }
