"""Predictor `clip`: a tower for tasks and a tower for architectures that meet in one space (Radford et al. 2021, CLIP).

A pair is a task and an architecture that is good on it. It learns from our own measurements alone, and ranks architectures for images that
it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.datasets.sources import FIDELITIES, OWN_IMAGES, labels_by_origin
from diffnag.datasets.tasks import task_features
from diffnag.errors import UserError
from diffnag.io.checkpoint import config_from, load_checkpoint, rebuilding, save_checkpoint
from diffnag.networks.build import seeded
from diffnag.predictors.adaptation import DoubtfulAdaptation
from diffnag.predictors.meta.network import TaskEncoder
from diffnag.predictors.meta.predictor import as_inputs, shipped
from diffnag.predictors.path_features import Groups, PathFeatures
from diffnag.spaces.draws import random_archs
from diffnag.spaces.fingerprint import check_fingerprint, space_fingerprint

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.datasets.sources import Source
    from diffnag.datasets.tasks import Task, TaskFeatures
    from diffnag.protocols import SearchSpace

KIND = "contrastive-predictor"
NEEDS = {"space": str, "space_fingerprint": str, "target": str, "config": dict, "labels_source": dict}
SMALL = FIDELITIES.index("small")
COLDEST = 0.01
"""Least temperature: CLIP clips the scale of its logits at 100."""
POOL = 2048
"""Random architectures over which scores are standardised."""


@dataclass(frozen=True)
class ClipConfig:
    """Sizes and training of the two towers."""

    hidden: int = 128
    size: int = 16
    """Size of the space in which they meet."""
    task: int = 16
    knows: str = "images"
    """Inputs of a task: `nothing`, `descriptors`, or `images` (descriptors and images)."""
    steps: int = 500
    tasks: int = 64
    """Pairs of a step."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    choosiness: float = 2.0
    """An architecture is drawn as good on a task in proportion to `exp(choosiness z)`, z its standardised value there."""
    pairs: float = 0.1
    """Weight of CLIP's own loss over the pairs of a step; the rest is that of an architecture among those measured on its task. There are
    few tasks, each with architectures of its own: with a larger weight the towers remember which belong together."""
    jitter: float = 0.3
    """Standard deviation of the noise on a task's standardised inputs."""


class Towers(nn.Module):
    """Unit vectors of tasks and of architectures; logits are their cosines over a learned temperature."""

    def __init__(self, inputs: int, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.task = TaskEncoder(config.task, config.knows)
        self.of_task = nn.Linear(config.task, config.size)
        self.of_arch = nn.Sequential(
            nn.Linear(inputs, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.size)
        )
        self.log_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))  # as CLIP begins

    def tasks(self, inputs: Tensor) -> Tensor:
        """Inputs of tasks `(r, k)` -> `(r, size)`."""
        return functional.normalize(self.of_task(self.task(inputs, torch.full((len(inputs),), SMALL))), dim=-1)

    def archs(self, inputs: Tensor) -> Tensor:
        """Features of architectures `(..., inputs)` -> `(..., size)`."""
        return functional.normalize(self.of_arch(inputs), dim=-1)

    def scale(self) -> Tensor:
        """One over the temperature."""
        return self.log_scale.exp().clamp_max(1 / COLDEST)

    def loss(self, tasks: Tensor, good: Tensor, others: Tensor) -> Tensor:
        """Symmetric InfoNCE of `r` pairs, and the cross-entropy of the good architecture of each task among the `others` measured on it.

        `tasks (r, k)`, `good (r, inputs)`, `others (r, m, inputs)`. The second is no part of CLIP: without it only what differs between
        tasks is learned, and not what is good on most of them.
        """
        t, a, o = self.tasks(tasks), self.archs(good), self.archs(others)
        between, within = self.scale() * t @ a.T, self.scale() * torch.einsum("rk,rmk->rm", t, o)
        right = torch.arange(len(t))
        pairs = (functional.cross_entropy(between, right) + functional.cross_entropy(between.T, right)) / 2
        listed = functional.cross_entropy(torch.cat([between.diagonal()[:, None], within], dim=1), torch.zeros_like(right))
        return self.config.pairs * pairs + (1 - self.config.pairs) * listed


