"""Ensembles of small networks, all members trained and asked in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional


def random_weights(sizes: Sequence[int], *, members: int, generator: torch.Generator) -> list[Tensor]:
    """Weights `(members, in, out)` and biases `(members, 1, out)` of a stack of layers in turn (He et al., 2015)."""
    parts = []
    for inputs, outputs in pairwise(sizes):
        weight = torch.randn(members, inputs, outputs, generator=generator) * (2 / inputs) ** 0.5
        parts += [weight, torch.zeros(members, 1, outputs)]
    return parts


def ensemble(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """What each member says of `x`, `(b, in)` for all or `(members, b, in)`: `(members, b)`."""
    h = x if x.dim() == 3 else x.expand(len(weights[0]), *x.shape)
    for i in range(0, len(weights), 2):
        h = torch.baddbmm(weights[i + 1].to(x), functional.silu(h) if i else h, weights[i].to(x))
    return h.squeeze(2)
