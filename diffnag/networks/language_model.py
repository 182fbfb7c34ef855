"""The untrained language model of an architecture, in a space whose networks take tokens, and its ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from diffnag.errors import UserError
from diffnag.networks.build import seeded
from diffnag.networks.onnx_file import write_onnx
from diffnag.networks.plan import Skeleton, skeleton_of
from diffnag.networks.untrained import MOST_PARAMS, check_ranges
from diffnag.protocols import Size, TakesTokens
from diffnag.spaces.loading import load_space

CHECKED = ((2, 17), (1, 1), (3, 32))
"""Shapes (b, t) of the random texts on which the logits of the ONNX file are compared with torch's."""


@dataclass(frozen=True)
class LanguageModel:
    """An untrained language model, in evaluation mode: token ids `(b, t)` -> logits `(b, t, vocabulary)`."""

    network: nn.Module
    space: str
    arch: str
    """As the space writes it."""
    skeleton: Skeleton
    vocabulary: int
    size: Size
    """Parameters, and multiply-adds for the context that was asked for."""


def untrained_language_model(
    space: str, arch: str, *, vocabulary: int, context: int, channels: int | None = None, cells: int | None = None, seed: int = 0
) -> LanguageModel:
    """The network that `space`, a name or dotted path, builds for `arch`; `seed` decides its weights.

    Raises `UserError` if `arch` is not in the space, if the networks of the space take images, and if the network is too large.
    """
    check_ranges(num_classes=vocabulary, image_size=context, channels=channels, cells=cells)
    loaded = load_space(space)
    if not isinstance(loaded, TakesTokens):
        raise UserError(f"the networks of space {loaded.name!r} take images, not tokens")
    built = loaded.from_str(arch)
    skeleton = skeleton_of(loaded, channels=channels, cells=cells)
    size = skeleton.size(built, loaded, num_classes=vocabulary, image_size=context)
    if size.params > MOST_PARAMS:
        raise UserError(f"the network of {loaded.to_str(built)} has {size.params:,} parameters; up to {MOST_PARAMS:,} are accepted")
    with seeded(seed):
        network = skeleton.build(built, loaded, num_classes=vocabulary, image_size=context).eval()
    return LanguageModel(network, space, loaded.to_str(built), skeleton, vocabulary, size)


def export_language_model(path: str | Path, model: LanguageModel) -> float:
    """Write `model` as ONNX: input `tokens`, int64 of any shape `(b, t)`, output `logits`.

    The metadata name space and architecture. See `write_onnx` for the figure that is returned and the error.
    """
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(model.vocabulary, shape, generator=generator) for shape in CHECKED]
    facts = {"space": model.space, "arch": model.arch}
    return write_onnx(path, model.network, texts, name="tokens", axes={0: "batch", 1: "length"}, facts=facts)
