"""Relaxed architectures that look like the estimates of a denoiser: a predictor that steers by `denoised` guidance trains on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffnag.protocols import SearchSpace

NOISE = (0.2, 20.0)
"""Range of sigma / alpha in the default diffusion: from everything decided to nothing known."""


def relax(V: Tensor, E: Tensor, space: SearchSpace, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise clean `V (b, n, f)`, `E (b, n, n)` in {0, 1} and return the posterior mean of each entry, in [0, 1].

    Each item gets its own noise level, log-uniform in `NOISE`, and Bayes' rule for independent uniform entries, as in
    `diffnag.generators.diffusion.denoiser.Denoiser`. Constant entries of the space stay as they are. A regressor that is fitted to the
    result learns the mean value of the architectures that an estimate may stand for.
    """
    low, high = map(math.log, NOISE)
    level = torch.exp(low + (high - low) * torch.rand(len(V), 1, 1, generator=generator))
    fixed_V, fixed_E = (torch.from_numpy(part) for part in space.constant)
    never = fixed_V & (V[0] == 0)  # no architecture has these operators there
    logits = 2 * _noised(V, level, generator) / level**2
    soft_V = logits.masked_fill(never, -math.inf).softmax(dim=2)
    soft_E = torch.where(fixed_E, E, torch.sigmoid(2 * _noised(E, level, generator) / level**2)).triu(1)
    return soft_V, soft_E


def _noised(part: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    return 2 * part - 1 + level * torch.randn(part.shape, generator=generator)
