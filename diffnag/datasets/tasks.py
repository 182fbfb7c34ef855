"""A task as a predictor sees it: image features of some training images of each class, and a few plain figures."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from diffnag.datasets.encoder import encode_images
from diffnag.errors import UserError, unknown
from diffnag.io.checkpoint import load_checkpoint
from diffnag.io.files import PRETRAINED

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset

TASKS = PRETRAINED / "tasks.safetensors"
IMAGES_PER_CLASS = 20
DESCRIPTORS = ("log classes", "log images a class", "log side", "colour")
_WITHOUT_IMAGES = {"ImageNet16-120": (120, 1268, 16, 3)}
"""Datasets with accuracies but no images to be had: classes, training images a class, side, channels."""
_IN_USE: WeakValueDictionary[str, ImageDataset] = WeakValueDictionary()
"""A user's own images that are in memory, by their source."""


class Task(NamedTuple):
    """`features (classes, images, FEATURES)`, in no order; None where the images are not to be had. `descriptors (4,)`."""

    features: Tensor | None
    descriptors: Tensor


def task_from_images(
    x: np.ndarray, y: np.ndarray, *, side: int | None = None, images_per_class: int = IMAGES_PER_CLASS, seed: int = 0
) -> Task:
    """The task of training images `x`, uint8 `(b, h, w)` or `(b, h, w, 3)`, and labels `y (b,)`, whole numbers.

    `seed` draws the images that are looked at; a class with fewer than `images_per_class` has some of them twice. `side`
    is that of the images that networks will be trained on, by default that of `x`. Raises `UserError`.
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
    return Task(features, descriptors_of(len(chosen), len(x) / len(chosen), side or x.shape[1], 1 if grey else 3))


def descriptors_of(classes: int, images: float, side: int, channels: int) -> Tensor:
    """`DESCRIPTORS (4,)`, around 0; beyond 10 to 400 images a class and 8 to 32 pixels, where nothing was learned, the nearest there is."""
    images, side = min(max(images, 10), 400), min(max(side, 8), 32)
    return torch.tensor([np.log(classes / 10), np.log(images / 100), np.log2(side / 16), (channels - 2) / 2], dtype=torch.float32)


def without_images(classes: int, images: float, side: int, channels: int) -> Task:
    """The task of a dataset whose images are not to be had: `images` a class, `side` in pixels."""
    return Task(None, descriptors_of(classes, images, side, channels))


def known_datasets() -> list[str]:
    """Names that `load_task` takes beside image sources."""
    return sorted([*_shipped(), *_WITHOUT_IMAGES], key=str.lower)


def share_images(source: str, images: ImageDataset) -> None:
    """As long as `images` are in use `load_task(source)` looks at them and reads none: many files take minutes."""
    _IN_USE[source] = images


def load_task(dataset: str) -> Task:
    """The shipped task of `dataset`, or that of the training images of a user's own source (`diffnag.datasets.images`).

    Raises `UserError` for other names.
    """
    if dataset in _WITHOUT_IMAGES:
        return without_images(*_WITHOUT_IMAGES[dataset])
    if dataset in _shipped():
        return _shipped()[dataset]
    return _own(dataset)


def own_images(source: str) -> ImageDataset:
    """A user's own images: those in use, else they are read; `UserError` as `load_images`."""
    from diffnag.datasets.images import load_images

    return _IN_USE.get(source) or load_images(source)


def _own(source: str) -> Task:
    from diffnag.datasets.images import is_image_source

    if not is_image_source(source):
        raise unknown("dataset", source, known_datasets())
    images = own_images(source)
    return task_from_images(images.train.x, images.train.y)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Task]:
    tensors, _ = load_checkpoint(TASKS, kind="tasks")
    names = {key.partition("/")[0] for key in tensors}
    return {name: Task(tensors[f"{name}/features"].float(), tensors[f"{name}/descriptors"].float()) for name in names}
