"""Predictor `mlp`: a differentiable ensemble of small networks. It knows only the labels of the search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnag.arch import ArchBatch
from diffnag.guidance.relaxation import relax
from diffnag.networks.ensemble import Layer, detached, ensemble, random_layers, trainable
from diffnag.predictors.features import graph_features
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.tasks import Task
    from diffnag.protocols import SearchSpace

MEMBERS, WIDTH = 10, 64
PRIOR = 1.5
"""Scale of the random prior functions. With 30 labels, 70 % and 96 % of the better half of NAS-Bench-201 then lie within 1 and 2 standard
deviations of the mean."""
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 200, 64, 3e-3, 6.0
POOL = 256
"""Random architectures over which the features are standardised."""


class MLPPredictor:
    """Deep ensemble with bootstrapped labels and random prior functions (Osband et al., 2018), all members trained in one pass.

    Half of each training batch is relaxed and keeps its labels, so that `forward` is meaningful for matrices with entries inside (0, 1).
    """

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Standardise the features over random architectures of `space`; `seed` fixes all randomness. The task is not used."""
        self._space, self._seed = space, seed
        pool = ArchBatch.of(random_archs(space, POOL, seed=seed), space)
        features = graph_features(pool.V, pool.E, pool.mask)
        spread = features.std(0)
        self._centre, self._spread = features.mean(0), torch.where(spread > 1e-6, spread, torch.inf)

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Train a new ensemble on labels `y (m,)`, m >= 1.

        Labels more than two robust standard deviations below the median are raised to that value. How bad the bad ones are matters
        little to a search, and a few failed trainings would otherwise dominate the loss.
        """
        generator = torch.Generator().manual_seed(self._seed)
        median = np.median(y)
        if deviation := 1.4826 * np.median(np.abs(y - median)):
            y = np.maximum(y, median - 2 * deviation)
        self._mean, self._scale = float(np.mean(y)), float(np.std(y)) or 1.0
        targets = torch.as_tensor((y - self._mean) / self._scale, dtype=torch.float32)
        data = ArchBatch.of(archs, self._space)
        sizes = (len(self._centre), WIDTH, WIDTH, 1)
        self._prior: list[Layer] = random_layers(sizes, members=MEMBERS, generator=generator)
        layers = random_layers(sizes, members=MEMBERS, generator=generator)
        optimiser = torch.optim.AdamW(trainable(layers), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
        bootstrap = torch.poisson(torch.ones(MEMBERS, len(archs)), generator=generator)
        k = torch.randint(len(archs), (STEPS, BATCH), generator=generator)
        x = self._batches(data, k, generator)
        with torch.no_grad():
            goals = targets[k] - self._prior_values(x.flatten(0, 1)).unflatten(1, k.shape)  # (members, steps, batch)
        for step in range(STEPS):
            error = ensemble(layers, x[step])[..., 0] - goals[:, step]
            optimiser.zero_grad()
            (bootstrap[:, k[step]] * error**2).mean().backward()
            optimiser.step()
            schedule.step()
        self._layers = detached(layers)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the members, `(b,)` each, in the units of `y`."""
        batch = ArchBatch.of(archs, self._space)
        with torch.no_grad():
            members = self._members(batch.V, batch.E, batch.mask).double() * self._scale + self._mean
        return members.mean(0).numpy(), members.std(0).numpy()

    def forward(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)` in [0, 1], `mask (b, n)` -> mean `(b,)` in the units of `y`; differentiable."""
        trained = ensemble(self._layers, self._inputs(V, E, mask))[..., 0]
        return trained.mean(0) * self._scale + self._mean

    def _batches(self, data: ArchBatch, k: Tensor, generator: torch.Generator) -> Tensor:
        """Inputs `(steps, batch, in)` of the architectures with indices `k (steps, batch)`, the first half of each batch relaxed.

        All steps are computed at once, which is faster.
        """
        half = k.shape[1] // 2
        parts = []
        for items, relaxed in ((k[:, :half], True), (k[:, half:], False)):
            V, E, mask = (part[items.flatten()] for part in (data.V, data.E, data.mask))
            if relaxed:
                V, E = relax(V, E, self._space, generator=generator)
            parts.append(self._inputs(V, E, mask).unflatten(0, items.shape))
        return torch.cat(parts, dim=1)

    def _members(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """Standardised prediction of each member, `(members, b)`."""
        x = self._inputs(V, E, mask)
        return ensemble(self._layers, x)[..., 0] + self._prior_values(x)

    def _prior_values(self, x: Tensor) -> Tensor:
        """Values of the prior functions `(members, b)`, of mean 0 over the members: they add spread and leave the mean as it is."""
        prior = ensemble(self._prior, x)[..., 0]
        return PRIOR * (prior - prior.mean(0))

    def _inputs(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """Standardised `graph_features`, `(b, in)`; features that do not vary are 0."""
        return (graph_features(V, E, mask) - self._centre.to(V)) / self._spread.to(V)
