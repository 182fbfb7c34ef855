"""Train the weights from which networks on small images start: `python -m diffnag.train_supernet --images FOLDER --out FILE`.

They are those of a space's supernet, as a classifier of four fifths of the classes of Tiny-ImageNet (Le and Yang, 2015) and of CIFAR-100
(Krizhevsky, 2009): first at 16 pixels, where there are many images, then at 32. It never sees the last fifth, the labels with
`label % 5 == 4`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.command.options import add_options, option, options_from
from diffnag.command.progress import Progress
from diffnag.command.running import run_command

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diffnag.datasets.drawn_tasks import KnownImages
    from diffnag.io.interrupted import Spent
    from diffnag.networks.training import Recipe
    from diffnag.protocols import ShipsWeights

SMALL, LARGE = ("tiny_imagenet16.npz", "cifar100_16.npz"), ("tiny_imagenet32.npz",)
"""Files of images; the classes of those that are `LARGE` are the first ones of the `SMALL`."""
FILES = ", ".join((*SMALL, *LARGE))
FINER = 0.5
"""Learning rate at 32 pixels, in parts of that at 16."""
GREY = 0.25
"""Share of the training images that are made grey."""


@dataclass(frozen=True)
class Options:
    """Arguments of the command."""

    images: Path = option(metavar="FOLDER", help=f"folder with {FILES}: x_train, x_test (b, h, w, 3) uint8 and y_train, y_test (b,)")
    out: Path = option(metavar="FILE", help="the safetensors file to write")
    space: str = option("nasbench201", help="search space that has a supernet, a name or package.module:Class")
    epochs: int = option(28, most=10**6, help="passes over the images of 16 pixels")
    epochs_large: int = option(40, most=10**6, help="passes over the images of 32 pixels, of which there are fewer")
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of weights, batches and cells")
    resume: bool = option(False, help="go on with the interrupted training of --out")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m diffnag.train_supernet", description="Train the weights from which networks on small images start."
    )
    add_options(p, Options)
    return p


def main() -> None:
    """Parse the command line, train, write the file."""
    options = options_from(parser().parse_args(), Options)
    from diffnag.errors import UserError
    from diffnag.io.checkpoint import checksum
    from diffnag.io.files import check_weights_place
    from diffnag.protocols import ShipsWeights
    from diffnag.spaces.loading import load_space

    check_weights_place(options.out)
    space = load_space(options.space)
    if not isinstance(space, ShipsWeights):
        raise UserError(f"space {options.space!r} has no supernet; a space that has one is nasbench201")
    small, large = (together([options.images / name for name in names], side=side) for names, side in ((SMALL, 16), (LARGE, 32)))
    said = f"--space {options.space} --epochs {options.epochs} --epochs-large {options.epochs_large} --seed {options.seed}"
    about = {
        "images_sha256": {name: checksum(options.images / name) for name in (*SMALL, *LARGE)},
        "command": f"python -m diffnag.train_supernet --images FOLDER {said}",
    }
    epochs = options.epochs, options.epochs_large
    meta = train(space, small, large, out=options.out, epochs=epochs, seed=options.seed, about=about, resume=options.resume)
    print(
        f"wrote {options.out}, {options.out.stat().st_size / 1e6:.2f} MB: {meta['test_accuracy']:.1f} % of {meta['test_images']} test images correct "
        f"by the residual cell, over {meta['test_classes']} classes, {meta['train_core_seconds']:.0f} core-seconds"
    )


def together(paths: list[Path], *, side: int) -> KnownImages:
    """The images of several files; the labels of each count on from those of the one before. Raises `UserError`."""
    from diffnag.datasets.drawn_tasks import KnownImages, known_images

    found: list[KnownImages] = []
    first = 0
    for path in paths:
        images = known_images(path, side=side)
        found.append(images._replace(y=first + images.y, y_test=first + images.y_test))
        first += int(images.y.max()) + 1
    return KnownImages(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def train(
    space: ShipsWeights, small: KnownImages, large: KnownImages, *, out: Path, epochs: tuple[int, int], seed: int, about: dict[str, Any],
    resume: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Train on the `small` and then on the `large` images, write `out`, and return its metadata; the accuracy is that on large test images.

    The labels of the large images are among those of the small ones. `out` + `.state` holds an unfinished training, written after each epoch.
    """
    import torch

    from diffnag.datasets.drawn_tasks import HELD_OUT
    from diffnag.io.checkpoint import save_checkpoint
    from diffnag.io.interrupted import Spent, state_beside
    from diffnag.networks import training
    from diffnag.networks.build import seeded
    from diffnag.spaces.supernets import KIND, stored

    place = state_beside(out, resume=resume)
    classes = int(max(small.y.max(), large.y.max())) + 1
    with seeded(seed):
        network: nn.Module = space.supernet(num_classes=classes, seed=seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipes = (
        training.Recipe(epochs=epochs[0], weight_decay=5e-5, shift=1),
        training.Recipe(epochs=epochs[1], weight_decay=5e-5, shift=2, learning_rate=FINER * training.Recipe.learning_rate),
    )
    spent = Spent()
    network, x_test, y_test = _trained(network, (small, large), recipes, seed=seed, place=place, resume=resume, about=about, spent=spent)
    tensors = stored(network)
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    meta = {
        "kind": KIND, "seed": seed, **about,
        "held_out": HELD_OUT, "classes": classes, "training_images": [len(small.x), len(large.x)], "grey_share": GREY,
        "test_accuracy": round(training.accuracy(network, x_test, y_test), 2), "test_images": len(y_test), "test_classes": int(large.y.max()) + 1,
        "train_seconds": round(spent.seconds, 1), "train_core_seconds": round(spent.core_seconds, 1),
        "threads": torch.get_num_threads(), "recipes": [asdict(recipe) for recipe in recipes],
    }  # fmt: skip
    save_checkpoint(out, tensors, meta)
    place.unlink(missing_ok=True)
    return meta


def _trained(
    network: nn.Module, parts: tuple[KnownImages, ...], recipes: tuple[Recipe, ...], *,
    seed: int, place: Path, resume: bool, about: dict[str, Any], spent: Spent,
) -> tuple[nn.Module, Tensor, Tensor]:  # fmt: skip
    """Train on one part of the images after the other; the averaged network, and test images and labels of the last part."""
    import torch

    from diffnag.io.interrupted import load_state, reading, save_state
    from diffnag.networks import training

    rng, total, done = np.random.default_rng(seed), sum(recipe.epochs for recipe in recipes), 0
    begun = load_state(place, options=about) if resume else None
    with Progress() as progress:
        for stage, (part, recipe) in enumerate(zip(parts, recipes, strict=True)):
            statistics = training.channel_statistics(part.x)
            x, x_test = (training.as_input(images, statistics=statistics) for images in (greyed(part.x, rng), part.x_test))
            y, y_test = (torch.from_numpy(labels.astype(np.int64)) for labels in (part.y, part.y_test))
            if begun and begun["stage"] > stage:
                done += recipe.epochs
                continue
            run = training.Training(network, x, y, recipe, generator=torch.Generator().manual_seed(seed))
            if begun:
                with reading(place):
                    run.load_state_dict(begun["training"])
                    spent.go_on(begun["spent"])
                done, begun = done + run.done, None
            progress("epoch", done, total)
            try:
                for averaged in run.epochs():
                    done += 1
                    progress("epoch", done, total, f"{x_test.shape[2]} pixels, test {training.accuracy(averaged, x_test, y_test):.1f} %")
                    save_state(place, {"stage": stage, "training": run.state_dict(), "spent": spent.to_json()}, options=about)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"stopped after epoch {done} of {total}; the same command with --resume goes on") from None
            network = run.averaged
    return network, x_test, y_test


def greyed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images `(n, h, w, 3)` of which a share `GREY` is made grey."""
    changed = images.copy()
    rows = rng.permutation(len(images))[: round(GREY * len(images))]
    changed[rows] = images[rows].mean(3, keepdims=True).round().astype(np.uint8)
    return changed


if __name__ == "__main__":
    run_command(main)
