"""The oracle `training`: accuracies measured by training on a user's own images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.datasets.images.groups import groups_of
from diffnag.errors import UserError
from diffnag.oracles.checked import refuse_unknown
from diffnag.spaces.inputs import refuse_resolutions
from diffnag.spaces.tokens import refuse_tokens

if TYPE_CHECKING:
    from torch import nn

    from diffnag.arch import Arch
    from diffnag.datasets.images import ImageDataset, Images
    from diffnag.protocols import SearchSpace

SECONDS = 3.0
"""Seconds of one core, about, for one full evaluation."""


class TrainingOracle:
    """Trains each architecture in a reduced skeleton on the training images and judges it on the validation images.

    It never sees the test images. Every evaluation has the same seed: initial weights and the order of the images repeat. Within a time
    limit, an architecture whose networks take longer than the residual one is trained for fewer epochs, and a cheaper one for more: so will
    be the final training.
    """

    kind = "training"
    images: ImageDataset

    def setup(self, *, space: SearchSpace) -> None:
        """Remember the space; `set_images` is called next.

        Raises `UserError` if the networks of the space take tokens, and if its architectures have resolutions of their own.
        """
        refuse_tokens(space, "oracle 'training'")
        refuse_resolutions(space, "oracle 'training'")
        self._space = space
        self._dataset: str | None = None

    def set_images(
        self, images: ImageDataset, *, dataset: str, seconds: float | None, epochs: int | None, seed: int, device: str
    ) -> None:
        """See `diffnag.protocols.NeedsImages`; evaluations follow `plan_evaluation`."""
        import torch

        from diffnag.io.device import resolve_device
        from diffnag.io.memory import keep_freed_memory
        from diffnag.networks.plan import logits_of, plan_evaluation
        from diffnag.networks.targets import target_of
        from diffnag.networks.training import as_input, channel_statistics

        keep_freed_memory()
        self.images, self._dataset, self._seed = images, dataset, seed
        self.plan = plan_evaluation(images, self._space, seconds=seconds or SECONDS, epochs=epochs)
        self._in_equal_time = seconds is not None
        self._device, self._target = resolve_device(device), target_of(images)
        train = _share(images.train, self.plan.images)
        statistics = channel_statistics(images.train.x[train])
        self._x, self._x_val = (
            as_input(x, device=self._device, statistics=statistics) for x in (images.train.x[train], images.val.x)
        )
        self._y, self._y_val = (torch.from_numpy(y).to(self._device) for y in (images.train.y[train], images.val.y))
        arch = self._space.random(np.random.default_rng(0))
        with torch.no_grad():  # finds a space that breaks its contract before the first training
            logits_of(self._network(arch).eval(), self._x[:2], arch, self._space, num_classes=len(images.classes))

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """The user's dataset, with its validation split only."""
        return {} if self._dataset is None else {self._dataset: ("val",)}

    @property
    def epochs(self) -> int:
        """Epochs of an evaluation that is not stopped."""
        return self.plan.recipe.epochs

    def stages(self, arch: Arch, *, dataset: str, split: str) -> Iterator[tuple[int, float]]:
        """Validation score in %, an accuracy for classes, after a third, two thirds and all epochs of one training. Raises `Diverged`.

        The epochs that are yielded are those of the residual network that take as long.
        """
        import torch

        from diffnag.networks.training import accuracy, epochs

        refuse_unknown(self.available, dataset, split)
        generator = torch.Generator().manual_seed(self._seed)
        recipe = replace(self.plan.recipe, epochs=self.epochs_of(arch))
        marks = {-(-recipe.epochs * rung // self.epochs): rung for rung in self.plan.rungs}
        training = epochs(self._network(arch), self._x, self._y, recipe, generator=generator, target=self._target)
        for done, averaged in enumerate(training, start=1):
            if done in marks:
                yield marks[done], round(accuracy(averaged, self._x_val, self._y_val, target=self._target), 4)

    def epochs_of(self, arch: Arch) -> int:
        """Epochs of an evaluation of `arch` that is not stopped: those that take as long as `epochs` of the residual network."""
        from diffnag.networks.plan import relative_cost

        if not self._in_equal_time:
            return self.epochs
        return int(np.clip(self.epochs / relative_cost(arch, self._space), max(len(self.plan.rungs), self.epochs / 4), 2 * self.epochs))

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Validation accuracy in % after `epochs`, one of the plan's rungs, by default the last."""
        epochs = self.epochs if epochs is None else epochs
        if epochs not in self.plan.rungs:
            known = ", ".join(map(str, self.plan.rungs))
            raise UserError(f"an evaluation is not judged after {epochs} epochs; there are: {known}")
        return next(value for done, value in self.stages(arch, dataset=dataset, split=split) if done == epochs)

    def provenance(self) -> Mapping[str, str | float]:
        """Checksum of images and split, and the plan."""

        def plain(value: Any) -> str | float:
            return int(value) if isinstance(value, bool) else value if isinstance(value, int | float) else str(value)

        if self._dataset is None:
            return {}
        plan = {key: plain(value) for key, value in self.plan.to_json().items()}
        return {"sha256": self.images.sha256, "image_size": self.images.size, "in_equal_time": int(self._in_equal_time), **plan}

    def _network(self, arch: Arch) -> nn.Module:
        from diffnag.networks.build import seeded_build

        return seeded_build(
            self.plan.skeleton, arch, self._space, num_classes=len(self.images.classes), image_size=self.images.size,
            seed=self._seed, device=self._device,
        )  # fmt: skip


def _share(images: Images, count: int) -> np.ndarray:
    """Sorted indices of `count` images with the same share of every class; of all images if there are no more."""
    if count >= len(images.y):
        return np.arange(len(images.y))
    rng = np.random.default_rng(0)
    place, groups = np.empty(len(images.y)), groups_of(images.y)  # place of each image in its class, as a fraction
    for label in np.unique(groups):
        (members,) = np.nonzero(groups == label)
        place[rng.permutation(members)] = np.arange(len(members)) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:count])
