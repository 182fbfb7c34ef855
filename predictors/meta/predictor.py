"""Predictors `meta` and `meta-only`: meta-learned from other datasets, they know the dataset and accept noisy architectures.

Both score an architecture A for a task as `w . phi(A, task) + b`. If a search pays for labels of the target, a Gaussian process corrects
these scores, or rejects them. Its predictions are projected on phi, which changes `w`. The noise-aware network predicts the distribution
of phi itself, so that the changed `w` steers the diffusion at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from diffnag.datasets.sources import FIDELITIES, OWN_IMAGES, labels_by_origin
from diffnag.datasets.tasks import task_features
from diffnag.errors import UserError
from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.diffusion.sde import from_json, to_json
from diffnag.io.checkpoint import config_from, load_checkpoint, rebuilding, save_checkpoint
from diffnag.io.files import PRETRAINED
from diffnag.io.threads import threads_for
from diffnag.predictors.adaptation import Adaptation, DoubtfulAdaptation
from diffnag.predictors.blas import one_blas_thread
from diffnag.predictors.meta.network import CleanNetwork, MetaConfig, NoisyNetwork
from diffnag.predictors.meta.recall import Recall
from diffnag.predictors.meta.training import Features, Schedule
from diffnag.predictors.path_features import Groups, PathFeatures
from diffnag.spaces.draws import random_archs
from diffnag.spaces.fingerprint import check_fingerprint, space_fingerprint

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.sources import Source
    from diffnag.datasets.tasks import Task, TaskFeatures
    from diffnag.protocols import SearchSpace

Prior = tuple[np.ndarray, np.ndarray, Groups]
"""Scores `(b,)`, phi `(b, k)` and groups of features of some architectures: those of their paths, and what the tables say of them."""
KIND = "meta-predictor"
NEEDS = {
    "space": str, "space_fingerprint": str, "target": str, "config": dict, "sde": dict, "labels_source": dict, "std": float, "fidelity": int,
}  # fmt: skip
"""Metadata that a checkpoint must have, with their types."""
CLEAN, NOISY = Schedule(4000, learning_rate=3e-3, weight_decay=0.01), Schedule(2500)
"""Training of the clean network, which gives the value, and of the noise-aware network."""
POOL = 2048
"""Random architectures over which values are standardised, and on which corrected scores are projected on phi."""


class MetaPredictor:
    """Meta-learned on the tables of a benchmark's other datasets (transfer protocol `sister-tables`) and on our own measurements.

    For a dataset of the benchmark the tables are also remembered (`Recall`): `predict` starts from their score of an architecture, or
    from the network's if no table has it, and labels learn what the value in each table is worth. Guidance always uses the network.

    Values are standardised scores before any label of the target, and in the units of the labels afterwards. A dataset that the space's
    benchmark does not know stands for a user's own images: its task is computed from the training images.
    """

    transfer: ClassVar[str] = "sister-tables"
    prior_labels: ClassVar[float] = np.inf
    """With more labels of the target than this the prior is no longer used."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Load the shipped checkpoint that was trained without labels of the task's dataset; `UserError` if there is none."""
        del seed  # nothing is random
        target = task.name if task.name in space.datasets else OWN_IMAGES
        seen = task.seen if target == OWN_IMAGES else None  # raises `UserError` for an unknown name
        path = shipped(space.name, self.transfer, target)
        if not path.is_file():
            raise UserError(
                f"no {self.transfer} meta-predictor for {target} is shipped for space {space.name!r}; see python -m diffnag.train_predictor"
            )
        self.load(path, space=space, target=target, task=seen)

    def load(self, path: str | Path, *, space: SearchSpace, target: str, task: TaskFeatures | None = None) -> None:
        """Use the checkpoint in `path`; `task` is by default the one of the dataset `target`.

        Raises `UserError` for a damaged checkpoint, and for one that was made for another space or target.
        """
        tensors, meta = load_checkpoint(path, kind=KIND, needs=NEEDS)
        if (meta["space"], meta["target"]) != (space.name, target):
            raise UserError(f"{path} predicts {meta['target']} in {meta['space']}, not {target} in {space.name}")
        check_fingerprint(space, meta["space_fingerprint"], what=str(path))
        task = task or task_features(target)
        with rebuilding(path):
            self._build(space, config_from(MetaConfig, meta["config"]), from_json(meta["sde"]))
            for name, net in (("clean", self._clean), ("noisy", self._noisy)):
                net.load_state_dict({key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")})
            recalled = {key.removeprefix("recall."): value for key, value in tensors.items() if key.startswith("recall.")}
            self._recall = Recall.from_tensors(space, recalled) if recalled else None
            self._labels_source = {origin: int(labels) for origin, labels in meta["labels_source"].items()}
            self._std, self._fidelity = meta["std"], meta["fidelity"]
            self._bind(task)

    @property
    def labels_source(self) -> Mapping[str, int]:
        """Origin -> number of labels of other datasets in training."""
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
        """Train from scratch on `sources`, none of which may be of `target`.

        Args:
            sources: Labels of other datasets.
            space: The space of the architectures.
            target: The dataset for which the predictor is meant.
            seed: Fixes all randomness.
            report: Called as `report(stage, step, steps, loss)` during training.
        """
        from diffnag.predictors.meta.training import LOSS, own_process, standardise, taught, train_clean, train_noisy, transfer_error

        self._build(space, MetaConfig(), load_denoiser(space).sde, seed=seed)
        self._labels_source = labels_by_origin(sources)
        self._recall = Recall.of(sources, space) if target != OWN_IMAGES else None
        task = task_features(target) if target != OWN_IMAGES else None
        tables = any(source.fidelity == "table" for source in sources)
        self._fidelity = FIDELITIES.index("small") if task is None else FIDELITIES.index("table") if tables else -1
        self._std = transfer_error(self._clean, sources, self._features, seed=seed, report=report)
        small = [source for source in sources if source.fidelity == "small"]
        process = own_process(self._clean, small, self._features, seed=seed, report=report)
        # two or three tables cannot show how tables differ between datasets, so each counts as the target's own
        lists = [replace(s, task=task) if task and s.fidelity == "table" else s for s in sources if s.fidelity != "small"]
        lists += taught(self._clean, process, small, task, space, self._features, seed=seed)
        train_clean(self._clean, lists, self._features, CLEAN, loss=LOSS, seed=seed, report=report)
        asked = [task] if task else [source.task for source in small]
        with torch.no_grad():
            embeddings = torch.cat([self._embedding(task) for task in asked])
        standardise(self._clean, embeddings, self._features(random_archs(space, POOL, seed=0)))
        train_noisy(self._noisy, self._clean, embeddings, space, self._features, NOISY, seed=seed, report=report)
        self._bind(asked[0])

    def save(self, path: str | Path, *, target: str, meta: Mapping[str, Any]) -> None:
        """Write a checkpoint: both networks, remembered tables, the origin of the labels, and `meta`."""
        nets = {"clean": self._clean, "noisy": self._noisy}
        about = {
            "kind": KIND, "space": self._space.name, "space_fingerprint": space_fingerprint(self._space),
            "target": target, "labels_source": dict(self._labels_source),
            "std": self._std, "fidelity": self._fidelity, "config": asdict(self._config), "sde": to_json(self._noisy.sde),
        }  # fmt: skip
        tensors = {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}
        tensors |= {f"recall.{key}": value for key, value in self._recall.tensors.items()} if self._recall else {}
        save_checkpoint(path, tensors, {**meta, **about})

    def _build(self, space: SearchSpace, config: MetaConfig, sde: Any, *, seed: int = 0) -> None:
        """Fresh networks whose weights `seed` draws."""
        self._space, self._config = space, config
        self._groups = PathFeatures(space)
        self._features: Features = lambda archs: as_inputs(self._groups(archs))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # layers initialise from the global generator
            inputs = self._features([space.random(np.random.default_rng(0))]).shape[1]
            self._clean, self._noisy = CleanNetwork(inputs, config), NoisyNetwork(space, sde, config)

    def _embedding(self, task: TaskFeatures) -> Tensor:
        """Embedding of the task, `(1, size)`."""
        return self._clean.task(self._clean.task.inputs(task)[None], torch.tensor([self._fidelity]))

    def _bind(self, task: TaskFeatures) -> None:
        """Fix the task, whose embedding is computed once, and forget all labels."""
        for net in (self._clean, self._noisy):
            net.eval().requires_grad_(False)
        self._task = self._embedding(task)
        self._adaptation: Adaptation | DoubtfulAdaptation | None = None
        self._pool: Prior | None = None
        self._weight, self._bias = self._clean.value.weight[0], self._clean.value.bias[0]

    # -- labels of the target

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Adapt to all labels `y (m,)` of the target so far; every call starts from the prior."""
        # remembered tables are never doubted: with the first few labels, doubt costs more than it gains
        self._adaptation = Adaptation() if self._recall else DoubtfulAdaptation(self.prior_labels)
        prior, _, features = self._prior(archs)
        self._adaptation.fit(prior, features, y)
        if self._pool is None:
            self._pool = self._prior(random_archs(self._space, POOL, seed=1))
        prior, phi, features = self._pool
        mean, _ = self._adaptation.predict(prior, features)
        columns = np.column_stack([phi, np.ones(len(phi))])
        with one_blas_thread():
            solution = np.linalg.lstsq(columns, mean, rcond=1e-6)[0]
        self._weight = torch.as_tensor(solution[:-1], dtype=torch.float32)
        self._bias = torch.as_tensor(solution[-1], dtype=torch.float32)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)`: standardised scores before any label, then in the labels' units."""
        prior, _, features = self._prior(archs)
        if self._adaptation is None:
            return prior, np.full(len(prior), self._std)
        return self._adaptation.predict(prior, features)

    def quantiles(self, archs: Sequence[Arch], levels: Sequence[float]) -> np.ndarray:
        """Quantiles `(levels, b)`, in the units of `predict`."""
        prior, _, features = self._prior(archs)
        if self._adaptation is None:
            return prior + self._std * ndtri(levels)[:, None]
        return self._adaptation.quantiles(prior, features, levels)

    def _prior(self, archs: Sequence[Arch]) -> Prior:
        """Scores of the prior, phi and features of architectures."""
        groups = self._groups(archs)
        with torch.no_grad(), threads_for(len(archs)):
            phi = self._clean(as_inputs(groups), self._task.expand(len(archs), -1))
            value = self._clean.value(phi)[:, 0]
        scores = value.double().numpy()
        if self._recall:
            scores, values = self._recall(archs, otherwise=scores)
            groups = (*groups, values)
        return scores, phi.double().numpy(), groups

    # -- guidance

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance `(b,)` of the mean that `predict` gives for the clean architecture; differentiable.

        `V (b, n, f)` and `E (b, n, n)` are noisy, in the data's scale; `mask (b, n)`, noise levels `noise (b,)`.
        """
        mean, factor = self._noisy(V, E, mask, noise, self._task)
        return mean @ self._weight + self._bias, (factor.transpose(1, 2) @ self._weight).square().sum(1)


class MetaOnlyPredictor(MetaPredictor):
    """Meta-learned without any table of the search space's benchmark (transfer protocol `meta-only`).

    Short trainings on other images separate good architectures from bad ones, so the first proposal is good. They do not separate the
    best from the good: on ImageNet16-120 a search that then drops the prior is ahead of one that keeps it (`experiments.meta_search`).
    """

    transfer = "meta-only"
    prior_labels = 1


def architecture_features(space: SearchSpace) -> Features:
    """The function that computes the clean network's inputs for architectures, float32 `(b, inputs)`."""
    groups = PathFeatures(space)
    return lambda archs: as_inputs(groups(archs))


def as_inputs(groups: Groups) -> Tensor:
    """All groups side by side, float32 `(b, inputs)`."""
    return torch.as_tensor(np.concatenate(groups, axis=1), dtype=torch.float32)


def shipped(space: str, transfer: str, target: str) -> Path:
    """Path of the checkpoint that the package ships, whether it exists or not."""
    return PRETRAINED / space / f"{transfer}-{target}.safetensors"
