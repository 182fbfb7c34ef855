"""Ensembles of small multilayer perceptrons whose members are trained and evaluated side by side, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

Layer = tuple[Tensor, Tensor]
"""Weights `(members, in, out)` and biases `(members, 1, out)`."""


def random_layers(sizes: Sequence[int], *, members: int, generator: torch.Generator) -> list[Layer]:
    """Layers from `sizes[0]` inputs to `sizes[-1]` outputs: normal weights of variance 2 / in (He et al., 2015), zero biases."""
    return [
        (torch.randn(members, inputs, outputs, generator=generator) * (2 / inputs) ** 0.5, torch.zeros(members, 1, outputs))
        for inputs, outputs in pairwise(sizes)
    ]


def trainable(layers: Sequence[Layer]) -> list[Tensor]:
    """All weights and biases as one list for an optimiser, set to require gradients."""
    return [part.requires_grad_() for layer in layers for part in layer]


def detached(layers: Sequence[Layer]) -> list[Layer]:
    """The same layers without gradients, for use after training."""
    return [(weight.detach(), bias.detach()) for weight, bias in layers]


def ensemble(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Outputs of all members `(members, b, out)`, SiLU between the layers.

    `x` is `(b, in)` if all members get the same inputs, `(members, b, in)` if each has its own.
    """
    h = x if x.dim() == 3 else x.expand(len(layers[0][0]), *x.shape)
    for depth, (weight, bias) in enumerate(layers):
        h = torch.baddbmm(bias.to(x), functional.silu(h) if depth else h, weight.to(x))
    return h
