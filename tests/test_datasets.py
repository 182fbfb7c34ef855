"""Image features and tasks."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffnag import embed_datasets
from diffnag.datasets.encoder import encode_images
from diffnag.datasets.tasks import TASKS, Task, features_of_images, known_datasets, task_features
from diffnag.errors import UserError
from diffnag.io.checkpoint import load_checkpoint
from diffnag.search_spaces.nasbench201.space import NASBench201


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def test_a_task_holds_features_of_each_class() -> None:
    x, y = images(60, 8, 8), np.repeat([4, 1, 9], 20)
    task = features_of_images(x, y)
    assert task.features is not None and task.features.shape == (3, 20, 64)
    torch.testing.assert_close(task.features, encode_images(x).unflatten(0, (3, 20))[[1, 0, 2]], atol=1e-5, rtol=1e-5)
    expected = [math.log(3 / 10), math.log(20 / 100), -1.0, -0.5]
    torch.testing.assert_close(task.descriptors, torch.tensor(expected))
    few, again, other = (features_of_images(x, y, images_per_class=5, seed=seed).features for seed in (1, 1, 2))
    assert few is not None and again is not None and other is not None
    torch.testing.assert_close(few, again)
    assert not torch.equal(few, other)


def test_a_small_class_shows_its_images_again() -> None:
    x, y = images(7, 16, 16, 3), np.array([0, 0, 0, 0, 0, 1, 1])
    features = features_of_images(x, y, images_per_class=4).features
    assert features is not None
    assert len(np.unique(features[1].numpy().round(4), axis=0)) == 2
    assert len(np.unique(features[0].numpy().round(4), axis=0)) == 4
    with pytest.raises(UserError, match="one label an image"):
        features_of_images(x, y[:-1])


def test_colour_is_seen_in_the_pixels() -> None:
    x, y = images(8, 16, 16, 3), np.arange(8) % 2
    grey = np.repeat(x[..., :1], 3, axis=-1)
    assert features_of_images(x, y).descriptors[3] == 0.5
    assert features_of_images(grey, y).descriptors[3] == features_of_images(grey[..., 0], y).descriptors[3] == -0.5


def test_shipped_tasks() -> None:
    assert known_datasets() == ["cifar10", "cifar100", "fashion_mnist", "ImageNet16-120", "mnist", "tiny_imagenet"]
    shapes = {name: None if (features := task_features(name).features) is None else tuple(features.shape) for name in known_datasets()}
    assert shapes == {
        "cifar10": (10, 20, 64), "cifar100": (100, 20, 64), "fashion_mnist": (10, 20, 64), "mnist": (10, 20, 64),
        "tiny_imagenet": (100, 20, 64), "ImageNet16-120": None,
    }  # fmt: skip
    classes = {name: round(10 * math.exp(task_features(name).descriptors[0])) for name in known_datasets()}
    assert classes == {
        "cifar10": 10, "cifar100": 100, "fashion_mnist": 10, "ImageNet16-120": 120, "mnist": 10, "tiny_imagenet": 200,
    }  # fmt: skip
    with pytest.raises(UserError, match="unknown dataset 'svhn'; there are: cifar10, .*tiny_imagenet"):
        task_features("svhn")
    assert TASKS.stat().st_size < 1e6


def test_a_users_own_images_are_a_task(space: NASBench201, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x_train=images(60, 12, 12, 3), y_train=np.arange(60) % 3)
    task = Task.of(str(tmp_path / "own.npz"), space)
    assert task.features is not None and task.features.shape == (3, 20, 64)
    digits = Task.of("digits", space)
    assert digits.features is not None and len(digits.features) == 10 and digits.descriptors[3] == -0.5


def test_shipped_task_is_what_the_images_give(data_folder: Path) -> None:
    with np.load(data_folder / "images" / "mnist.npz") as arrays:
        task = features_of_images(arrays["x_train"], arrays["y_train"])
    shipped = task_features("mnist")
    assert shipped.features is not None and task.features is not None
    torch.testing.assert_close(task.features, shipped.features, atol=2e-2, rtol=1e-3)  # kept in half precision


def test_embed_datasets_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, _, _ in embed_datasets.SOURCES.values():
        np.savez(tmp_path / file, x_train=images(40, 8, 8), y_train=np.repeat(np.arange(10), 4))
    out = tmp_path / "out" / "tasks.safetensors"
    argv = ["embed_datasets", "--images", str(tmp_path), "--out", str(out), "--images-per-class", "3", "--classes", "4"]
    monkeypatch.setattr(sys, "argv", argv)
    embed_datasets.main()
    tasks, meta = load_checkpoint(out, kind="tasks")
    shapes = {key: tuple(part.shape) for key, part in tasks.items()}
    assert shapes == {f"{name}/{part}": shape for name in embed_datasets.SOURCES for part, shape in (("features", (4, 3, 64)), ("descriptors", (4,)))}
    assert meta["seed"] == 0 and set(meta["sources_sha256"]) == {file for file, _, _ in embed_datasets.SOURCES.values()}
    assert str(tmp_path) not in meta["command"]
    (tmp_path / "mnist.npz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"mnist.npz is no .npz file with x_train and y_train"):
        embed_datasets.main()
    for arrays, said in (
        ({"x_train": np.array([{}], dtype=object), "y_train": np.zeros(1, int)}, "is no .npz file with x_train and y_train"),
        ({"x_train": images(40), "y_train": np.arange(40)}, r"x_train of .*mnist.npz has the type uint8 and the shape \(40,\)"),
        ({"x_train": images(40, 8, 8) / 255, "y_train": np.arange(40)}, "has the type float64"),
        ({"x_train": images(0, 8, 8), "y_train": np.zeros(0, int)}, "has 0 images in x_train"),
        ({"x_train": images(40, 8, 8), "y_train": np.arange(39)}, r"has 40 images in x_train and int64 labels of shape \(39,\) in y_train"),
        ({"x_train": images(40, 8, 8), "y_train": np.full(40, "cat")}, "<U3 labels"),
    ):
        np.savez(tmp_path / "mnist.npz", **arrays)
        with pytest.raises(UserError, match=said):
            embed_datasets.main()
