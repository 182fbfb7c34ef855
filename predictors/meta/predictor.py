"""`meta` and `meta-only`: predictors meta-learned from other datasets, aware of the dataset and of diffusion noise.

Both score an architecture A for a task as `w . phi(A, task) + b`. Labels of the target, where a search pays for some,
sharpen these scores by a Gaussian process, or refute them; its answers, projected on phi, change `w`, and as the noise-aware network
predicts the distribution of phi itself, the changed `w` steers the diffusion at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.datasets.sources import FIDELITIES, OWN_IMAGES, labels_by_origin
from diffnag.datasets.tasks import task_features
from diffnag.errors import UserError
from diffnag.generators.diffusion.denoiser import load_denoiser
from diffnag.generators.diffusion.sde import from_json, to_json
from diffnag.io.checkpoint import config_from, load_checkpoint, rebuilding, save_checkpoint
from diffnag.io.files import PRETRAINED
from diffnag.predictors.adaptation import Adaptation, DoubtfulAdaptation
from diffnag.predictors.blas import one_blas_thread
from diffnag.predictors.meta.network import CleanNetwork, MetaConfig, NoisyNetwork
from diffnag.predictors.meta.recall import Recall
from diffnag.predictors.meta.training import Features, Schedule
from diffnag.predictors.path_features import Groups, PathFeatures
from diffnag.spaces.fingerprint import check_fingerprint, space_fingerprint

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.sources import Source
    from diffnag.datasets.tasks import Task, TaskFeatures
    from diffnag.protocols import SearchSpace

Prior = tuple[np.ndarray, np.ndarray, Groups]
KIND = "meta-predictor"
NEEDS = {
    "space": str, "space_fingerprint": str, "target": str, "config": dict, "sde": dict, "labels_source": dict, "std": float, "fidelity": int,
}  # fmt: skip
"""What the description in a checkpoint must have."""
CLEAN, NOISY = Schedule(4000, learning_rate=3e-3, weight_decay=0.01), Schedule(2500)
"""Training of the value and of the noise-aware part."""
POOL = 2048
"""Random architectures on which values are standardised, and the adapted scores projected on phi."""


class MetaPredictor:
    """Meta-learned on the benchmark tables of the other datasets (transfer protocol `sister-tables`) and our own measurements.

    For a dataset of the benchmark those tables are also remembered: `predict` starts from what they say of an architecture itself,
    and from the network where they do not know it; the network is what steers.

    Before any label of the target its values are standardised scores; after, they are in the labels' units. A dataset
    that the space's benchmark does not know is one of the user's own images: its task is that of its training images.
    """

    transfer: ClassVar[str] = "sister-tables"
    prior_labels: ClassVar[float] = np.inf
    """Labels of the target that the prior is good for; with more it is forgotten."""

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Load the checkpoint that was trained without labels of the task's dataset."""
        del seed  # nothing here is random
        target = task.name if task.name in space.datasets else OWN_IMAGES
        seen = task.seen if target == OWN_IMAGES else None  # an unknown name raises here, with the names that are known
        path = shipped(space.name, self.transfer, target)
        if not path.is_file():
            raise UserError(
                f"no {self.transfer} meta-predictor for {target} is shipped for space {space.name!r}; see python -m diffnag.train_predictor"
            )
        self.load(path, space=space, target=target, task=seen)

    def load(self, path: str | Path, *, space: SearchSpace, target: str, task: TaskFeatures | None = None) -> None:
        """Use the checkpoint in `path`, which must have been made for `space` and `target`; `task` is by default the target's."""
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
        from diffnag.predictors.meta.training import LOSS, own_process, random_archs, standardise, taught, train_clean, train_noisy, transfer_error

        self._build(space, MetaConfig(), load_denoiser(space).sde, seed=seed)
        self._labels_source = labels_by_origin(sources)
        self._recall = Recall.of(sources, space) if target != OWN_IMAGES else None
        task = task_features(target) if target != OWN_IMAGES else None
        tables = any(source.fidelity == "table" for source in sources)
        self._fidelity = FIDELITIES.index("small") if task is None else FIDELITIES.index("table") if tables else -1
        self._std = transfer_error(self._clean, sources, self._features, seed=seed, report=report)
        small = [source for source in sources if source.fidelity == "small"]
        process = own_process(self._clean, small, self._features, seed=seed, report=report)
        # how tables differ from dataset to dataset cannot be learned from two or three: each counts as the target's own
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
        """Write both networks and what they were trained on."""
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
        self._space, self._config = space, config
        self._groups = PathFeatures(space)
        self._features: Features = lambda archs: _inputs(self._groups(archs))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # layers initialise from the global generator
            inputs = self._features([space.random(np.random.default_rng(0))]).shape[1]
            self._clean, self._noisy = CleanNetwork(inputs, config), NoisyNetwork(space, sde, config)

    def _embedding(self, task: TaskFeatures) -> Tensor:
        """`(1, size)`"""
        return self._clean.task(self._clean.task.inputs(task)[None], torch.tensor([self._fidelity]))

    def _bind(self, task: TaskFeatures) -> None:
        """Fix the task: its embedding is computed once."""
        for net in (self._clean, self._noisy):
            net.eval().requires_grad_(False)
        self._task = self._embedding(task)
        self._adaptation: Adaptation | DoubtfulAdaptation | None = None
        self._pool: Prior | None = None
        self._weight, self._bias = self._clean.value.weight[0], self._clean.value.bias[0]

    # -- labels of the target

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Adapt to labels `y (m,)` of the target, all that there are; every call starts from the prior."""
        from diffnag.predictors.meta.training import random_archs

        # the order of whole tables is sharpened and never forgotten: doubt at the first few labels costs more than it saves
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

    def _prior(self, archs: Sequence[Arch]) -> Prior:
        """The prior's scores `(b,)`, phi `(b, k)`, and what the adaptation sees, `(b, ...)` each."""
        groups = self._groups(archs)
        with torch.no_grad():
            phi = self._clean(_inputs(groups), self._task.expand(len(archs), -1))
            value = self._clean.value(phi)[:, 0]
        scores = value.double().numpy()
        return self._recall(archs, otherwise=scores) if self._recall else scores, phi.double().numpy(), groups

    # -- guidance

    def forward_noisy(self, V: Tensor, E: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance `(b,)` of `predict`'s mean, for the clean architecture behind a noisy one; differentiable."""
        mean, factor = self._noisy(V, E, mask, noise, self._task.expand(len(V), -1))
        return mean @ self._weight + self._bias, (factor.transpose(1, 2) @ self._weight).square().sum(1)


class MetaOnlyPredictor(MetaPredictor):
    """Meta-learned without any table of the search space's own benchmark (transfer protocol `meta-only`).

    Short trainings on other images tell good from bad, so that the first architecture is good, but not the good from the best: on
    ImageNet16-120 a search that forgets the prior then is ahead of one that does not (`experiments.meta_search`).
    """

    transfer = "meta-only"
    prior_labels = 1


def architecture_features(space: SearchSpace) -> Features:
    """What the clean network sees of architectures, `(b, inputs)` float32."""
    groups = PathFeatures(space)
    return lambda archs: _inputs(groups(archs))


def _inputs(groups: Groups) -> Tensor:
    return torch.as_tensor(np.concatenate(groups, axis=1), dtype=torch.float32)


def shipped(space: str, transfer: str, target: str) -> Path:
    """Where the package keeps a meta-predictor."""
    return PRETRAINED / space / f"{transfer}-{target}.safetensors"
