"""`.npz` files of images: shapes, types, ranges and labels, and files that are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from diffnag.datasets.images import load_images
from tests.image_sources import noted, npz, pixels, refused, sizes, splits

Y = np.arange(40) % 4


@pytest.mark.parametrize("shape", [(40, 8, 8), (40, 8, 8, 1), (40, 8, 8, 3), (40, 3, 8, 8), (40, 1, 8, 8)])
def test_each_shape_of_an_npz_gives_the_same_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    data = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    assert data.name == "x" and data.size == 8 and data.channels == (3 if 3 in shape else 1) and not data.notes
    last = x[..., None] if x.ndim == 3 else x if shape[3] in (1, 3) else x.transpose(0, 2, 3, 1)
    got = sorted((int(y), x.tobytes()) for part in splits(data).values() for x, y in zip(part.x, part.y, strict=True))
    assert got == sorted((int(y), np.broadcast_to(x, (8, 8, 3)).tobytes()) for x, y in zip(last, Y, strict=True))


def test_splits_of_an_npz_are_kept(tmp_path: Path) -> None:
    x = pixels(60, 9, 9, 3)
    parts = {"x_train": x[:40], "y_train": Y[:, None], "x_test": x[40:50], "y_test": Y[:10], "extra": x[:1]}
    data = load_images(npz(tmp_path / "x.npz", **parts))
    assert data.given_test and sizes(data) == [32, 8, 10] and data.size == 8
    assert data.test.y.tolist() == Y[:10].tolist()
    noted(data, "50 of 50 images measured 9 x 9 pixels, resized to 8 x 8")
    noted(data, "Arrays of other names were not used: extra.")
    data = load_images(npz(tmp_path / "x.npz", **parts, x_val=x[50:], y_val=np.zeros(10, int)))
    assert sizes(data) == [40, 10, 10]
    noted(data, "val split", "1, 2, 3")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_pixels_of_both_ranges(tmp_path: Path, dtype: type) -> None:
    x = pixels(40, 8, 8)
    plain = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    unit = load_images(npz(tmp_path / "x.npz", x_train=(x / 255).astype(dtype), y_train=Y))
    full = load_images(npz(tmp_path / "x.npz", x_train=x.astype(dtype), y_train=Y))
    assert plain.sha256 == unit.sha256 == full.sha256
    noted(unit, "taken as 0..1")
    noted(full, "Pixels from 0 to 255 were taken as 0..255")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_split_is_scaled_by_its_own_range(tmp_path: Path, dtype: type) -> None:
    x, y = pixels(50, 8, 8), Y[:10]
    plain = load_images(npz(tmp_path / "x.npz", x_train=x[:40], y_train=Y, x_test=x[40:], y_test=y))
    mixed = load_images(npz(tmp_path / "x.npz", x_train=x[:40], y_train=Y, x_test=(x[40:] / 255).astype(dtype), y_test=y))
    assert mixed.sha256 == plain.sha256 and mixed.test.x.max() > 200
    noted(mixed, "Pixels from 0 to 1 in x_test were taken as 0..1 and scaled to 0..255.")
    turned = load_images(npz(tmp_path / "x.npz", x_train=(x[:40] / 255).astype(dtype), y_train=Y, x_test=x[40:], y_test=y))
    assert turned.sha256 == plain.sha256
    bits = load_images(npz(tmp_path / "x.npz", x_train=x[:40], y_train=Y, x_test=x[40:] > 127, y_test=y))
    assert np.unique(bits.test.x).tolist() == [0, 255]


def test_a_dark_split_of_the_same_type_stays_dark(tmp_path: Path) -> None:
    x = pixels(40, 8, 8)
    data = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y, x_test=x[:10] > 127, y_test=Y[:10], x_val=x[:8] // 200, y_val=Y[:8]))
    assert data.val.x.max() == 1 and data.test.x.max() == 255


def test_whole_number_pixels_other_than_uint8(tmp_path: Path) -> None:
    x = pixels(40, 8, 8)
    plain = load_images(npz(tmp_path / "x.npz", x_train=x, y_train=Y))
    assert load_images(npz(tmp_path / "x.npz", x_train=x.astype(np.int64), y_train=Y)).sha256 == plain.sha256
    bits = load_images(npz(tmp_path / "x.npz", x_train=x > 127, y_train=Y))
    assert np.unique(bits.train.x).tolist() == [0, 255]
    noted(bits, "taken as 0..1")


@pytest.mark.parametrize(
    ("y", "original", "note"),
    [
        (Y * 10 - 5, (-5, 5, 15, 25), "Labels -5, 5, 15 and 1 more were numbered 0 .. 3"),
        (Y + 1.0, (1, 2, 3, 4), "Labels 1, 2, 3"),
        (np.array(["d", "b", "c", "é"])[Y], ("b", "c", "d", "é"), "strings were numbered in sorted order: b, c, d and 1 more"),
        (np.array(["d", "b", "c", "é"])[Y].astype("U1").view("U1"), ("b", "c", "d", "é"), "strings"),
        (np.array([b"d", b"b", b"c", b"a"])[Y], ("a", "b", "c", "d"), "strings"),
        (Y > 1, (0, 1), None),
    ],
)
def test_labels_are_numbered_from_zero(tmp_path: Path, y: np.ndarray, original: tuple[int | str, ...], note: str | None) -> None:
    data = load_images(npz(tmp_path / "x.npz", x_train=pixels(40, 8, 8), y_train=y))
    assert data.original_labels == original and data.classes == tuple(map(str, original))
    assert all(type(label) in (int, str) for label in data.original_labels)
    assert [np.unique(part.y).tolist() for part in splits(data).values()] == [list(range(len(original)))] * 3
    noted(data, note) if note else None


def bad(x: np.ndarray, *index: int, value: float) -> np.ndarray:
    x = x.astype(np.float32)
    x[index] = value
    return x


X = pixels(40, 8, 8)


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"x": X, "labels": Y}, ["lacks y_train; it holds x, labels"]),
        ({"x_train": X}, ["lacks y_train; it holds x_train"]),
        ({"x_train": X, "y_train": Y, "x_test": X}, ["lacks y_test"]),
        ({"x_train": X, "y_train": Y, "y_val": Y}, ["lacks x_val"]),
        ({"x_train": X, "y_train": Y[:-1]}, ["40 images in x_train and 39 labels in y_train"]),
        ({"x_train": X.reshape(40, 64), "y_train": Y}, ["x_train", "shape (40, 64)", "(n, h, w)"]),
        ({"x_train": X[:0], "y_train": Y[:0]}, ["shape (0, 8, 8)"]),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, ["x_test", "shape (0, 8, 8)"]),
        ({"x_train": X.astype(str), "y_train": Y}, ["x_train", "type <U3"]),
        ({"x_train": bad(X, 3, 1, 1, value=np.nan), "y_train": Y}, ["NaN or infinite pixels in 1 images: 3"]),
        ({"x_train": bad(bad(X, 3, 1, value=np.inf), 7, 0, value=np.nan), "y_train": Y}, ["in 2 images: 3, 7"]),
        ({"x_train": X, "y_train": Y, "x_test": X / 150, "y_test": Y}, ["x_test", "pixels from 0 to 1.7", "one range in all splits"]),
        ({"x_train": X * 1.0, "y_train": Y, "x_test": X / 255, "y_test": Y}, ["floats up to 255, but only up to 1 in x_test"]),
        ({"x_train": X, "y_train": Y + 0.5}, ["y_train", "holds 0.5", "whole numbers or strings"]),
        ({"x_train": X, "y_train": np.where(Y > 2, np.nan, Y)}, ["y_train", "holds nan"]),
        ({"x_train": X, "y_train": np.eye(4)[Y]}, ["y_train", "shape (40, 4)", "one label an image"]),
        ({"x_train": X, "y_train": Y.astype(complex)}, ["type complex128"]),
        ({"x_train": X, "y_train": np.arange(40)}, ["40 different values for 40 images", "class labels"]),
        ({"x_train": X, "y_train": Y * 0}, ["only one class, '0'"]),
        ({"x_train": X, "y_train": np.where(np.arange(40) < 4, 1, 0)}, ["class '1' of x has 4 usable training images"]),
        ({"x_train": X * 0, "y_train": Y}, ["class '0' of x has 1 usable training images, 9 duplicate"]),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 2}, ["y_test", "does not have: 4, 5"]),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, ["y_test", "does not have: '0', '1'"]),
        ({"x_train": X, "y_train": Y.astype(object)}, ["y_train of", "pickled object", "plain arrays"]),
        ({}, ["lacks x_train, y_train; it holds nothing"]),
    ],
)
def test_an_npz_that_cannot_be_used_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], parts: list[str]) -> None:
    refused(npz(tmp_path / "x.npz", **arrays), *parts)


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x_train=X, y_train=Y)
    whole = path.read_bytes()
    for content in (b"", b"nothing of the kind", pickle.dumps([1]), whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(path, f"{path} is no .npz file, or not a whole one", "numpy.savez")
    with path.open("wb") as file:
        np.save(file, X)
    refused(path, "is no .npz file")
    path.write_bytes(whole[:200] + bytes(160) + whole[360:])
    refused(path, f"{path} is damaged: ")


def test_an_npz_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "x.npz", x_train=X, y_train=Y)

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", locked)
    refused(path, f"cannot read {path}: permission denied")
