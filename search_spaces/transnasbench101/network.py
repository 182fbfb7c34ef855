"""Networks of TransNAS-Bench-101 (Duan et al., CVPR 2021), and their size in closed form.

They follow the paper and the benchmark's published code. The stem is two 3x3 convolutions of stride 2. Modules consist of two cells
(micro) or two residual basic blocks (macro); the first of them can double the channels, halve the resolution, or both. Layers are in the
order ReLU, convolution, normalisation, with He initialisation. Pooling and a linear layer are the head of the benchmark's classification
tasks and of `room_layout`. The Siamese head of `jigsaw`, which sees 9 tiles at once, is left out: that task has a linear layer here, too.
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
    """Shape of one cell or residual block: channels in and out, and the stride by which it divides the side."""

    c_in: int
    c_out: int
    stride: int


@dataclass(frozen=True)
class Plan:
    """Plan of a network without its head. Raises `UserError` for sizes that cannot be built."""

    modules: tuple[int, ...]
    """Types of the modules, 1 to 4: keep the shape, double the channels, halve the resolution, or both."""
    channels: int
    """Channels of the stem's output."""
    blocks: int
    """Cells or residual blocks in each module."""
    stem_stride: int
    """Divides the side of the image before the first module."""
    cell: tuple[str, ...] | None = None
    """Names of the operations of a micro cell; None means residual blocks."""

    def __post_init__(self) -> None:
        if self.channels < 2 or self.blocks < 1 or self.stem_stride < 1:
            raise UserError(
                f"a network of TransNAS-Bench-101 needs at least 2 channels, 1 cell in each module and a stem of stride 1; "
                f"given are {self.channels}, {self.blocks} and {self.stem_stride}"
            )

    @property
    def stem_strides(self) -> tuple[int, int]:
        """Strides of the stem's two convolutions; the second is 2 if `stem_stride` is a multiple of 4, else 1."""
        second = 2 if self.stem_stride % 4 == 0 else 1
        return self.stem_stride // second, second

    def each(self) -> Iterator[Block]:
        """Shapes of the cells or residual blocks in order."""
        width = self.channels
        for kind in self.modules:
            wide = width * (2 if kind in (2, 4) else 1)
            yield Block(width, wide, stride=2 if kind in (3, 4) else 1)
            yield from [Block(wide, wide, stride=1)] * (self.blocks - 1)
            width = wide

    @property
    def features(self) -> int:
        """Channels of the last module's output."""
        return self.channels * 2 ** sum(kind in (2, 4) for kind in self.modules)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, plus the input, which passes through a 1x1 convolution if the shape changes."""

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
    """The whole network."""

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
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        logits: Tensor = self.classifier(self.body(self.stem(images)).mean((2, 3)))
        return logits


def _module(block: Block, cell: tuple[str, ...] | None) -> nn.Module:
    """The cell or residual block of this shape."""
    if cell is None:
        return ResidualBlock(block)
    return ConnectionCell(cell, c_in=block.c_in, c_out=block.c_out, stride=block.stride)


def _convolutions(block: Block, cell: tuple[str, ...] | None) -> Iterator[int]:
    """Number of weights of each convolution with normalisation; all outputs have `c_out` channels and the block's output side."""
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
    """Size of `Network` for square images, in closed form.

    Multiply-adds are those of convolutions, also in dead branches, and of the classifier with its bias.
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
