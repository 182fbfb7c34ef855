"""Sets of small images as a user may have them: few of each class, drawn by a seed, and test images apart.

`addnist`, `multnist` and `cifartile` are made anew, from fewer images than the originals (Geada et al., CVPR 2024, arXiv 2404.02189): three
digits of MNIST in the three colour channels, and four photos of CIFAR-10 in a square. The class is the sum of the digits less one, 0 to
19; the last digit of their product; and the number of different classes of the photos less one. Nothing of them is stored in the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from diffnag.datasets.letters import OF_EACH, letter_images
from experiments.images.signs import sign_images
from experiments.own_images import CLASSES

Labelled = tuple[np.ndarray, np.ndarray]
"""uint8 images and their labels."""
TEST_SEED = 1_000_000
"""Seed of drawn test images: no seed of training images."""


@dataclass(frozen=True)
class Images:
    """A set: `train` and `test` images."""

    train: Labelled
    test: Labelled

    def write(self, path: Path) -> Path:
        """Write it as an .npz file that `--dataset` takes; returns its path."""
        np.savez(path, x_train=self.train[0], y_train=self.train[1], x_test=self.test[0], y_test=self.test[1])
        return path


def draw_set(name: str, folder: Path, seed: int) -> Images:
    """The set called `name`, one of `SETS`, drawn by a seed from the images in `folder`."""
    return SETS[name](folder, seed)


def _read(path: Path) -> tuple[Labelled, Labelled]:
    """Images of a file for training and for the test."""
    with np.load(path) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def _of_file(name: str, of_each: int, classes: tuple[int, ...] = tuple(range(10))) -> Callable[[Path, int], Images]:
    def draw(folder: Path, seed: int) -> Images:
        train, test = _read(folder / f"{name}.npz")
        return Images(_some(train, classes, of_each, np.random.default_rng(seed)), _some(test, classes, len(test[1]), np.random.default_rng(seed)))

    return draw


def _some(images: Labelled, classes: tuple[int, ...], of_each: int, rng: np.random.Generator) -> Labelled:
    """Up to `of_each` images of each of the `classes`, which are numbered from 0."""
    x, y = images
    chosen = [rng.permutation(np.flatnonzero(y == label))[:of_each] for label in classes]
    return x[np.concatenate(chosen)], np.repeat(np.arange(len(classes)), [len(part) for part in chosen])


@cache
def _all_letters() -> Labelled:
    """The letters that every seed draws from; to draw them takes seconds."""
    return letter_images(28)


def _letters(folder: Path, seed: int) -> Images:
    """The 52 letters, 60 of each; 40 others of each for the test."""
    del folder
    x, y = _all_letters()
    order = np.stack([label * OF_EACH + np.random.default_rng([seed, label]).permutation(OF_EACH) for label in range(52)])
    train, test = order[:, :60].ravel(), order[:, 60:100].ravel()
    return Images((x[train], y[train]), (x[test], y[test]))


def _signs(folder: Path, seed: int) -> Images:
    """100 of each sign; 100 others of each for the test."""
    del folder
    return Images(sign_images(100, seed=seed), sign_images(100, seed=TEST_SEED))


def _made_of(name: str, make: Callable[[Labelled, int, np.random.Generator], Labelled], of_each: int) -> Callable[[Path, int], Images]:
    """A set that is made of the images of a file, `of_each` of every class; a third as many for the test, of other images."""

    def draw(folder: Path, seed: int) -> Images:
        train, test = _read(folder / f"{name}.npz")
        return Images(make(train, of_each, np.random.default_rng(seed)), make(test, of_each // 3, np.random.default_rng(TEST_SEED)))

    return draw


def _triples(class_of: Callable[[np.ndarray], np.ndarray], classes: int) -> Callable[[Labelled, int, np.random.Generator], Labelled]:
    """Images `(n, 28, 28, 3)` of three digits each, `of_each` of every class that `class_of` makes of digits `(n, 3)`; others are left out."""

    def make(digits: Labelled, of_each: int, rng: np.random.Generator) -> Labelled:
        x, y = digits
        drawn = rng.integers(len(y), size=(1000 * of_each, 3))
        labels = class_of(y[drawn])
        chosen = np.concatenate([np.flatnonzero(labels == label)[:of_each] for label in range(classes)])
        return x[drawn[chosen]].transpose(0, 2, 3, 1), labels[chosen]

    return make


def _squares(photos: Labelled, of_each: int, rng: np.random.Generator) -> Labelled:
    """Images `(n, 64, 64, 3)` of four photos each, `of_each` for every number of classes from 1 to 4, and the numbers less one."""
    x, y = photos
    places = [np.flatnonzero(y == label) for label in range(10)]
    images, labels = [], []
    for count in np.repeat(np.arange(1, 5), of_each):
        classes = rng.permutation(10)[:count]
        four = rng.permutation([*classes, *rng.choice(classes, 4 - count)])
        a, b, c, d = (x[rng.choice(places[label])] for label in four)
        images.append(np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)]))
        labels.append(count - 1)
    return np.stack(images), np.array(labels)


SETS: Mapping[str, Callable[[Path, int], Images]] = {
    "fashion-mnist": _of_file("fashion_mnist", 300), "mnist": _of_file("mnist", 100), "letters": _letters, "signs": _signs,
    "cifar10": _of_file("cifar10", 300, tuple(CLASSES.values())),
    "addnist": _made_of("mnist", _triples(lambda digits: digits.sum(1) - 1, 20), 150),
    "multnist": _made_of("mnist", _triples(lambda digits: digits.prod(1) % 10, 10), 300), "cifartile": _made_of("cifar10", _squares, 750),
}  # fmt: skip
"""Name -> a function of the folder of images and a seed. `cifar10` are the five classes of the photos."""
