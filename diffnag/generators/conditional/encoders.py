"""Encoders of a number that a draw asks for: how it is shown to a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

WIDTH = 0.1
"""Width of a cluster at first, in standard deviations of the condition."""
LARGEST = 5.0
"""Standard deviations from the mean up to which clusters and intervals lie."""


class Clusters(nn.Module):
    """Soft clusters, whose centres begin evenly spread."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(1, bins)
        self.vector = nn.Linear(bins, width)
        centres = torch.linspace(-LARGEST / 2, LARGEST, bins)
        with torch.no_grad():  # then softmax gives the posterior of normal clusters of equal width
            self.place.weight.copy_(centres[:, None] / WIDTH**2)
            self.place.bias.copy_(-(centres**2) / (2 * WIDTH**2))

    def forward(self, number: Tensor) -> Tensor:
        """`(b, 1)` -> `(b, width)`."""
        shown: Tensor = self.vector(self.place(number).softmax(dim=1))
        return shown


class Intervals(nn.Module):
    """One of several intervals of equal width."""

    ends: Tensor

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.vector = nn.Embedding(bins, width)
        self.register_buffer("ends", torch.linspace(-LARGEST / 2, LARGEST, bins - 1), persistent=False)

    def forward(self, number: Tensor) -> Tensor:
        """`(b, 1)` -> `(b, width)`."""
        shown: Tensor = self.vector(torch.bucketize(number[:, 0].contiguous(), self.ends))
        return shown


class Plain(nn.Sequential):
    """The number itself, through a small network."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__(nn.Linear(1, bins), nn.SiLU(), nn.Linear(bins, width))


ENCODERS: Mapping[str, type[nn.Module]] = {"clusters": Clusters, "intervals": Intervals, "plain": Plain}
