"""`path-ensemble`: networks on what lies on a cell's paths; it knows only the labels the search has paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.predictors.ensemble import ensemble, random_weights
from diffnag.predictors.path_features import PathFeatures

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import SearchSpace

MEMBERS, WIDTH, LAYERS = 5, 20, 10
STEPS, BATCH, LEARNING_RATE = 200, 32, 1e-2


class PathEnsemblePredictor:
    """The ensemble of BANANAS (White et al., AAAI 2021, section 4): 5 networks of 10 layers that differ in their first weights
    and in the order of training, by mean absolute error.

    Their features are one bit a path of operators; these are `PathFeatures`, which say more where an architecture is one long
    path. It has no gradient: it ranks, and steers by particles.
    """

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Standardise the features over `space`; the same labels and `seed` give the same ensemble."""
        self._features, self._seed = PathFeatures(space), seed

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Train a new ensemble on `y (m,)`, m >= 1."""
        generator = torch.Generator().manual_seed(self._seed)
        self._mean, self._scale = float(np.mean(y)), float(np.std(y)) or 1.0
        x, targets = self._inputs(archs), torch.as_tensor((y - self._mean) / self._scale, dtype=torch.float32)
        sizes = (x.shape[1], *[WIDTH] * LAYERS, 1)
        weights = [part.requires_grad_() for part in random_weights(sizes, members=MEMBERS, generator=generator)]
        optimiser = torch.optim.Adam(weights, lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
        for _ in range(STEPS):
            k = torch.randint(len(archs), (MEMBERS, BATCH), generator=generator)
            optimiser.zero_grad()
            (ensemble(weights, x[k]) - targets[k]).abs().mean().backward()
            optimiser.step()
            schedule.step()
        self._weights = [part.detach() for part in weights]

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the members, `(b,)` each, in the units of `y`."""
        members = ensemble(self._weights, self._inputs(archs)).double() * self._scale + self._mean
        return members.mean(0).numpy(), members.std(0).numpy()

    def _inputs(self, archs: Sequence[Arch]) -> Tensor:
        return torch.as_tensor(np.concatenate(self._features(archs), axis=1), dtype=torch.float32)