class ClipPredictor:
    """Ranks architectures by the cosine of their vector and the task's, corrected by the labels of a search.

    Scores are standardised over random architectures before any label of the target, and in the units of the labels afterwards.
    """

    transfer: ClassVar[str] = "meta-only"
    kept_as: ClassVar[str] = "clip"

    def __init__(self, config: ClipConfig | None = None) -> None:
        self._config = config or ClipConfig()

    def setup(self, *, space: SearchSpace, task: Task, seed: int) -> None:
        """Load the shipped checkpoint that was trained without images of the task's dataset; `UserError` if there is none."""
        del seed  # nothing is random
        target = task.name if task.name in space.datasets else OWN_IMAGES
        seen = task.seen if target == OWN_IMAGES else None
        path = shipped(space.name, self.kept_as, target)
        if not path.is_file():
            raise UserError(f"no contrastive predictor for {target} is shipped for space {space.name!r}; see python -m diffnag.train_predictor")
        self.load(path, space=space, target=target, task=seen)

    def load(self, path: str | Path, *, space: SearchSpace, target: str, task: TaskFeatures | None = None) -> None:
        """Use the checkpoint in `path`; `UserError` for a damaged one, and for one of another space or target."""
        tensors, meta = load_checkpoint(path, kind=KIND, needs=NEEDS)
        if (meta["space"], meta["target"]) != (space.name, target):
            raise UserError(f"{path} predicts {meta['target']} in {meta['space']}, not {target} in {space.name}")
        check_fingerprint(space, meta["space_fingerprint"], what=str(path))
        with rebuilding(path):
            self._config = config_from(ClipConfig, meta["config"])
            self._build(space)
            self.towers.load_state_dict(tensors)
            self._labels_source = {origin: int(labels) for origin, labels in meta["labels_source"].items()}
            self.bind(task or task_features(target))

    @property
    def labels_source(self) -> Mapping[str, int]:
        """Origin -> number of labels of other datasets in training."""
        return self._labels_source

    def meta_fit(
        self, sources: Sequence[Source], *, space: SearchSpace, target: str, seed: int, report: Callable[[str, int, int, float], None]
    ) -> None:
        """Train both towers on those of `sources` that are our own measurements; `UserError` where there are none."""
        small = [source for source in sources if source.fidelity == "small"]
        if not small:
            raise UserError(f"predictor clip learns from our own measurements, and there are none for space {space.name!r}")
        self._build(space, seed=seed)
        self._labels_source = labels_by_origin(small)
        train_towers(self.towers, small, self._features, seed=seed, report=report)
        self.bind(task_features(target) if target != OWN_IMAGES else small[0].task)

    def save(self, path: str | Path, *, target: str, meta: Mapping[str, Any]) -> None:
        """Write both towers, the origin of the labels, and `meta`."""
        about = {
            "kind": KIND, "space": self._space.name, "space_fingerprint": space_fingerprint(self._space), "target": target,
            "labels_source": dict(self._labels_source), "config": asdict(self._config),
        }  # fmt: skip
        save_checkpoint(path, self.towers.state_dict(), {**meta, **about})

    def bind(self, task: TaskFeatures) -> None:
        """Fix the task, whose vector is computed once, and forget all labels."""
        self.towers.eval().requires_grad_(False)
        self._task = self.towers.tasks(self.towers.task.inputs(task)[None])[0]
        self._adaptation: DoubtfulAdaptation | None = None
        scores = self._cosines(self._features(random_archs(self._space, POOL, seed=0)))
        self._centre, self._spread = float(scores.mean()), float(scores.std()) or 1.0

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Adapt to all labels `y (m,)` of the target so far; every call starts from the prior."""
        scores, groups = self._prior(archs)
        self._adaptation = DoubtfulAdaptation(np.inf)
        self._adaptation.fit(scores, groups, y)

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(b,)`: standardised scores before any label, then in the labels' units."""
        scores, groups = self._prior(archs)
        return (scores, np.ones(len(scores))) if self._adaptation is None else self._adaptation.predict(scores, groups)

    def _build(self, space: SearchSpace, *, seed: int = 0) -> None:
        self._space, self._groups = space, PathFeatures(space)
        with seeded(seed):
            self.towers = Towers(self._features(random_archs(space, 1, seed=0)).shape[1], self._config)

    def _features(self, archs: Sequence[Arch]) -> Tensor:
        return as_inputs(self._groups(archs))

    def _cosines(self, features: Tensor) -> np.ndarray:
        with torch.no_grad():
            return np.asarray((self.towers.archs(features) @ self._task).double().numpy())

    def _prior(self, archs: Sequence[Arch]) -> tuple[np.ndarray, Groups]:
        groups = self._groups(archs)
        return (self._cosines(as_inputs(groups)) - self._centre) / self._spread, groups


def train_towers(
    towers: Towers, sources: Sequence[Source], features: Callable[[Sequence[Arch]], Tensor], *, seed: int,
    report: Callable[[str, int, int, float], None],
) -> None:
    """Train on pairs of a task of `sources` and an architecture that is good on it, drawn anew in each step."""
    config, generator = towers.config, torch.Generator().manual_seed(seed)
    towers.task.standardise([source.task for source in sources])
    inputs = torch.stack([towers.task.inputs(source.task) for source in sources])
    spread = towers.task.spread
    archs = [features(source.archs) for source in sources]
    odds = [torch.as_tensor(np.exp(config.choosiness * (source.values - source.values.max())), dtype=torch.float32) for source in sources]
    others = min(map(len, archs)) - 1
    optimizer = torch.optim.AdamW(towers.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for step in range(config.steps):
        chosen = torch.randperm(len(sources), generator=generator)[: config.tasks].tolist()
        good, rest = [], []
        for k in chosen:
            pick = int(torch.multinomial(odds[k], 1, generator=generator))
            order = torch.randperm(len(archs[k]), generator=generator)
            good.append(archs[k][pick])
            rest.append(archs[k][order[order != pick][:others]])
        noise = config.jitter * spread * torch.randn(len(chosen), inputs.shape[1], generator=generator)
        loss = towers.loss(inputs[chosen] + noise, torch.stack(good), torch.stack(rest))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 20 == 0:
            report("towers", step + 1, config.steps, float(loss.detach()))
