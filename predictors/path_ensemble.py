"""Predictor `path-ensemble`: neural networks on path features. It knows only the labels of the search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.networks.ensemble import detached, ensemble, random_layers, trainable
from diffnag.predictors.path_features import PathFeatures

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import SearchSpace

MEMBERS, WIDTH, LAYERS = 5, 20, 10
STEPS, BATCH, LEARNING_RATE = 200, 32, 1e-2


class PathEnsemblePredictor:
    """Ensemble of BANANAS (White et al., AAAI 2021, section 4): 5 networks of 10 layers, trained on the mean absolute error.

    The members differ in their initial weights and in the order of their training data. The features of BANANAS are one bit for each
    path of operators. Here they are `PathFeatures`, which hold more information if an architecture is a single long path.
    The predictor has no gradient: it ranks architectures, and can steer a generator by particles.
    """

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Standardise the features over `space`; the same labels and `seed` give the same ensemble. The task is not used."""
        self._features, self._seed = PathFeatures(space), seed

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Train a new ensemble on labels `y (m,)`, m >= 1."""
        generator = torch.Generator().manual_seed(self._seed)
        self._mean, self._scale = float(np.mean(y)), float(np.std(y)) or 1.0
        x, targets = self._inputs(archs), torch.as_tensor((y - self._mean) / self._scale, dtype=torch.float32)
        layers = random_layers((x.shape[1], *[WIDTH] * LAYERS, 1), members=MEMBERS, generator=generator)
        optimiser = torch.optim.Adam(trainable(layers), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
        for _ in range(STEPS):
            k = torch.randint(len(archs), (MEMBERS, BATCH), generator=generator)
            optimiser.zero_grad()
            (ensemble(layers, x[k])[..., 0] - targets[k]).abs().mean().backward()
            optimiser.step()
            schedule.step()
        self._layers = detached(layers)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the members, `(b,)` each, in the units of `y`."""
        members = ensemble(self._layers, self._inputs(archs))[..., 0].double() * self._scale + self._mean
        return members.mean(0).numpy(), members.std(0).numpy()

    def _inputs(self, archs: Sequence[Arch]) -> Tensor:
        """All groups of features side by side, `(b, k)`."""
        return torch.as_tensor(np.concatenate(self._features(archs), axis=1), dtype=torch.float32)
