"""The networks of TransNAS-Bench-101 (Duan et al., CVPR 2021), and their size in closed form.

From the paper and the benchmark's published code: the stem, two 3x3 convolutions of stride 2; modules of two cells (micro) or
two residual basic blocks (macro), whose first doubles the channels, halves the resolution, or both; layers in the order ReLU,
convolution, normalisation; He initialisation; pooling and a linear layer, the head of the benchmark's classification tasks and
of `room_layout`. The Siamese head of `jigsaw`, which sees 9 tiles at once, is left out: there is one linear layer here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.protocols import Size
from diffnag.search_spaces.shared.connection_cell_network import KERNELS, ConnectionCell
from diffnag.search_spaces.shared.connection_cells import CONNECTIONS
from diffnag.search_spaces.shared.layers import relu_conv


class Block(NamedTuple):
    """What one cell or residual block makes of its image."""

    c_in: int
    c_out: int
    stride: int


@dataclass(frozen=True)
class Plan:
    """All that a network is built from but its head: types of its modules, 1 to 4, each of so many `blocks`.

    `channels` are the stem's; `cell` names the operations of a micro cell, None stands for residual blocks.
    """

    modules: tuple[int, ...]
    channels: int
    blocks: int
    stem_stride: int
    cell: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.channels < 2 or self.blocks < 1 or self.stem_stride < 1:
            raise UserError(
                f"a network of TransNAS-Bench-101 has at least 2 channels, 1 cell a module and a stem of stride 1; "
                f"asked for are {self.channels}, {self.blocks} and {self.stem_stride}"
            )

    @property
    def stem_strides(self) -> tuple[int, int]:
        """Strides of the two convolutions of the stem; the second is 2 where that leaves the first a whole number."""
        second = 2 if self.stem_stride % 4 == 0 else 1
        return self.stem_stride // second, second

    def each(self) -> Iterator[Block]:
        """The cells or residual blocks, in their order."""
        width = self.channels
        for kind in self.modules:
            wide = width * (2 if kind in (2, 4) else 1)
            yield Block(width, wide, stride=2 if kind in (3, 4) else 1)
            yield from [Block(wide, wide, stride=1)] * (self.blocks - 1)
            width = wide

    @property
    def features(self) -> int:
        """Channels of the last module."""
        return self.channels * 2 ** sum(kind in (2, 4) for kind in self.modules)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, and the input on top, through a 1x1 convolution where the shape changes."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        c_in, c_out, stride = block
        self.convs = nn.Sequential(relu_conv(c_in, c_out, kernel=3, stride=stride), relu_conv(c_out, c_out, kernel=3))
        projection = [nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)]
        self.shortcut = nn.Sequential(*(projection if (stride, c_in) != (1, c_out) else []))

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`, rounded up."""
        out: Tensor = self.shortcut(x) + self.convs(x)
        return out


class Network(nn.Module):
    """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""

    def __init__(self, plan: Plan, *, num_classes: int) -> None:
        super().__init__()
        first, second = plan.stem_strides
        half = plan.channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, first, padding=1, bias=False), nn.BatchNorm2d(half),
            relu_conv(half, plan.channels, kernel=3, stride=second),
        )  # fmt: skip
        self.body = nn.Sequential(*(_module(block, plan.cell) for block in plan.each()))
        self.classifier = nn.Linear(plan.features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(self.stem(images)).mean((2, 3)))
        return logits


def _module(block: Block, cell: tuple[str, ...] | None) -> nn.Module:
    if cell is None:
        return ResidualBlock(block)
    return ConnectionCell(cell, c_in=block.c_in, c_out=block.c_out, stride=block.stride)


def _convolutions(block: Block, cell: tuple[str, ...] | None) -> Iterator[int]:
    """Weights of each layer of convolution and normalisation; all put out `c_out` channels of the block's own side."""
    c_in, c_out, stride = block
    changes = (stride, c_in) != (1, c_out)
    if cell is None:
        yield from (9 * c_in * c_out, 9 * c_out**2, *([c_in * c_out] if changes else []))
        return
    for name, (source, _) in zip(cell, CONNECTIONS, strict=True):
        if name in KERNELS:
            yield KERNELS[name] ** 2 * (c_in if source == 0 else c_out) * c_out
        elif name == "skip_connect" and source == 0 and changes:
            yield c_in * c_out


def size(plan: Plan, *, num_classes: int, image_size: int) -> Size:
    """Size of `Network` on square images, in closed form.

    Multiply-adds are those of convolutions, on dead branches too, and of the classifier with its bias.
    """
    params = flops = (plan.features + 1) * num_classes
    side, c_in = image_size, 3
    for c_out, stride in zip((plan.channels // 2, plan.channels), plan.stem_strides, strict=True):
        side, weights = -(-side // stride), 9 * c_in * c_out
        params, flops, c_in = params + weights + 2 * c_out, flops + weights * side**2, c_out
    for block in plan.each():
        side = -(-side // block.stride)
        for weights in _convolutions(block, plan.cell):
            params, flops = params + weights + 2 * block.c_out, flops + weights * side**2
    return Size(params=params, flops=flops)
