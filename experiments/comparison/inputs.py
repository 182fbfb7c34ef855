"""Images and plug-ins that the compared commands read, made from fixed seeds."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np

PLUG_INS = Path(__file__).with_name("plug_ins.py")
README_PLUG_INS = "# my_predictors.py"
"""First line of the predictors that README or guide show; they may change with the signatures of plug-ins, so each commit brings its own."""
TASKS = {"cifar10.npz": (32, 3), "cifar100_16.npz": (16, 3), "fashion_mnist.npz": (28, 1), "mnist.npz": (28, 1), "tiny_imagenet16.npz": (16, 3),
         "tiny_imagenet32.npz": (32, 3)}  # fmt: skip
"""Files that commands of training read: side and channels."""


def make_inputs(folder: Path) -> str:
    """Write images and plug-ins to `folder` and return a checksum of them."""
    for number, (name, (side, channels)) in enumerate(TASKS.items()):
        x, y = images(6, 24, side, channels, seed=number)
        test = np.arange(len(x)) % 4 == 3
        _save(folder / "tasks" / name, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])
    x, y = images(4, 60, 16, 3, seed=100)
    _save(folder / "shapes.npz", x_train=x, y_train=y)
    _save_folder(folder / "shapes", *images(3, 40, 20, 3, seed=101))
    (folder / "plug-ins").mkdir()
    shutil.copyfile(PLUG_INS, folder / "plug-ins" / "comparison_plugins.py")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def readme_plug_ins(checkout: Path) -> str:
    """The predictors of README and guide of a checkout, one after the other; empty where no page shows any."""
    pages = (checkout / "README.md", *sorted((checkout / "docs").rglob("*.md")))
    blocks = (block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    return "\n".join(block for block in blocks if block.startswith(README_PLUG_INS))


def images(classes: int, each: int, side: int, channels: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy stripes, uint8 `(classes * each, side, side[, 3])`, and labels `(classes * each,)`: the class decides the direction."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(classes), each)
    rows, columns = np.mgrid[:side, :side] / side
    angle = (np.pi * y / classes)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1, 1))
    stripes = np.sin(12 * (np.cos(angle) * rows + np.sin(angle) * columns) + phase)
    tint = rng.uniform(0.5, 1, (len(y), 1, 1, channels))
    grey = 110 + 70 * stripes[..., None] * tint + rng.normal(0, 25, (len(y), side, side, channels))
    return np.clip(grey, 0, 255).astype(np.uint8).squeeze(-1) if channels == 1 else np.clip(grey, 0, 255).astype(np.uint8), y


def _save(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _save_folder(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    from PIL import Image

    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        path = folder / f"class{label}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
