"""Draw many small image tasks from a few sources. They are altered so that different architectures suit them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffnag.datasets.images.asked import Asked
from diffnag.datasets.images.digits import read_digits
from diffnag.datasets.labelled import read_labelled
from diffnag.datasets.letters import letter_images
from diffnag.errors import DataNotFound, UserError, unknown
from diffnag.io.files import data_folder

SIDE = 16
DIGITS, LETTERS = "digits", "letters"
"""Sources that need no file: the digits of scikit-learn and letters drawn with fonts. All others are files in `$DIFFNAG_DATA/images`."""
HELD_OUT_WHOLE = ("cifar10", "digits", "fashion_mnist", "mnist")
"""Sources that are held out as a whole: no encoder and no predictor is trained on them."""
HELD_OUT_EVERY = 5
HELD_OUT = f"label % {HELD_OUT_EVERY} == {HELD_OUT_EVERY - 1}"
"""In every other source, these classes are held out."""
IMAGES_OF_TASK = 5_000
"""Largest number of images of a task. The images that are not trained on are used to measure accuracy."""


@dataclass(frozen=True)
class Change:
    """Alterations of all images of a task, applied in this order; the default changes nothing.

    `edges` replaces an image by the strength of its edges. `shuffle` permutes blocks of that many pixels a side, in the same
    way in every image. `blur` averages blocks of that many pixels a side. `noise` is the standard deviation of normal noise on
    pixels from 0 to 255. `grey` drops the colours. `side` is the resolution of the task in pixels, if the source has as many.
    """

    edges: bool = False
    shuffle: int = 0
    blur: int = 1
    noise: float = 0.0
    grey: bool = False
    side: int = SIDE


@dataclass(frozen=True)
class TaskSpec:
    """A task as plain data; equal specs give equal images. `label_noise` is the share of training labels that are drawn at random."""

    source: str
    classes: tuple[int, ...]
    train_images: int
    label_noise: float
    change: Change
    seed: int


class TaskImages(NamedTuple):
    """uint8 images `(n, side, side[, 3])` and labels `(n,)` from 0. The `judged` images measure the accuracy and are not trained on."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_judged: np.ndarray
    y_judged: np.ndarray


