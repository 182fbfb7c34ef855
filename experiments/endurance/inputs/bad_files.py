"""Good inputs of every kind, and damaged versions of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from experiments.endurance.forked import run_command
from experiments.endurance.inputs.bad_contents import make_bad_contents
from experiments.endurance.inputs.cells import CELL, OTHER_CELL, THIRD_CELL
from experiments.endurance.inputs.damages import DAMAGES, damage, damaged

SOURCES: Mapping[str, tuple[int, ...]] = {
    "cifar10": (32, 32, 3), "cifar100_16": (16, 16, 3), "fashion_mnist": (28, 28), "mnist": (28, 28), "tiny_imagenet16": (16, 16, 3),
}  # fmt: skip
"""Files that `embed_datasets` and `train_image_encoder` read, and the shape of an image in each."""


def make_damaged(good: Path, folder: Path) -> None:
    """Write each damaged version of the file `good` to `folder`."""
    for how in DAMAGES:
        path = folder / Path(damaged(good.name, how)).name
        shutil.copy(good, path)
        damage(path, how)


def make_inputs(folder: Path) -> dict[str, str]:
    """Make good and bad inputs in `folder`; returns the variables that name their places."""
    good, bad = folder / "good", folder / "bad"
    good.mkdir(parents=True)
    bad.mkdir()
    for name, content in _texts().items():
        (good / name).write_text(content)
    _make_images(good)
    _make_run(good)
    for path in sorted(good.iterdir()):
        if path.is_file() and path.suffix != ".py":
            make_damaged(path, bad)
    make_bad_contents(bad, good)
    return {"GOOD": str(good), "BAD": str(bad)}


def _texts() -> dict[str, str]:
    cells = (CELL, OTHER_CELL, THIRD_CELL)
    return {
        "archs.jsonl": "".join(json.dumps({"arch": cell, "valid": True}) + "\n" for cell in cells),
        "archs.csv": "arch\n" + "".join(f'"{cell}"\n' for cell in cells),
        "measured.csv": "arch,ms\n" + "".join(f'"{cell}",{2.5 + number}\n' for number, cell in enumerate(cells)),
        "latency.csv": "arch,phone_ms\n" + "".join(f'"{cell}",{2.5 + number}\n' for number, cell in enumerate(cells)),
    }


def _make_images(good: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(40, 12, 12, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(good / "images.npz", x_train=x, y_train=y)
    np.save(good / "x.npy", x)
    np.save(good / "y.npy", y)
    (good / "folder").mkdir()
    rows = ["path,label"]
    for number, (picture, label) in enumerate(zip(x, y, strict=True)):
        path = good / "folder" / f"class{label}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
        rows.append(f"folder/class{label}/{number}.png,{label}")
    (good / "paths.csv").write_text("\n".join(rows) + "\n")
    tasks = good / "tasks"
    tasks.mkdir()
    for name, shape in SOURCES.items():
        x = rng.integers(256, size=(40, *shape), dtype=np.uint8)
        np.savez(tasks / f"{name}.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])


def _make_run(good: Path) -> None:
    """A search that has ended, trained networks, a device file: made by the commands themselves."""
    run = partial(run_command, folder=good, env={"DIFFNAG_CACHE": str(good / "cache")}, seconds=120)
    small = ("--steps", "2", "--batch-size", "8", "--width", "8", "--layers", "1")
    calls: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("diffnag.search", ("--dataset", "cifar10", "--oracle", "surrogate", "--method", "random", "--budget", "2", "--out", "run")),
        ("diffnag.search", ("--dataset", "cifar10", "--oracle", "surrogate", "--method", "random", "--budget", "2", "--out", "journal-run",
                            "--storage", "journal:study.log")),
        ("diffnag.search", ("--dataset", "cifar10", "--oracle", "surrogate", "--method", "random", "--budget", "2", "--out", "sqlite-run",
                            "--storage", "sqlite:///study.db", "--study", "run")),
        ("diffnag.train_score", ("--generator", "sde", "--heads", "1", *small, "--out", "sde.safetensors")),
        ("diffnag.train_score", ("--generator", "autoregressive", *small, "--out", "autoregressive.safetensors")),
        ("diffnag.train_score", ("--generator", "sde", "--space", "transnasbench101-macro", "--heads", "1", *small, "--out",
                                 "other-space.safetensors")),
        ("diffnag.device", ("fit", "--from", "measured.csv", "--out", "mine.device.json")),
    )  # fmt: skip
    for module, args in calls:
        ended = run(module, args)
        assert ended.exit_code == 0, (module, args, ended)
