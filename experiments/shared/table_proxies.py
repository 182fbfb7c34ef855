"""The training-free proxies of the NAS-Bench-201 table: computed for every cell, so they cost no label."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TextIO, cast

import numpy as np

from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from experiments.shared.common import use_reference_data

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.predictors.path_features import Groups
    from diffnag.protocols import SearchSpace

PROXIES = ("naswot", "logsynflow", "zen", "synflow")


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Each column by rank onto a standard normal: synflow spans 67 orders of magnitude."""
    from scipy.stats import norm, rankdata

    return norm.ppf(rankdata(values, axis=0) / (len(values) + 1))


@cache
def proxies(dataset: str) -> dict[str, np.ndarray]:
    """String -> normal scores `(4,)` of `PROXIES` among all strings; what could not be computed (-inf, or -1e8 of `zen`) is the least."""
    with gzip.open(use_reference_data() / "nas_bench_201.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(cast("TextIO", file)))
    values = np.array([[float(row[f"{dataset}_{proxy}"]) for proxy in PROXIES] for row in rows])
    scores = normal_scores(np.where(values > -1e7, values, -np.inf))
    return {row["arch_str"]: score for row, score in zip(rows, scores, strict=True)}


class GaussianProcessWithProxies(GaussianProcessPredictor):
    """The predictor `gp` with the table's proxies of the target as one more group of features."""

    def setup(self, *, space: SearchSpace, dataset: str, seed: int) -> None:
        """Read the proxies of `dataset`."""
        super().setup(space=space, dataset=dataset, seed=seed)
        cells, known = self._features, proxies(dataset)

        def features(archs: Sequence[Arch]) -> Groups:
            return *cells(archs), np.array([known[space.to_str(arch)] for arch in archs])

        self._features = features
