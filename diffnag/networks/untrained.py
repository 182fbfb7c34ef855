"""The untrained network of an architecture, as a `Classifier` that can be saved and exported."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from diffnag.errors import UserError
from diffnag.networks.build import seeded
from diffnag.networks.classifier_file import Classifier, Description
from diffnag.networks.plan import LARGEST_IMAGE, MOST_CELLS, MOST_CHANNELS, Skeleton, logits_of, skeleton_of
from diffnag.protocols import HasResolution
from diffnag.spaces.counting import measured_size
from diffnag.spaces.inputs import side_of
from diffnag.spaces.loading import load_space
from diffnag.spaces.tokens import refuse_tokens

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

NOISE, LARGE = 32, 64
"""Images of noise that set the normalisation, of up to `LARGE` pixels a side; half as many of larger ones. Fewer would be too few for
maps of single pixels."""
PIXELS = 2**19
"""Pixels of all images of noise together, at most, but two images at least: many large images would fill the memory."""
MOST = {"num_classes": 1_000_000, "image_size": LARGEST_IMAGE, "channels": MOST_CHANNELS, "cells": MOST_CELLS}
MOST_PARAMS, MOST_FLOPS = 500_000_000, 100_000_000_000
"""Largest network: more would fill the memory of an ordinary machine, or take hours."""


def untrained(
    space: str, arch: str, *, num_classes: int, image_size: int | None = None, channels: int | None = None, cells: int | None = None, seed: int = 0
) -> Classifier:
    """The network that `space`, a name or dotted path, builds for `arch`, in evaluation mode. Its classes are called 0, 1, ...

    `channels` and `cells` are options of the space's `build`, by default those of the benchmark's own network; `seed` decides the
    weights. The statistics of normalisation layers come from images of noise. Without them, signals would vanish or grow in a deep
    network. The network takes images `(b, 3, image_size, image_size)` with pixels in [0, 1]; an architecture with a resolution of its
    own needs no `image_size`. Raises `UserError` if `arch` is not in the space, if the network is too large, and if it cannot take
    such images.
    """
    check_ranges(num_classes=num_classes, image_size=image_size, channels=channels, cells=cells)
    loaded = load_space(space)
    skeleton = skeleton_of(loaded, channels=channels, cells=cells)
    parsed = loaded.from_str(arch)
    side = _asked_side(parsed, loaded, image_size)
    model = untrained_network(loaded, parsed, skeleton, num_classes=num_classes, image_size=side, seed=seed)
    return Classifier(model.network, replace(model.description, space=space)).eval()


def untrained_network(
    space: SearchSpace, arch: Arch, skeleton: Skeleton, *, num_classes: int, image_size: int, seed: int = 0
) -> Classifier:
    """As `untrained`, with the network that `skeleton` builds in a loaded space; its description calls the space by its own name.

    A resolution of the architecture's own replaces `image_size`.
    """
    refuse_tokens(space, "a classifier")
    image_size = side_of(arch, space, image_size)
    _refuse_too_large(skeleton, arch, space, num_classes=num_classes, image_size=image_size)
    classes = tuple(map(str, range(num_classes)))
    shape = skeleton.inputs or (3, image_size, image_size)
    noise = NOISE if image_size <= LARGE else max(2, min(NOISE // 2, PIXELS // (shape[1] * shape[2])))
    with seeded(seed):
        network = skeleton.build(arch, space, num_classes=num_classes, image_size=image_size)
        images = torch.rand(noise, *shape)
        logits_of(partial(_set_normalisation, network), images, arch, space, num_classes=num_classes)
    description = Description(space.name, space.to_str(arch), skeleton, classes, image_size, (0.0,) * shape[0], (1.0,) * shape[0])
    return Classifier(network, description).eval()


def _asked_side(arch: Arch, space: SearchSpace, image_size: int | None) -> int:
    """The side that a user asks for; raises `UserError` if it is not the architecture's own, or if there is none."""
    if isinstance(space, HasResolution):
        own = space.resolution(arch)
        if image_size not in (None, own):
            raise UserError(f"{space.to_str(arch)} has a resolution of its own: the images have {own} pixels a side, not {image_size}")
        return own
    if image_size is None:
        raise UserError(f"architectures of space {space.name!r} have no resolution of their own: say how many pixels a side the images have")
    return image_size


def check_ranges(*, num_classes: int, image_size: int | None, channels: int | None, cells: int | None) -> None:
    """Raise `UserError` if one of these numbers is not within 1 and its entry in `MOST`."""
    for name, value in (("num_classes", num_classes), ("image_size", image_size), ("channels", channels), ("cells", cells)):
        if value is not None and not 1 <= value <= MOST[name]:
            raise UserError(f"{name} is {value}; 1 to {MOST[name]:,} are accepted")


def _refuse_too_large(skeleton: Skeleton, arch: Arch, space: SearchSpace, *, num_classes: int, image_size: int) -> None:
    """Raise `UserError` if the network would exceed `MOST_PARAMS` or `MOST_FLOPS`, counted without memory for its weights."""
    try:
        with seeded(0), torch.device("meta"):
            network = skeleton.build(arch, space, num_classes=num_classes, image_size=image_size)
        size = measured_size(network, image_size=image_size, inputs=skeleton.inputs)
    except Exception:  # not every network can be built without memory; what is wrong with others is reported when they are built
        return
    for what, count, most in (("parameters", size.params, MOST_PARAMS), ("multiply-adds an image", size.flops, MOST_FLOPS)):
        if count > most:
            raise UserError(f"the network of {space.to_str(arch)}, {skeleton}, has {count:,} {what}; up to {most:,} are accepted")


@torch.no_grad()
def _set_normalisation(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Set the statistics of batch normalisation so that each channel has mean square 1 on `images`; return the logits.

    Means are not removed: without them deep untrained networks are chaotic (Yang et al., ICLR 2019), and rounding errors grow with
    each layer.
    """

    def measure(norm: nn.modules.batchnorm._BatchNorm, inputs: tuple[torch.Tensor]) -> None:
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.zero_()
            norm.running_var.copy_(inputs[0].square().transpose(0, 1).flatten(1).mean(1))

    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    logits: torch.Tensor = network.eval()(images)
    for hook in hooks:
        hook.remove()
    return logits
