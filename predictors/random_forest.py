"""Predictor `random-forest`: regression trees on the entries and counts of the graph. It knows only the labels of the search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diffnag.arch import ArchBatch
from diffnag.predictors.features import graph_features

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import SearchSpace

TREES = 100


class RandomForestPredictor:
    """Random forest (Breiman, 2001); mean and standard deviation are those over its trees.

    The predictor has no gradient: it ranks architectures, and can steer a generator by particles.
    """

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Keep `space` for its encoding; the same labels and `seed` give the same forest. The task is not used."""
        self._space, self._seed = space, seed

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Grow a new forest on labels `y (m,)`, m >= 1."""
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(n_estimators=TREES, max_features=1 / 3, random_state=self._seed % 2**32)
        self._trees = forest.fit(self._features(archs), y).estimators_

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the trees, `(b,)` each, in the units of `y`."""
        features = self._features(archs)
        trees = np.stack([tree.predict(features) for tree in self._trees])  # (trees, b)
        return trees.mean(0), trees.std(0)

    def _features(self, archs: Sequence[Arch]) -> np.ndarray:
        """`graph_features` of architectures, `(b, k)`."""
        batch = ArchBatch.of(archs, self._space)
        return graph_features(batch.V, batch.E, batch.mask).numpy()
