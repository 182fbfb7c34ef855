"""Layers that the networks of several spaces use."""

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
    """Reduction of a map by two 1x1 convolutions of stride 2, the second shifted by one pixel in both directions."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.here = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.further = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / 2, w / 2)`, rounded up."""
        x = functional.relu(x)
        down = int(x.shape[2] > 1)  # a signal has one row
        moved = functional.pad(x, (-1, 1, -down, down))  # for an odd side the last pixels are zeros
        out: Tensor = self.norm(torch.cat([self.here(x), self.further(moved)], dim=1))
        return out
