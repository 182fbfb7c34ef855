"""A user's own images in memory: labelled, of one size, in three splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Images:
    """One split: images `x`, uint8 `(n, size, size, 3)`, and labels `y`, int64 `(n,)` from 0. Grey images have three equal channels."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images in three splits.

    `classes` are names in the order of the labels, and `original_labels` the labels of the source. `channels` is 1 if every
    image is grey, else 3. `size` is the side in pixels. `given_test` says whether the source has a test split of its own.
    `notes` are sentences about images that were converted, resized or skipped. `sha256` is the checksum of the three splits.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    val: Images
    test: Images
    channels: int
    size: int
    original_labels: tuple[int | str, ...]
    given_test: bool
    notes: tuple[str, ...]
    sha256: str
