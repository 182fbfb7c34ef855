"""A task as a set: image features of some training images of each class, `(classes, images, 64)`; the order means nothing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from diffnag.checkpoint import load_checkpoint
from diffnag.datasets.features import random_conv_features
from diffnag.errors import UserError, unknown
from diffnag.files import PRETRAINED

TASKS = PRETRAINED / "tasks.safetensors"
WITHOUT_IMAGES = ("ImageNet16-120",)
"""Datasets with accuracies but no images to be had; to a predictor their task is unknown."""


def task_from_images(x: np.ndarray, y: np.ndarray, *, images_per_class: int = 20, seed: int = 0) -> Tensor:
    """Features `(classes, images_per_class, 64)` float32 of images drawn from each class, in the order of the labels.

    `x` is as in `random_conv_features`, `y (b,)` whole numbers; `seed` draws the images, the features are always the
    same. Raises `UserError` where a class has too few images.
    """
    if y.shape != (len(x),) or not len(x):
        raise UserError(f"there are {len(x)} images and labels of shape {y.shape}; accepted is one label an image")
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(y):
        (members,) = np.nonzero(y == label)
        if len(members) < images_per_class:
            raise UserError(f"class {label} has {len(members)} images; at least {images_per_class} are needed")
        chosen.append(np.sort(rng.choice(members, images_per_class, replace=False)))
    return random_conv_features(x[np.concatenate(chosen)]).unflatten(0, (len(chosen), images_per_class))


def known_datasets() -> list[str]:
    """Names that `load_task` takes."""
    return sorted([*_shipped(), *WITHOUT_IMAGES], key=str.lower)


def load_task(dataset: str) -> Tensor | None:
    """The shipped task of `dataset`, `(classes, images, 64)` float32; None where no images of it are to be had.

    Raises `UserError` for other names.
    """
    if dataset in WITHOUT_IMAGES:
        return None
    if dataset not in _shipped():
        raise unknown("dataset", dataset, known_datasets())
    return _shipped()[dataset].to(torch.float32, copy=True)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Tensor]:
    return load_checkpoint(TASKS, kind="tasks")[0]
