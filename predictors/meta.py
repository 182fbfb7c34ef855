"""`meta` and `meta-only`: predictors meta-learned from other datasets, aware of the dataset and of diffusion noise.

Both score an architecture A for a task as `w . phi(A, task) + b`. Labels of the target, where a search pays for some, change
`w` by Bayesian linear regression; as the noise-aware network predicts the distribution of phi itself, the changed `w` steers
the diffusion at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diffnag.arch import ArchBatch
from diffnag.checkpoint import load_checkpoint, save_checkpoint
from diffnag.datasets.tasks import load_task
from diffnag.denoiser import load_denoiser
from diffnag.errors import UserError, unknown
from diffnag.files import PRETRAINED
from diffnag.sde import from_json, to_json
from predictors.meta_network import CleanNetwork, MetaConfig, NoisyNetwork

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.sources import Source
    from diffnag.protocols import SearchSpace

KIND = "meta-predictor"
FEW_LABELS, FEW_STEPS, MANY_STEPS, NOISY_STEPS = 10_000, 800, 2500, 2500
"""Optimiser steps: of the value, with few source labels (which it would soon learn by heart) or many, and of the noise."""
PRIOR_SCALES = (0.0, 0.05, 0.1, 0.2, 0.4)
NOISE_SCALES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Grid of standard deviations, of the change of a weight and of a label's noise, over which the evidence is maximised."""


