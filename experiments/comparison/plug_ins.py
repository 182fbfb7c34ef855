"""Plug-ins of the comparison: a copy of this file is on the path of its commands, as `comparison_plugins`.

They use only what users may use, so one text serves both commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from diffnag import Arch, CategoricalSpace

LAYERS = ("conv3x3", "conv1x1", "maxpool3x3")
PLACES = range(1, 4)


class Chain(CategoricalSpace):
    """Three layers in a chain; a shortcut adds the map before a layer to the map behind it."""

    name, nodes, operators = "comparison-chain", 5, ("input", "output", *LAYERS)
    parameters = {f"layer{i}": LAYERS for i in PLACES} | {f"shortcut{i}": ("no", "yes") for i in PLACES}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        layers = [self.operators.index(parameters[f"layer{i}"]) for i in PLACES]
        shortcuts = [(i - 1, i + 1) for i in PLACES if parameters[f"shortcut{i}"] == "yes"]
        return Arch((0, *layers, 1), (*((i, i + 1) for i in range(4)), *shortcuts))

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        layers = {f"layer{i}": self.operators[arch.ops[i]] for i in PLACES}
        return layers | {f"shortcut{i}": "yes" if (i - 1, i + 1) in arch.edges else "no" for i in PLACES}

    def build(self, arch: Arch, *, channels: int = 8, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        stem = nn.Conv2d(3, channels, 3, stride=stem_stride, padding=1)
        stages = [_Stage(self.to_parameters(arch), channels) for _ in range(cells)]
        return nn.Sequential(stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


class _Stage(nn.Module):
    def __init__(self, chosen: Mapping[str, str], channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(chosen[f"layer{i}"], channels) for i in PLACES)
        self.shortcuts = [chosen[f"shortcut{i}"] == "yes" for i in PLACES]

    def forward(self, x: Tensor) -> Tensor:
        for layer, shortcut in zip(self.layers, self.shortcuts, strict=True):
            x = layer(x) + x if shortcut else layer(x)
        return x


def _layer(name: str, channels: int) -> nn.Module:
    if name == "maxpool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    side = int(name[-1])
    conv = nn.Conv2d(channels, channels, side, padding=side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class Fixed:
    """A sum over operators, known before any label: differentiable on relaxed architectures, so it allows `denoised` guidance."""

    labels_source: Mapping[str, int] = {}

    def fit(self, archs: Sequence[Arch], y: np.ndarray) -> None:
        """Learn nothing: the values are fixed."""

    def predict(self, archs: Sequence[Arch]) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(b,)` and standard deviation `(b,)`."""
        return np.array([_worth(arch.ops).sum() for arch in archs]), np.ones(len(archs))

    def forward(self, V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
        """`V (b, n, f)` in [0, 1] -> mean `(b,)`."""
        return V.double() @ torch.from_numpy(_worth(range(V.shape[2]))) @ torch.ones(V.shape[1], dtype=torch.float64)


def _worth(operators: Iterable[int]) -> np.ndarray:
    """A fixed value of each operator, by its number."""
    return np.sin(1.7 * np.array(list(operators)) + 0.4)
