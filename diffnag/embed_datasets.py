"""Embed image datasets as the tasks that the package ships: `python -m diffnag.embed_datasets --images FOLDER --out FILE`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.command.options import add_options, option, options_from
from diffnag.command.running import run_command
from diffnag.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SOURCES = {
    "cifar10": ("cifar10.npz", 5000, 32),
    "cifar100": ("cifar100_16.npz", 500, 32),
    "fashion_mnist": ("fashion_mnist.npz", 6000, 28),
    "mnist": ("mnist.npz", 6000, 28),
    "tiny_imagenet": ("tiny_imagenet16.npz", 500, 64),
}
"""Task -> file of its images; training images a class and side in pixels, both of the whole dataset."""


@dataclass(frozen=True)
class Options:
    """Arguments of the command."""

    images: Path = option(metavar="FOLDER", help=f"folder with {', '.join(file for file, _, _ in SOURCES.values())}, "
                          "each with x_train (b, h, w[, 3]) uint8 and y_train (b,)")  # fmt: skip
    out: Path = option(metavar="FILE", help="the safetensors file to write")
    images_per_class: int = option(20, most=10_000, help="images of each class that are embedded")
    classes: int = option(100, least=2, most=10**6, help="largest number of classes of a dataset; they are evenly spread")
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of the choice of images")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m diffnag.embed_datasets", description="Embed image datasets as tasks.")
    add_options(p, Options)
    return p


def main() -> None:
    """Parse the command line, embed each dataset, write the file."""
    options = options_from(parser().parse_args(), Options)
    import torch

    from diffnag.datasets.tasks import descriptors_of, features_of_images
    from diffnag.io.checkpoint import checksum, save_checkpoint
    from diffnag.io.files import check_weights_place

    check_weights_place(options.out)
    tasks, sources = {}, {}
    for name, (file, images_a_class, side) in SOURCES.items():
        x, y, all_classes = _training_images(options.images / file, classes=options.classes)
        task = features_of_images(x, y, images_per_class=options.images_per_class, seed=options.seed)
        assert task.features is not None
        tasks[f"{name}/features"] = task.features.to(torch.float16)
        tasks[f"{name}/descriptors"] = descriptors_of(all_classes, images_a_class, side, 1 if x.ndim == 3 else 3)
        sources[file] = checksum(options.images / file)
        print(f"{name}: {len(task.features)} classes of {task.features.shape[1]} images")
    command = (
        f"python -m diffnag.embed_datasets --images FOLDER --images-per-class {options.images_per_class} "
        f"--classes {options.classes} --seed {options.seed}"
    )
    meta = {"kind": "tasks", "seed": options.seed, "command": command, "sources_sha256": sources}
    save_checkpoint(options.out, tasks, meta)
    print(f"wrote {options.out}, {options.out.stat().st_size / 1e6:.2f} MB")


def _training_images(path: Path, *, classes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Training images and labels of at most `classes` classes of a `.npz` file, and the number of all its classes."""
    import numpy as np

    from diffnag.datasets.labelled import read_labelled

    ((x, y),) = read_labelled(path, "train")
    labels = np.unique(y)
    if len(labels) < 2:
        raise UserError(f"{path} has one class only; a task has two and more")
    kept = np.isin(y, labels[:: -(-len(labels) // classes)])
    return x[kept], y[kept], len(labels)


if __name__ == "__main__":
    run_command(main)
