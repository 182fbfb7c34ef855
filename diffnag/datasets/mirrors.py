"""Whether images have a direction: whether the original can be recognised beside its mirror image.

Training mirrors images at random, as a photo and its mirror image show the same. Digits, words and signs are no photos in this sense:
mirrored ones are other signs, or none. No label says so, but the images do. A small network is shown an image and its mirror image, and
learns which is the original. On photos it guesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.io.threads import one_thread

if TYPE_CHECKING:
    from diffnag.datasets.images import ImageDataset

RECOGNISED = 0.75
"""Share of pairs from which images have a direction. Photos have about a half; what occurs twice is learned by heart, so a little more is no sign."""
LEARNED, JUDGED, FEWEST = 1600, 800, 20
"""Most images that are learned from and that are judged, and the fewest of which anything is said."""
SIDE, CHUNK = 32, 64
"""Pixels a side at most, and images that are resized at once."""
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 250, 64, 2e-3, 0.05


def recognised_originals(images: ImageDataset) -> float | None:
    """Share of the validation images that are taken for the original beside their mirror image; None for too few images.

    The network learns from the training images. It scores a picture, and the one with the larger score counts as the original.
    """
    if min(len(images.train.x), len(images.val.x)) < FEWEST:
        return None
    rng = np.random.default_rng(0)
    shown, judged = (_some(part.x, most, rng) for part, most in ((images.train, LEARNED), (images.val, JUDGED)))
    mean, std = shown.mean((0, 2, 3), keepdim=True), shown.std((0, 2, 3), keepdim=True) + 1e-6
    shown, judged = (shown - mean) / std, (judged - mean) / std
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)  # layers initialise from the global generator
        network = _network(shown.shape[1])
        optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(STEPS):
            some = shown[torch.randint(len(shown), (BATCH,), generator=generator)]
            loss = functional.softplus(-_lead(network, some)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            return float((_lead(network, judged) > 0).float().mean())


def _lead(network: nn.Module, x: Tensor) -> Tensor:
    """By how much images `x (b, c, h, w)` have larger scores than their mirror images, `(b,)`."""
    return (network(x) - network(x.flip(3)))[:, 0]


def _network(channels: int) -> nn.Module:
    """Three convolutions of stride 2, a map of 4 x 4 pixels, and one score."""
    layers: list[nn.Module] = []
    for out in (16, 32, 64):
        layers += [nn.Conv2d(channels, out, 3, 2, 1), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, 1))


def _some(x: np.ndarray, most: int, rng: np.random.Generator) -> Tensor:
    """At most so many of the images `(n, h, w, c)`, of `SIDE` pixels a side at most, float32 `(m, c, h, w)`."""
    chosen = np.sort(rng.permutation(len(x))[:most])
    sides = [min(side, SIDE) for side in x.shape[1:3]]
    parts = (torch.from_numpy(x[part]).permute(0, 3, 1, 2).float() for part in np.array_split(chosen, -(-len(chosen) // CHUNK)))
    return torch.cat([functional.interpolate(part, sides, mode="area") for part in parts])
