"""Training-free proxies from the NAS-Bench-201 table. They are known for every cell and cost no label."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TextIO, cast

import numpy as np

from diffnag.predictors.gaussian_process import GaussianProcessPredictor
from experiments.shared.common import use_reference_data
from experiments.shared.statistics import normal_scores

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.predictors.path_features import Groups
    from diffnag.protocols import SearchSpace

PROXIES = ("naswot", "logsynflow", "zen", "synflow")


@cache
def proxies(dataset: str) -> dict[str, np.ndarray]:
    """String -> normal scores `(4,)` of `PROXIES` among all strings.

    Normal scores, because synflow spans 67 orders of magnitude. A proxy that could not be computed (-inf, or -1e8 for `zen`) ranks last.
    """
    with gzip.open(use_reference_data() / "nas_bench_201.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(cast("TextIO", file)))
    values = np.array([[float(row[f"{dataset}_{proxy}"]) for proxy in PROXIES] for row in rows])
    scores = normal_scores(np.where(values > -1e7, values, -np.inf))
    return {row["arch_str"]: score for row, score in zip(rows, scores, strict=True)}


class GaussianProcessWithProxies(GaussianProcessPredictor):
    """The predictor `gp` with the proxies of the target dataset as one more group of features."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Read the proxies of the task's dataset from the table."""
        super().setup(space=space, task=task, seed=seed)
        cells, known = self._features, proxies(task.name)

        def features(archs: Sequence[Arch]) -> Groups:
            return *cells(archs), np.array([known[space.to_str(arch)] for arch in archs])

        self._features = features
