"""Image features and tasks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag import embed_datasets
from diffnag.checkpoint import load_checkpoint
from diffnag.datasets.features import random_conv_features
from diffnag.datasets.tasks import TASKS, known_datasets, load_task, task_from_images
from diffnag.errors import UserError


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 28, 28), (5, 16, 16, 3), (5, 33, 20, 3), (5, 64, 64, 3)])
def test_features_are_normalised_and_per_image(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    features = random_conv_features(x)
    assert features.shape == (5, 64) and features.dtype == torch.float32
    for group in features.split(32, dim=1):
        torch.testing.assert_close(group.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
        torch.testing.assert_close(group.std(1, correction=0), torch.ones(5), atol=5e-2, rtol=0)  # epsilon in the root
    torch.testing.assert_close(random_conv_features(x[3:]), features[3:], atol=1e-5, rtol=1e-5)
    assert not torch.equal(random_conv_features(x, seed=1), features)


def test_grey_is_rgb_of_equal_channels_and_size_does_not_matter() -> None:
    grey = images(4, 16, 16)
    features = random_conv_features(grey)
    torch.testing.assert_close(random_conv_features(np.stack([grey] * 3, axis=-1)), features)
    torch.testing.assert_close(random_conv_features(grey.repeat(2, axis=1).repeat(2, axis=2)), features, atol=1e-5, rtol=1e-5)


def test_no_images_and_black_images() -> None:
    assert random_conv_features(images(0, 8, 8)).shape == (0, 64)
    assert random_conv_features(np.zeros((2, 8, 8), dtype=np.uint8)).isfinite().all()


@pytest.mark.parametrize("x", [images(2, 7, 9), images(2, 8, 8, 1), images(8, 8), images(2, 8, 8).astype(np.float32)])
def test_other_arrays_are_refused(x: np.ndarray) -> None:
    with pytest.raises(UserError, match="accepted"):
        random_conv_features(x)


def test_a_task_holds_features_of_each_class() -> None:
    x, y = images(60, 8, 8), np.repeat([4, 1, 9], 20)
    task = task_from_images(x, y, images_per_class=20)
    assert task.shape == (3, 20, 64)
    torch.testing.assert_close(task, random_conv_features(x).unflatten(0, (3, 20))[[1, 0, 2]], atol=1e-5, rtol=1e-5)
    drawn = task_from_images(x, y, images_per_class=5, seed=1)
    torch.testing.assert_close(drawn, task_from_images(x, y, images_per_class=5, seed=1))
    assert not torch.equal(drawn, task_from_images(x, y, images_per_class=5, seed=2))
    with pytest.raises(UserError, match="class 1 has 20 images; at least 21 are needed"):
        task_from_images(x, y, images_per_class=21)
    with pytest.raises(UserError, match="one label an image"):
        task_from_images(x, y[:-1])


def test_shipped_tasks() -> None:
    assert known_datasets() == ["cifar10", "cifar100", "fashion_mnist", "ImageNet16-120", "mnist", "tiny_imagenet"]
    shapes = {name: None if (task := load_task(name)) is None else tuple(task.shape) for name in known_datasets()}
    assert shapes == {
        "cifar10": (10, 20, 64), "cifar100": (100, 20, 64), "fashion_mnist": (10, 20, 64), "mnist": (10, 20, 64),
        "tiny_imagenet": (100, 20, 64), "ImageNet16-120": None,
    }
    with pytest.raises(UserError, match="unknown dataset 'svhn'; there are: cifar10, .*tiny_imagenet"):
        load_task("svhn")
    first = load_task("mnist")
    assert first is not None and first.dtype == torch.float32 and first.isfinite().all()
    kept = first.clone()
    first.zero_()
    assert torch.equal(kept, load_task("mnist")), "what is handed out is the caller's own"  # type: ignore[arg-type]
    assert TASKS.stat().st_size < 1e6


def test_shipped_task_is_what_the_images_give(data_folder: Path) -> None:
    with np.load(data_folder / "images" / "mnist.npz") as arrays:
        task = task_from_images(arrays["x_train"], arrays["y_train"])
    shipped = load_task("mnist")
    assert shipped is not None
    torch.testing.assert_close(task, shipped, atol=5e-3, rtol=1e-3)  # kept in half precision


def test_embed_datasets_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in embed_datasets.SOURCES.values():
        np.savez(tmp_path / file, x_train=images(40, 8, 8), y_train=np.repeat(np.arange(10), 4))
    out = tmp_path / "out" / "tasks.safetensors"
    argv = ["embed_datasets", "--images", str(tmp_path), "--out", str(out), "--images-per-class", "3", "--classes", "4"]
    monkeypatch.setattr(sys, "argv", argv)
    embed_datasets.main()
    tasks, meta = load_checkpoint(out, kind="tasks")
    assert {name: task.shape for name, task in tasks.items()} == dict.fromkeys(embed_datasets.SOURCES, (4, 3, 64))
    assert meta["seed"] == 0 and set(meta["sources_sha256"]) == set(embed_datasets.SOURCES.values())
    assert str(tmp_path) not in meta["command"]
    (tmp_path / "mnist.npz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"mnist.npz is no .npz file with x_train and y_train"):
        embed_datasets.main()
