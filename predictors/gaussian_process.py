"""Predictor `gp`: a Gaussian process on path features. It knows only the labels of the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from diffnag.predictors.adaptation import Adaptation, PlainAdaptation
from diffnag.predictors.path_features import PathFeatures

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.predictors.path_features import Groups
    from diffnag.protocols import SearchSpace


class GaussianProcessPredictor:
    """`Adaptation` on `PathFeatures` without a prior; `PlainAdaptation` if these have the plain group.

    The predictor has no gradient: it ranks architectures, and can steer a generator by particles.
    """

    plain: ClassVar[bool | None] = None
    """Whether `plain_features` are added as a group of features; None leaves it to `PathFeatures`."""
    _features: Callable[[Sequence[Arch]], Groups]

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Standardise the features over `space`."""
        del task, seed  # nothing is random, and the labels are the only information on the task
        features = PathFeatures(space, plain=self.plain)
        self._features, self._has_plain = features, features.has_plain

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn from labels `y (m,)`, m >= 1."""
        self._process = PlainAdaptation() if self._has_plain else Adaptation()
        self._process.fit(np.zeros(len(y)), self._features(archs), y)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a new label, `(b,)` each, in the units of `y`."""
        return self._process.predict(np.zeros(len(archs)), self._features(archs))

    def quantiles(self, archs: Sequence[Arch], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)` of a new label."""
        return self._process.quantiles(np.zeros(len(archs)), self._features(archs), levels)
