"""Layers that the networks of several spaces are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def relu_conv(c_in: int, c_out: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution without bias, batch normalisation: `(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`, rounded up."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
    )


class FactorizedReduce(nn.Module):
    """Halves the image by two 1x1 convolutions of stride 2, one a pixel further on both ways than the other."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.here = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.further = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / 2, w / 2)`."""
        x = functional.relu(x)
        moved = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]  # of odd sides the last pixels are zeros
        out: Tensor = self.norm(torch.cat([self.here(x), self.further(moved)], dim=1))
        return out
