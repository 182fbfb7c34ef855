"""Network of DARTS for CIFAR (Liu et al., ICLR 2019, section 3.1 and appendix A), and its size in closed form.

It has a stem, three stages of normal cells with a reduction cell between them, pooling and a classifier. Every cell reads the outputs of
the two cells before it. Sides are rounded up when they are halved, so that images of any size can be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffnag.protocols import Size
from diffnag.search_spaces.darts.genotype import Genotype
from diffnag.search_spaces.shared.layers import FactorizedReduce

STEM = 3
"""Channels of the stem, as a multiple of the channels of a state in the first stage."""
PUT_OUT = 4
"""Channels of a cell's output, as a multiple of the channels of its states."""


@dataclass(frozen=True)
class Place:
    """Place of a cell in the network."""

    older: int
    """Channels of the output of the cell before the last."""
    newer: int
    """Channels of the output of the last cell."""
    channels: int
    """Channels of the cell's own states."""
    reduces: bool
    """Whether it is a reduction cell."""
    after_reduction: bool
    """Whether the last cell was a reduction cell."""


def _places(*, channels: int, cells: int) -> Iterator[Place]:
    """The places of all cells in order, with `cells` normal cells in each stage and `channels` of a state in the first."""
    older = newer = STEM * channels
    stage = [False] * cells
    kinds = [*stage, True, *stage, True, *stage]
    for before, reduces in pairwise([False, *kinds]):
        channels *= 1 + reduces
        yield Place(older, newer, channels, reduces, before)
        older, newer = newer, PUT_OUT * channels


def _relu_conv(c_in: int, c_out: int) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch normalisation: `(b, c_in, h, w)` -> `(b, c_out, h, w)`."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


def _separable(channels: int, *, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1x1 convolution, batch normalisation; the side is divided by `stride` and rounded up."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _operation(name: str, channels: int, *, stride: int) -> nn.Module:
    """The module of an operation."""
    kind, size = name[:3], int(name[-1]) if name[-1].isdigit() else 0
    if kind == "max":
        return nn.MaxPool2d(size, stride, padding=1)
    if kind == "avg":
        return nn.AvgPool2d(size, stride, padding=1, count_include_pad=False)
    if kind == "ski":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if kind == "dil":
        return nn.Sequential(*_separable(channels, kernel=size, stride=stride, dilation=2))
    return nn.Sequential(*_separable(channels, kernel=size, stride=stride), *_separable(channels, kernel=size, stride=1))


class Cell(nn.Module):
    """A cell of six states: two inputs and four computed states, which are concatenated as the output."""

    def __init__(self, genotype: Genotype, place: Place) -> None:
        super().__init__()
        enter = FactorizedReduce if place.after_reduction else _relu_conv
        self.enter = nn.ModuleList([enter(place.older, place.channels), _relu_conv(place.newer, place.channels)])
        pairs = genotype.reduce if place.reduces else genotype.normal
        self.reads = [state for _, state in pairs]
        self.operations = nn.ModuleList(
            _operation(name, place.channels, stride=2 if place.reduces and state < 2 else 1) for name, state in pairs
        )

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """Outputs of the two cells before, the last one second -> `(b, 4 c, h, w)`."""
        states = [enter(x) for enter, x in zip(self.enter, (older, newer), strict=True)]
        results = (operation(states[state]) for operation, state in zip(self.operations, self.reads, strict=True))
        for one in results:  # a state is the sum of two results; the generator computes each when the states that it reads exist
            states.append(one + next(results))
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """The whole network; `channels` of a state in the first stage, `cells` normal cells in each stage.

    `stem_stride` divides the side of the image before the first cell.
    """

    def __init__(self, genotype: Genotype, *, channels: int, cells: int, num_classes: int, stem_stride: int = 1) -> None:
        super().__init__()
        stem = nn.Conv2d(3, STEM * channels, 3, stem_stride, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(STEM * channels))
        places = list(_places(channels=channels, cells=cells))
        self.cells = nn.ModuleList(Cell(genotype, place) for place in places)
        self.classifier = nn.Linear(PUT_OUT * places[-1].channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        older = newer = self.stem(images)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        logits: Tensor = self.classifier(newer.mean((2, 3)))
        return logits


def size(genotype: Genotype, *, num_classes: int, image_size: int, channels: int, cells: int) -> Size:
    """Size of `Network` if the output of its stem has side `image_size`; multiply-adds are those of convolutions and classifier."""
    params = 2 * STEM * channels  # normalisation in the stem
    convs = [(3 * 9 * STEM * channels, image_size)]  # (weights, side of the output)
    side = image_size
    for place in _places(channels=channels, cells=cells):
        c = place.channels
        convs += [((place.older + place.newer) * c, side)]
        params += 2 * 2 * c
        side = -(-side // 2) if place.reduces else side
        for name, state in genotype.reduce if place.reduces else genotype.normal:
            weights, norms = _operation_size(name, c, strided=place.reduces and state < 2)
            convs.append((weights, side))
            params += 2 * c * norms
    classifier = (PUT_OUT * c + 1) * num_classes
    return Size(
        params=params + classifier + sum(weights for weights, _ in convs),
        flops=classifier + sum(weights * side**2 for weights, side in convs),
    )


def _operation_size(name: str, channels: int, *, strided: bool) -> tuple[int, int]:
    """Weights of an operation's convolutions, and the number of its normalisations; all have outputs of the side of the result."""
    if name == "skip_connect":
        return (channels**2, 1) if strided else (0, 0)
    if "pool" in name:
        return 0, 0
    times = 2 if name.startswith("sep") else 1
    return times * (int(name[-1]) ** 2 * channels + channels**2), times
