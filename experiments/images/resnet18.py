"""ResNet-18 for small images, trained for all the time that a search has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from experiments.images.trained import train_for

STAGES = (64, 128, 256, 512)


class Block(nn.Module):
    """A basic residual block (He et al., CVPR 2016): two 3x3 convolutions, and a 1x1 convolution beside them where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(channels, out, 3, stride), _convolution(out, out, 3, 1)
        self.beside = nn.Identity() if (channels, stride) == (out, 1) else _convolution(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, channels, h, w)` -> `(b, out, h / stride, w / stride)`."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.beside(x))


def resnet18(classes: int) -> nn.Module:
    """Four stages of two blocks behind one 3x3 convolution, as is usual for images of 32 pixels; 11.2 million parameters."""
    layers: list[nn.Module] = [_convolution(3, STAGES[0], 3, 1), nn.ReLU()]
    channels = STAGES[0]
    for stage, out in enumerate(STAGES):
        layers += [Block(channels, out, 1 if stage == 0 else 2), Block(out, out, 1)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def train_resnet18(images: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Train it for so many seconds, see `train_for`; accuracies are fractions."""
    found = train_for(images, seed, seconds, lambda own: resnet18(len(own.classes)), timed_steps=1)  # a step takes seconds
    return {**found, "arch": "ResNet-18"}


def _convolution(channels: int, out: int, kernel: int, stride: int) -> nn.Module:
    """A convolution without bias, and batch normalisation."""
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out))
