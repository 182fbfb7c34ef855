"""A user's own images in memory: labelled, of one size, in three splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION
from diffnag.datasets.images.groups import groups_of
from diffnag.datasets.images.shown import as_bytes


@dataclass(frozen=True, eq=False)
class Images:
    """One split: images `x` and what is learned of them, `y`.

    `x` are photos, uint8 `(n, size, size, 3)`, or arrays that are kept as they are, float32 `(n, h, w, channels)`. Grey photos have three
    equal channels, and signals the height 1. `y` are classes, int64 `(n,)` from 0, or numbers, or labels of 0 and 1, float32 `(n, k)`.
    """

    x: np.ndarray
    y: np.ndarray

    @property
    def unit(self) -> float:
        """What values are divided by for a network: 255 for photos, so that pixels are in [0, 1], and 1 for arrays."""
        return 255.0 if self.x.dtype == np.uint8 else 1.0


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images in three splits.

    `classes` are names in the order of the labels, or of the columns of `y`, and `original_labels` the labels of the source. `channels` is
    1 if every photo is grey, 3 if not, and of arrays what they have. `size` is the longer side in pixels. `given_test` says whether the
    source has a test split of its own. `notes` are sentences about images that were converted, resized or skipped. `sha256` is the
    checksum of the three splits. `task` is what is learned, one of `diffnag.datasets.images.TASKS`. `directed` images have a direction: their
    mirror images are others, see `diffnag.datasets.mirrors`.
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
    task: str = CLASSIFICATION
    directed: bool = False

    @property
    def inputs(self) -> tuple[int, int, int] | None:
        """Channels, height and width of arrays; None for photos, whose three channels and square shape every space knows."""
        _, h, w, c = self.train.x.shape
        return None if self.train.x.dtype == np.uint8 else (c, h, w)

    @property
    def flips(self) -> bool:
        """Whether a mirrored image has the same label: assumed of colour images without a direction, if they are classified by what they show."""
        return self.channels == 3 and self.train.x.shape[1] > 1 and self.task != "regression" and not self.directed

    @property
    def shift(self) -> int:
        """Pixels by which an image may be moved and keeps its label; 0 for regression, as the number may depend on the place."""
        h, w = self.train.x.shape[1:3]
        return 0 if self.task == "regression" else max(1, (w if h == 1 else min(h, w)) // 8)

    @cached_property
    def looks(self) -> Images:
        """The training images as photos with classes: what a predictor looks at. Numbers are in five classes of equal share."""
        if self.inputs is None and self.task == CLASSIFICATION:
            return self.train
        return Images(as_bytes(self.train.x, like=self.train.x), groups_of(self.train.y))
