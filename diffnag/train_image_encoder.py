"""Train the image encoder: `python -m diffnag.train_image_encoder --images FOLDER --out FILE`.

The encoder is the body of a classifier of four fifths of the classes of Tiny-ImageNet (Le and Yang, 2015). It never sees the last
fifth, the labels with `label % 5 == 4`: tests use those.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffnag.command.options import add_options, option, options_from
from diffnag.command.progress import Progress
from diffnag.command.running import run_command

if TYPE_CHECKING:
    from torch import nn

FILE = "tiny_imagenet16.npz"
ALTERED = 0.25
"""Share of the training images that are made grey, half as sharp, or noisy. Each image is seen in one form only: the network is to
recognise altered images too, and its features are still to show the alteration."""


@dataclass(frozen=True)
class Options:
    """Arguments of the command."""

    images: Path = option(metavar="FOLDER", help=f"folder with {FILE}: x_train, x_test (b, h, w[, 3]) uint8 and y_train, y_test (b,)")
    out: Path = option(metavar="FILE", help="the safetensors file to write")
    epochs: int = option(20, most=10**6, help="passes over the images")
    seed: int = option(0, least=0, most=2**63 - 1, help="seed of weights, batches and alterations")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m diffnag.train_image_encoder", description="Train the image encoder on Tiny-ImageNet.")
    add_options(p, Options)
    return p


def main() -> None:
    """Parse the command line, train, write the file."""
    options = options_from(parser().parse_args(), Options)
    from diffnag.datasets.drawn_tasks import HELD_OUT, known_images
    from diffnag.datasets.encoder import SIDE
    from diffnag.io.checkpoint import checksum
    from diffnag.io.files import check_weights_place

    check_weights_place(options.out)
    path = options.images / FILE
    split = known_images(path, side=SIDE)
    source = {"images_file": FILE, "images_sha256": checksum(path), "held_out": HELD_OUT}
    command = f"python -m diffnag.train_image_encoder --images FOLDER --epochs {options.epochs} --seed {options.seed}"
    meta = train(*split, out=options.out, epochs=options.epochs, seed=options.seed, about={**source, "command": command})
    print(
        f"wrote {options.out}, {options.out.stat().st_size / 1e6:.2f} MB: {meta['validation_accuracy']:.1f} % of the validation "
        f"images correct over {meta['classes']} classes, {meta['train_core_seconds']:.0f} core-seconds"
    )


def train(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, *, out: Path, epochs: int, seed: int, about: dict[str, str]
) -> dict[str, Any]:
    """Train on images `x` and labels `y (n,)`, write `out`, and return its metadata. The accuracy there is that of the stored weights."""
    from dataclasses import asdict

    import torch

    from diffnag.datasets.encoder import KIND, LEARNED, STATISTICS, ImageEncoder, to_pixels
    from diffnag.io.checkpoint import in_two_bytes, save_checkpoint
    from diffnag.networks import training
    from diffnag.networks.build import seeded

    begin, processor = time.monotonic(), time.process_time()
    classes = int(y.max()) + 1
    labels, labels_test = torch.from_numpy(y), torch.from_numpy(y_test)
    pixels, pixels_test = to_pixels(altered(x, np.random.default_rng(seed))), to_pixels(x_test)
    recipe = training.Recipe(epochs=epochs, shift=2, label_smoothing=0.0)
    with seeded(seed):
        encoder, head = ImageEncoder(), torch.nn.Linear(LEARNED, classes)
    classifier = torch.nn.Sequential(encoder.trunk, head).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    done = 0
    with Progress() as progress:
        progress("epoch", 0, epochs)

        def report(epoch: int, averaged: nn.Module) -> None:
            nonlocal done
            done = epoch
            progress("epoch", epoch, epochs, f"validation {training.accuracy(averaged, pixels_test, labels_test):.1f} %")

        try:
            generator = torch.Generator().manual_seed(seed)
            trained = training.train(classifier, pixels, labels, recipe, generator=generator, on_epoch=report)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped after epoch {done} of {epochs}; nothing was written") from None

    trained.load_state_dict({name: in_two_bytes(tensor).float() for name, tensor in trained.state_dict().items()})
    encoder.trunk.load_state_dict(next(trained.children()).state_dict())
    encoder.eval()
    raw = encoder.encode(x)  # not yet standardised: mean 0, standard deviation 1
    encoder.mean, encoder.std = raw.mean(0), raw.std(0).clamp_min(1e-3)
    meta = {
        "kind": KIND,
        "seed": seed,
        **about,
        "classes": classes,
        "training_images": len(x),
        "altered_share": ALTERED,
        "validation_accuracy": round(training.accuracy(trained, pixels_test, labels_test), 2),
        "train_seconds": round(time.monotonic() - begin, 1),
        "train_core_seconds": round(time.process_time() - processor, 1),
        "threads": torch.get_num_threads(),
        "recipe": asdict(recipe),
        "statistics": STATISTICS,
    }
    save_checkpoint(out, {name: in_two_bytes(tensor) for name, tensor in encoder.state_dict().items()}, meta)
    return meta


def altered(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Alter a share `ALTERED` of `images (b, h, w[, 3])`: a third of it becomes grey, a third half as sharp, a third noisy."""
    changed = np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images.copy()
    chosen = rng.permutation(len(changed))[: round(ALTERED * len(changed))]
    for change, rows in zip((grey, blurred, noisy), np.array_split(chosen, 3), strict=True):
        changed[rows] = change(changed[rows], rng)
    return changed


def grey(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images `(b, h, w, 3)` with the mean of the channels in each channel."""
    return np.repeat(images.mean(3, keepdims=True), 3, axis=3).round().astype(np.uint8)


def blurred(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images `(b, h, w, 3)` of even sides; each pixel becomes the mean of its block of 2 x 2 pixels."""
    b, h, w, channels = images.shape
    means = images.reshape(b, h // 2, 2, w // 2, 2, channels).mean((2, 4))
    return means.repeat(2, axis=1).repeat(2, axis=2).round().astype(np.uint8)


def noisy(images: np.ndarray, rng: np.random.Generator, *, deviation: float = 25) -> np.ndarray:
    """Images with Gaussian noise on every pixel and channel; `deviation` in grey levels of 0 to 255."""
    return (images + rng.normal(0, deviation, images.shape)).round().clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    run_command(main)
