"""Image sources for tests, and checks of the notes and errors about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffnag.datasets.images import ImageDataset, Images, load_images
from diffnag.errors import UserError


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def folder(root: Path, **counts: int) -> Path:
    """A folder with one class folder for each name, with as many different colour images of 12 x 12 pixels as its count."""
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels(12, 12, 3, seed=1000 * k + i)).save(root / name / f"{i:03}.png")
    return root


def bright_classes(path: Path, *, count: int, side: int) -> Path:
    """An `.npz` file with three classes of tiny colour pictures that differ in brightness; returns `path`."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = np.clip(rng.normal(60 + 70 * y[:, None, None, None], 20, size=(count, side, side, 3)), 0, 255).astype(np.uint8)
    np.savez(path, x_train=x, y_train=y)
    return path


def coloured_classes(path: Path, *, classes: int, n: int, side: int, held_out_seed: int = 1) -> None:
    """An `.npz` file with `n` images a class for training and for a test: noise around a colour of the class; class 4 is noise of its own seed."""
    rng, other = np.random.default_rng(0), np.random.default_rng(held_out_seed)
    arrays = {}
    for part in ("train", "test"):
        y = np.repeat(np.arange(classes), n).astype(np.int16)
        colours = np.random.default_rng(7).integers(40, 215, size=(classes, 1, 1, 3))
        x = (colours[y] + rng.normal(0, 20, (len(y), side, side, 3))).clip(0, 255).astype(np.uint8)
        x[y % 5 == 4] = other.integers(256, size=x[y % 5 == 4].shape, dtype=np.uint8)
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    npz(path, **arrays)


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def splits(data: ImageDataset) -> dict[str, Images]:
    return {"train": data.train, "val": data.val, "test": data.test}


def sizes(data: ImageDataset) -> list[int]:
    return [len(part.x) for part in splits(data).values()]


def refused(source: str | Path, *parts: str, size: int | None = None) -> None:
    """Check that the source is refused in one sentence with each of `parts`."""
    with pytest.raises(UserError) as caught:
        load_images(source, size=size)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def noted(data: ImageDataset, *parts: str) -> None:
    assert any(all(part in note for part in parts) for note in data.notes), data.notes
    assert all(note.endswith(".") and "\n" not in note for note in data.notes)