class MetaPredictor:
    """Meta-learned on the benchmark tables of the other datasets (transfer protocol `sister-tables`).

    Before any label of the target its values are standardised scores; after, they are in the labels' units.
    """

    transfer: ClassVar[str] = "sister-tables"

    def setup(self, *, space: SearchSpace, dataset: str, seed: int) -> None:
        """Load the checkpoint that was trained without labels of `dataset`."""
        del seed  # nothing here is random
        path = shipped(space.name, self.transfer, dataset)
        if not path.is_file():
            there = sorted(file.stem.removeprefix(f"{self.transfer}-") for file in path.parent.glob(f"{self.transfer}-*"))
            if not there:
                raise UserError(f"no {self.transfer} meta-predictor is shipped for space {space.name!r}; see python -m diffnag.train_predictor")
            raise unknown("dataset", dataset, there)
        self.load(path, space=space, dataset=dataset)

    def load(self, path: str | Path, *, space: SearchSpace, dataset: str) -> None:
        """Use the checkpoint in `path`, which must have been made for `space` and target `dataset`."""
        tensors, meta = load_checkpoint(path, kind=KIND)
        if (meta["space"], meta["target"]) != (space.name, dataset):
            raise UserError(f"{path} predicts {meta['target']} in {meta['space']}, not {dataset} in {space.name}")
        self._build(space, MetaConfig(**meta["config"]), from_json(meta["sde"]))
        for name, net in (("clean", self._clean), ("noisy", self._noisy)):
            net.load_state_dict({key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")})
        self._labels_source: dict[str, int] = meta["labels_source"]
        self._bind(dataset)

    @property
    def labels_source(self) -> Mapping[str, int]:
        """Origin -> number of labels of other datasets that it was trained on."""
        return self._labels_source

    # -- training

    def meta_fit(
        self,
        sources: Sequence[Source],
        *,
        space: SearchSpace,
        target: str,
        seed: int,
        report: Callable[[str, int, int, float], None],
    ) -> None:
        """Train from scratch on `sources`, none of which may be of `target`; `report(stage, step, steps, loss)`."""
        from predictors.meta_training import Schedule, train_clean, train_noisy, whiten

        if any(source.dataset == target for source in sources):
            raise UserError(f"a source holds labels of the target {target}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # layers initialise from the global generator
            self._build(space, MetaConfig(), load_denoiser(space).sde)
        self._labels_source = {source.origin: source.labels for source in sources}
        steps = FEW_STEPS if sum(source.labels for source in sources) < FEW_LABELS else MANY_STEPS
        train_clean(self._clean, sources, space, Schedule(steps), seed=seed, report=report)
        with torch.no_grad():
            embedding = self._clean.task(load_task(target))
        whiten(self._clean, embedding, space)
        train_noisy(self._noisy, self._clean, target, space, Schedule(NOISY_STEPS), seed=seed, report=report)
        self._bind(target)

    def save(self, path: str | Path, *, target: str, meta: Mapping[str, Any]) -> None:
        """Write both networks and what they were trained on."""
        nets = {"clean": self._clean, "noisy": self._noisy}
        about = {
            "kind": KIND, "space": self._space.name, "target": target,
            "labels_source": dict(self._labels_source), "config": asdict(self._config), "sde": to_json(self._noisy.sde),
        }  # fmt: skip
        save_checkpoint(path, {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}, {**meta, **about})

    def _build(self, space: SearchSpace, config: MetaConfig, sde: Any) -> None:
        self._space, self._config = space, config
        self._clean, self._noisy = CleanNetwork(space, config), NoisyNetwork(space, sde, config)

    def _bind(self, dataset: str) -> None:
        """Fix the task: both embeddings are computed once."""
        task = load_task(dataset)
        for net in (self._clean, self._noisy):
            net.eval().requires_grad_(False)
        self._task_clean, self._task_noisy = self._clean.task(task), self._noisy.task(task)
        self._forget()

    # -- labels of the target

    def _forget(self) -> None:
        k = self._config.features
        self._change, self._covariance, self._noise = torch.zeros(k), torch.zeros(k, k), 0.0
        self._gain, self._shift = 1.0, 0.0

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Adapt the weights to labels `y (m,)` of the target, all that there are; every call starts from the prior.

        The labels' scale is unknown, so they are first given mean and spread of the prior's scores of the same
        architectures. The change of weights then has a normal prior whose scale, with that of the labels' noise, is the
        one of largest evidence (MacKay 1992).
        """
        self._forget()
        if len(y) < 3 or np.std(y) == 0:
            self._shift = float(np.mean(y)) - float(self._scores(archs)[0].mean())
            return
        median = np.median(y)
        y = np.maximum(y, median - 4 * 1.4826 * max(np.median(np.abs(y - median)), 1e-9))  # failures say little of the best
        prior, _, phi = self._scores(archs)
        self._gain = float(np.std(y) / max(float(prior.std()), 1e-6))
        self._shift = float(np.mean(y)) - self._gain * float(prior.mean())
        residual = torch.as_tensor((y - self._shift) / self._gain, dtype=torch.float64) - prior
        _, change, noise = max(
            (_evidence(phi, residual, change, noise), change, noise) for change in PRIOR_SCALES for noise in NOISE_SCALES
        )
        precision = phi.T @ phi / noise**2 + torch.eye(phi.shape[1]).double() / max(change, 1e-3) ** 2
        covariance = torch.linalg.inv(precision)
        self._covariance, self._noise = covariance.float(), noise
        self._change = (covariance @ phi.T @ residual / noise**2).float()

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)`: standardised scores before any label, then in the labels' units."""
        prior, std, phi = self._scores(archs)
        mean = prior + phi @ self._change.double()
        if self._noise:
            std = ((phi @ self._covariance.double() * phi).sum(1) + self._noise**2).sqrt()
        return (self._shift + self._gain * mean).numpy(), (self._gain * std).numpy()

    def _scores(self, archs: Sequence[Arch]) -> tuple[Tensor, Tensor, Tensor]:
        """The prior's mean `(b,)` and standard deviation `(b,)`, and phi `(b, k)`, float64."""
        batch = ArchBatch.of(archs, self._space)
        with torch.no_grad():
            phi = self._clean(batch.V, batch.E, batch.mask, self._task_clean.expand(len(batch), -1))
            mean, variance = self._clean.value(phi)[:, 0], functional.softplus(self._clean.log_variance(phi)[:, 0])
        return mean.double(), (variance + 1e-3).sqrt().double(), phi.double()

    # -- guidance

    def forward(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """Mean `(b,)` of relaxed architectures, in the units of `predict`; differentiable."""
        phi = self._clean(V, E, mask, self._task_clean.expand(len(V), -1))
        return self._shift + self._gain * (phi @ self._weight() + self._clean.value.bias)

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance `(b,)` of `predict`'s mean, for the clean architecture behind x_t; differentiable."""
        mean, factor = self._noisy(V, E, mask, t, self._task_noisy.expand(len(V), -1))
        weight = self._weight()
        value = self._shift + self._gain * (mean @ weight + self._clean.value.bias)
        return value, self._gain**2 * (factor.transpose(1, 2) @ weight).square().sum(1)

    def _weight(self) -> Tensor:
        return self._clean.value.weight[0] + self._change


class MetaOnlyPredictor(MetaPredictor):
    """Meta-learned without any table of the search space's own benchmark (transfer protocol `meta-only`)."""

    transfer = "meta-only"


def shipped(space: str, transfer: str, target: str) -> Path:
    """Where the package keeps a meta-predictor."""
    return PRETRAINED / space / f"{transfer}-{target}.safetensors"


def _evidence(phi: Tensor, residual: Tensor, change: float, noise: float) -> float:
    """Log marginal likelihood of `residual (m,)` under weights N(0, change^2) on `phi (m, k)` and noise N(0, noise^2)."""
    covariance = change**2 * phi @ phi.T + noise**2 * torch.eye(len(phi)).double()
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, residual[:, None], upper=False)
    return float(-0.5 * white.square().sum() - torch.diagonal(factor).log().sum())
