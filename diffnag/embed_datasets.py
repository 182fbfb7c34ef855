"""`python -m diffnag.embed_datasets`: images -> the shipped tasks, `diffnag/pretrained/tasks.safetensors`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.command import arguments
from diffnag.command.running import run_command

if TYPE_CHECKING:
    import numpy as np

SOURCES = {
    "cifar10": ("cifar10.npz", 5000, 32),
    "cifar100": ("cifar100_16.npz", 500, 32),
    "fashion_mnist": ("fashion_mnist.npz", 6000, 28),
    "mnist": ("mnist.npz", 6000, 28),
    "tiny_imagenet": ("tiny_imagenet16.npz", 500, 64),
}
"""Task -> the file of its images, and of the whole dataset the training images a class and the side in pixels."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m diffnag.embed_datasets", description="Embed image datasets as tasks.")
    p.add_argument("--images", type=Path, required=True, metavar="FOLDER", help=f"holds {', '.join(file for file, _, _ in SOURCES.values())}, "
                   "each with x_train (b, h, w[, 3]) uint8 and y_train (b,)")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    p.add_argument("--images-per-class", type=arguments.positive_int, default=20, help="default: %(default)s")
    p.add_argument("--classes", type=arguments.positive_int, default=100, help="at most, evenly spread; default: %(default)s")
    p.add_argument("--seed", type=arguments.seed, default=0, help="of the draw of images; default: %(default)s")
    return p


def main() -> None:
    options = parser().parse_args()
    import torch

    from diffnag.datasets.tasks import descriptors_of, features_of_images
    from diffnag.io.checkpoint import checksum, save_checkpoint
    from diffnag.io.files import check_writable

    check_writable(options.out)
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
    """Training images and labels of at most `classes` classes of a `.npz` file, and how many classes there are."""
    import numpy as np

    from diffnag.datasets.labelled import read_labelled

    ((x, y),) = read_labelled(path, "train")
    labels = np.unique(y)
    kept = np.isin(y, labels[:: -(-len(labels) // classes)])
    return x[kept], y[kept], len(labels)


if __name__ == "__main__":
    run_command(main)
