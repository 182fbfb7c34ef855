"""What an architecture is wanted for: a dataset, its images where they are at hand, and what a predictor sees of them."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffnag.datasets.encoder import encode_images
from diffnag.errors import UserError, unknown
from diffnag.io.checkpoint import load_checkpoint, rebuilding
from diffnag.io.files import PRETRAINED

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset
    from diffnag.protocols import SearchSpace

TASKS = PRETRAINED / "tasks.safetensors"
IMAGES_PER_CLASS = 20
DESCRIPTORS = ("log classes", "log images a class", "log side", "colour")
_WITHOUT_IMAGES = {"ImageNet16-120": (120, 1268, 16, 3)}
"""Datasets with accuracies but without images that can be had: classes, training images a class, side, channels."""


class TaskFeatures(NamedTuple):
    """What a predictor sees of a task: `features (classes, images, FEATURES)` in no order, None without images; `descriptors (4,)`."""

    features: Tensor | None
    descriptors: Tensor


class Task:
    """What an architecture is wanted for: a dataset by name and, for a user's own dataset, its images.

    Args:
        name: The dataset's name, or the folder or file of a user's own images.
        images: A user's own images, where they are in memory. Otherwise an `own` task reads them when they are first needed.
        own: Whether `name` is a user's own images and not a known dataset.
    """

    def __init__(self, name: str, *, images: ImageDataset | None = None, own: bool | None = None) -> None:
        self.name = name
        self.own = images is not None if own is None else own
        self._given = images

    @classmethod
    def of(cls, dataset: str, space: SearchSpace, *, images: ImageDataset | None = None) -> Task:
        """The task called `dataset`; names that `space` or the package know come before files and folders of the same name."""
        from diffnag.datasets.images import is_image_source

        known = dataset in space.datasets or dataset in known_datasets()
        return cls(dataset, images=images, own=images is not None or (not known and is_image_source(dataset)))

    @cached_property
    def images(self) -> ImageDataset | None:
        """A user's own images, read if need be; None for a known dataset. Raises `UserError` as `load_images`."""
        if self._given is not None or not self.own:
            return self._given
        from diffnag.datasets.images import load_images

        return load_images(self.name)

    @cached_property
    def seen(self) -> TaskFeatures:
        """Image features and descriptors: of the training images, else those shipped for the dataset; `UserError` for other names."""
        images = self.images
        return task_features(self.name) if images is None else _looked_at(images)

    @property
    def features(self) -> Tensor | None:
        """Image features `(classes, images, FEATURES)`, None where the images cannot be had."""
        return self.seen.features

    @property
    def descriptors(self) -> Tensor:
        """`DESCRIPTORS (4,)`, around 0."""
        return self.seen.descriptors


def features_of_images(
    x: np.ndarray, y: np.ndarray, *, side: int | None = None, images_per_class: int = IMAGES_PER_CLASS, seed: int = 0
) -> TaskFeatures:
    """Features of training images `x`, uint8 `(b, h, w)` or `(b, h, w, 3)`, with labels `y (b,)`, whole numbers.

    `seed` draws the images that are encoded; a class with fewer than `images_per_class` repeats some of them. `side` is the
    side of the images that networks will be trained on, by default that of `x`. Raises `UserError`.
    """
    if y.shape != (len(x),) or not len(x):
        raise UserError(f"there are {len(x)} images and labels of shape {y.shape}; accepted is one label an image")
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(y):
        (members,) = np.nonzero(y == label)
        drawn = rng.permutation(members)[:images_per_class]
        chosen.append(np.sort(np.resize(drawn, images_per_class)))
    features = encode_images(x[np.concatenate(chosen)]).unflatten(0, (len(chosen), images_per_class))
    grey = x.ndim == 3 or bool((x == x[..., :1]).all())
    return TaskFeatures(features, descriptors_of(len(chosen), len(x) / len(chosen), side or x.shape[1], 1 if grey else 3))


def _looked_at(images: ImageDataset) -> TaskFeatures:
    """Features of a user's own training images; the descriptors of arrays are those of photos of their longer side."""
    looks = images.looks
    return features_of_images(looks.x, looks.y, side=images.size)


def descriptors_of(classes: int, images: float, side: int, channels: int) -> Tensor:
    """`DESCRIPTORS (4,)`, around 0. Outside 10 to 400 images a class and 8 to 32 pixels, where nothing was learned, the nearest value counts."""
    images, side = min(max(images, 10), 400), min(max(side, 8), 32)
    return torch.tensor([np.log(classes / 10), np.log(images / 100), np.log2(side / 16), (channels - 2) / 2], dtype=torch.float32)


def without_images(classes: int, images: float, side: int, channels: int) -> TaskFeatures:
    """Features of a dataset whose images cannot be had: `images` a class, `side` in pixels."""
    return TaskFeatures(None, descriptors_of(classes, images, side, channels))


def known_datasets() -> list[str]:
    """Names of the datasets that `task_features` knows."""
    return sorted([*_shipped(), *_WITHOUT_IMAGES], key=str.lower)


def task_features(dataset: str) -> TaskFeatures:
    """The shipped features of a known dataset; raises `UserError` for other names."""
    if dataset in _WITHOUT_IMAGES:
        return without_images(*_WITHOUT_IMAGES[dataset])
    if dataset not in _shipped():
        raise unknown("dataset", dataset, known_datasets())
    return _shipped()[dataset]


@lru_cache(maxsize=1)
def _shipped() -> dict[str, TaskFeatures]:
    tensors, _ = load_checkpoint(TASKS, kind="tasks")
    with rebuilding(TASKS):
        names = {key.partition("/")[0] for key in tensors}
        return {name: TaskFeatures(tensors[f"{name}/features"].float(), tensors[f"{name}/descriptors"].float()) for name in names}
