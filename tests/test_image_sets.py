"""The sets of small images that experiments draw: labels follow from what is in the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.images.sets import draw_set
from experiments.images.signs import CLASSES, sign_images


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Digits and photos whose every pixel is their label."""
    y = np.tile(np.arange(10), 40)
    for name, shape in (("mnist", (28, 28)), ("cifar10", (32, 32, 3))):
        x = np.broadcast_to(y.reshape(-1, *[1] * len(shape)), (len(y), *shape)).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return tmp_path


def test_addnist_adds_the_digits_of_its_channels(flat: Path) -> None:
    found = draw_set("addnist", flat, 0)
    for (x, y), of_each in ((found.train, 150), (found.test, 50)):
        assert (x == x[:, :1, :1]).all() and (x[:, 0, 0].sum(1) - 1 == y).all()
        assert np.bincount(y).tolist() == [of_each] * 20


def test_multnist_multiplies_the_digits_of_its_channels(flat: Path) -> None:
    found = draw_set("multnist", flat, 0)
    for (x, y), of_each in ((found.train, 300), (found.test, 100)):
        assert (x == x[:, :1, :1]).all() and (x[:, 0, 0].astype(int).prod(1) % 10 == y).all()
        assert np.bincount(y).tolist() == [of_each] * 10


def test_cifartile_counts_the_classes_of_its_photos(flat: Path) -> None:
    found = draw_set("cifartile", flat, 0)
    for (x, y), of_each in ((found.train, 750), (found.test, 250)):
        assert x.shape[1:] == (64, 64, 3) and np.bincount(y).tolist() == [of_each] * 4
        assert [len(np.unique(image)) - 1 for image in x] == y.tolist()


def test_seeds_draw_other_images_and_the_same_test(flat: Path) -> None:
    (a, b), again = (draw_set("mnist", flat, seed) for seed in (0, 1)), draw_set("mnist", flat, 0)
    assert a.train[0].shape == b.train[0].shape == (400, 28, 28) and np.array_equal(a.train[0], again.train[0])
    assert np.array_equal(np.sort(a.test[1]), np.sort(b.test[1]))
    letters = [draw_set("letters", flat, seed) for seed in (0, 1)]
    assert not np.array_equal(letters[0].train[0], letters[1].train[0]) and len(letters[0].test[1]) == 40 * 52
    seen = {image.tobytes() for image in letters[0].train[0]}
    assert not any(image.tobytes() in seen for image in letters[0].test[0])


def test_signs_differ_by_seed_and_by_class() -> None:
    (x, y), (other, _) = sign_images(3, seed=0), sign_images(3, seed=1)
    assert x.shape == (30, 32, 32, 3) and x.dtype == np.uint8 and np.bincount(y).tolist() == [3] * len(CLASSES)
    assert np.array_equal(x, sign_images(3, seed=0)[0]) and not np.array_equal(x, other)