def draw_task(source: str, rng: np.random.Generator, *, held_out: bool, side: int = SIDE) -> TaskSpec:
    """Draw a task of 5 to 20 classes of `source`, of `side` pixels a side. A third of the tasks is left as it is, the others are altered.

    Blocks are permuted at the default `side` alone, as larger images are for pretrained networks. Labels are made noisy only in tasks with
    many images, from which a network can still learn.
    """
    classes = allowed_classes(source, held_out=held_out)
    chosen = np.sort(rng.choice(classes, min(len(classes), int(rng.integers(5, 21))), replace=False))
    train_images = int(rng.choice([250, 700, 2000]))
    label_noise = float(rng.choice([0.0, 0.4, 0.7])) if train_images >= 2000 else 0.0
    grey_source = images_of(source)[0].ndim == 3
    change = Change(
        edges=bool(rng.random() < 0.15),
        shuffle=int(rng.choice([0, 0, 4, 2])) * (side == SIDE),
        blur=int(rng.choice([1, 1, 2, 4])),
        noise=float(rng.choice([0.0, 0.0, 50.0, 100.0])),
        grey=bool(rng.random() < 0.3) or grey_source,
        side=int(rng.choice([side, side, side, side // 2])),
    )
    if rng.random() < 1 / 3:
        change, label_noise = Change(grey=grey_source, side=side), 0.0
    return TaskSpec(source, tuple(map(int, chosen)), train_images, label_noise, change, seed=int(rng.integers(2**31)))


def task_images(spec: TaskSpec) -> TaskImages:
    """The images of `spec`. Training images are balanced over the classes, and at most half of all images."""
    rng = np.random.default_rng(spec.seed)
    x, y = images_of(spec.source, max(SIDE, spec.change.side))
    (members,) = np.nonzero(np.isin(y, spec.classes))
    members = rng.permutation(members)[:IMAGES_OF_TASK]
    labels = np.searchsorted(spec.classes, y[members])
    images = changed(x[members], spec.change, rng)
    place = np.empty(len(labels), dtype=np.int64)  # rank of an image among those of its class
    for label in range(len(spec.classes)):
        mine = labels == label
        place[mine] = np.arange(mine.sum())
    order = np.argsort(place, kind="stable")  # the first of every class, the second of every class, ...
    count = min(spec.train_images, len(order) // 2)
    train, judged = np.sort(order[:count]), np.sort(order[count:])
    given = labels[train].copy()
    redrawn = rng.random(len(given)) < spec.label_noise
    given[redrawn] = rng.integers(len(spec.classes), size=int(redrawn.sum()))
    return TaskImages(images[train], given, images[judged], labels[judged])


def changed(x: np.ndarray, change: Change, rng: np.random.Generator) -> np.ndarray:
    """Apply `change` to uint8 images `(n, h, h[, 3])`; `rng` draws the permutation and the noise."""
    if change.edges:
        x = edge_strength(x)
    if change.shuffle:
        x = _shuffled(x, change.shuffle, rng)
    if change.blur > 1:
        side = x.shape[1]
        while x.shape[1] * change.blur > side:
            x = halved(x)
        x = x.repeat(change.blur, axis=1).repeat(change.blur, axis=2)
    if change.noise:
        noisy = x + rng.normal(0, change.noise, x.shape).astype(np.float32)
        x = noisy.clip(0, 255).round().astype(np.uint8)
    if change.grey and x.ndim == 4:
        x = (x @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).round().astype(np.uint8)
    while x.shape[1] > change.side:
        x = halved(x)
    return x


def halved(x: np.ndarray) -> np.ndarray:
    """Means over blocks of 2 x 2 pixels of uint8 images `(n, h, w[, 3])`."""
    total = np.sum([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0, dtype=np.uint16)
    return np.asarray((total + 2) // 4, dtype=np.uint8)


def edge_strength(x: np.ndarray) -> np.ndarray:
    """Strength of the edges, uint8 `(n, h, w)`: twice the root mean square over the channels of the differences to the pixels above and left."""
    pixels = np.atleast_3d(x.astype(np.float32)).reshape(*x.shape[:3], -1)
    down, right = np.zeros_like(pixels), np.zeros_like(pixels)
    down[:, 1:], right[:, :, 1:] = np.diff(pixels, axis=1), np.diff(pixels, axis=2)
    strength = np.sqrt((down**2 + right**2).mean(3))
    return (2 * strength).clip(0, 255).round().astype(np.uint8)


def _shuffled(x: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Permute blocks of `side` pixels a side, in the same way in every image."""
    n, h, w = x.shape[:3]
    blocks = x.reshape(n, h // side, side, w // side, side, -1).swapaxes(2, 3).reshape(n, -1, side, side, x[0, 0, 0].size)
    blocks = blocks[:, rng.permutation(blocks.shape[1])]
    return blocks.reshape(n, h // side, w // side, side, side, -1).swapaxes(2, 3).reshape(x.shape)


def held_out_labels(labels: np.ndarray) -> np.ndarray:
    """Whether the class of each label `(n,)` is held out, in a source that is not held out as a whole: bool `(n,)`."""
    return labels % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


class KnownImages(NamedTuple):
    """uint8 images `(n, h, w[, 3])` and labels `(n,)` of classes that are not held out, for training and for a test."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def known_images(path: Path, *, side: int) -> KnownImages:
    """The images of a `.npz` file, `side` pixels a side, without the held-out classes; labels count from 0 without gaps. Raises `UserError`."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; --images names a folder that holds {path.name}")
    (x, y), (x_test, y_test) = read_labelled(path, "train", "test")
    if x.shape[1:3] != (side, side):
        raise UserError(f"{path} has images of {x.shape[1]} x {x.shape[2]} pixels; accepted is {side} x {side}")
    classes = np.unique(y[~held_out_labels(y)])
    seen, seen_test = np.isin(y, classes), np.isin(y_test, classes)
    if len(classes) < 2 or not seen_test.any():
        raise UserError(f"{path} has {len(classes)} classes outside {HELD_OUT}; at least 2 are needed, with test images")
    return KnownImages(x[seen], np.searchsorted(classes, y[seen]), x_test[seen_test], np.searchsorted(classes, y_test[seen_test]))


def allowed_classes(source: str, *, held_out: bool) -> np.ndarray:
    """Labels of `source` for tests (`held_out`) or else for training; raises `UserError` if there are fewer than two."""
    labels = np.unique(images_of(source)[1])
    away = np.full(len(labels), True) if source in HELD_OUT_WHOLE else held_out_labels(labels)
    left = labels[away == held_out]
    if len(left) < 2:
        raise UserError(f"{source} is held out for tests and nothing is trained on its images; accepted are other sources, or --held-out")
    return left


@lru_cache(maxsize=8)
def images_of(source: str, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """All images of a source, uint8 `(n, h, h[, 3])`, and labels `(n,)`. There are `side` pixels a side, or fewer if it has no more.

    The source is `$DIFFNAG_DATA/images/<source>.npz`, or digits or letters. Raises `UserError` for other names.
    """
    if source == DIGITS:
        digits = read_digits(Asked(size=side))
        return digits.x[..., 0], digits.y
    if source == LETTERS:
        return letter_images(side)
    folder = data_folder()
    if folder is None:
        raise DataNotFound(f"the images of {source} are not here: set $DIFFNAG_DATA to a folder with images/{source}.npz")
    path = folder / "images" / f"{source}.npz"
    if not path.is_file():
        there = sorted(file.stem for file in (folder / "images").glob("*.npz"))
        raise unknown("image source", source, [*there, DIGITS, LETTERS])
    return _read(path, side)


def _read(path: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    parts = read_labelled(path, "train", "test")
    x, y = (np.concatenate(both) for both in zip(*parts, strict=True))
    height, width = x.shape[1:3]
    margin = (-height) % SIDE // 2  # 28 pixels become 32 with a margin
    if margin:
        x = np.pad(x, ((0, 0), (margin, margin), (margin, margin), *[(0, 0)] * (x.ndim - 3)))
    while x.shape[1] > side and x.shape[1] % 2 == x.shape[2] % 2 == 0:
        x = halved(x)
    if x.shape[1] != x.shape[2] or not SIDE <= x.shape[1] <= side:
        raise UserError(f"{path} has images of {height} x {width} pixels; accepted are squares of 16, 28, 32 or 64 pixels a side")
    return x, y.astype(np.int64)
