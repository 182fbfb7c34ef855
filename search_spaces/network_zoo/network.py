"""Networks of `network-zoo`: a module for each node, and the size of a network in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.protocols import Size
from diffnag.search_spaces.network_zoo.operators import TABLE, Operator
from diffnag.search_spaces.network_zoo.shapes import UNIT, Shape

COLOURS = 3
REDUCTION = 4
"""A gate computes its factors from a quarter of the channels."""
HEAD = 32
"""Channels of a head of attention, or the largest power of two below that divides the width."""
GROUPS = 32
"""Groups of a grouped convolution, or the largest power of two below that divides the width."""


class Network(nn.Module):
    """The network with operators `ops`, indices into the space's, in which each node reads the nodes `reads`; the last one is the output.

    `channels` is the width of the stem, a multiple of 16. Images are averaged over squares of `stem_stride` pixels a side at first.
    """

    def __init__(
        self, ops: Sequence[int], reads: Sequence[Sequence[int]], shapes: Sequence[Shape], *, channels: int, num_classes: int, stem_stride: int
    ) -> None:
        super().__init__()
        self.reads = [list(sources) for sources in reads]
        self.last_use = {source: node for node, sources in enumerate(self.reads) for source in sources}
        self.before = nn.AvgPool2d(stem_stride, ceil_mode=True) if stem_stride > 1 else nn.Identity()
        widths = _widths(shapes, channels)
        self.nodes = nn.ModuleList(
            _module(TABLE[op], widths[sources[0]], width)
            for op, sources, width in zip(ops[1:-1], self.reads[1:-1], widths[1:-1], strict=True)
        )
        self.classifier = nn.Linear(widths[self.reads[-1][0]], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        maps: dict[int, Tensor] = {0: self.before(images)}
        for node, module in enumerate(self.nodes, start=1):
            sources = self.reads[node]
            maps[node] = module(*[maps[source] for source in sources])
            for source in sources:
                if self.last_use[source] == node:
                    del maps[source]
        logits: Tensor = self.classifier(maps[self.reads[-1][0]].mean((2, 3)))
        return logits


def size(
    ops: Sequence[int], reads: Sequence[Sequence[int]], shapes: Sequence[Shape], *, channels: int, num_classes: int, image_size: int
) -> Size:
    """Size of `Network` for images whose side behind the stem's stride is `image_size`.

    Multiply-adds are those of convolutions and of linear layers with their biases, and not those between queries, keys and values.
    """
    widths = _widths(shapes, channels)
    params = flops = (widths[reads[-1][0]] + 1) * num_classes
    for node in range(1, len(ops) - 1):
        op, wide, out = TABLE[ops[node]], widths[reads[node][0]], widths[node]
        pixels = (-(-image_size // 2 ** shapes[node].halvings)) ** 2
        if op.kind in ("conv", "depthwise", "grouped"):
            weights = wide // _groups(op, wide) * out * op.kernel**2
            params, flops = params + weights + 2 * out, flops + weights * pixels
        elif op.kind in ("attention", "window"):
            params, flops = params + 4 * wide**2 + 2 * wide, flops + 4 * wide**2 * pixels
        elif op.kind == "gate":
            weights = 2 * wide * _reduced(wide) + wide + _reduced(wide)
            params, flops = params + weights, flops + weights
    return Size(params=params, flops=flops)


def _widths(shapes: Sequence[Shape], channels: int) -> list[int]:
    """Channels of each map."""
    return [shape.width * channels // UNIT or COLOURS for shape in shapes]


def _module(op: Operator, wide: int, out: int) -> nn.Module:
    """The module of a node that reads `wide` channels, or maps of as many each, and gives `out`."""
    if op.kind in ("conv", "depthwise", "grouped"):
        return Convolution(wide, out, op)
    if op.kind in ("attention", "window"):
        return Attention(wide, op.kernel if op.kind == "window" else 0)
    if op.kind == "gate":
        return Gate(wide)
    if op.kind == "maxpool":
        return nn.MaxPool2d(op.kernel, op.stride, op.kernel // 2)
    if op.kind == "avgpool":
        return nn.AvgPool2d(op.kernel, op.stride, 0 if op.stride > 1 else op.kernel // 2, ceil_mode=True)
    return Half(op.kind) if op.kind in ("first", "second") else Join(op)


def _groups(op: Operator, wide: int) -> int:
    """Groups of the channels of a convolution."""
    return {"conv": 1, "depthwise": wide, "grouped": math.gcd(wide, GROUPS)}[op.kind]


def _reduced(wide: int) -> int:
    """Channels inside a gate."""
    return max(1, wide // REDUCTION)


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation, and ReLU where the operator is active: sides are divided by the stride, rounded up."""

    def __init__(self, wide: int, out: int, op: Operator) -> None:
        super().__init__()
        self.patch = op.kernel if op.kernel == op.stride else 1
        padding = 0 if self.patch > 1 else op.kernel // 2
        self.conv = nn.Conv2d(wide, out, op.kernel, op.stride, padding, groups=_groups(op, wide), bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.active = op.active

    def forward(self, x: Tensor) -> Tensor:
        """`(b, wide, h, w)` -> `(b, out, h / stride, w / stride)`."""
        if self.patch > 1:
            x = _whole(x, self.patch)
        x = self.norm(self.conv(x))
        return functional.relu(x) if self.active else x


class Attention(nn.Module):
    """Batch normalisation, then attention of several heads between all pixels, or within windows of `window` pixels a side, and a projection."""

    def __init__(self, wide: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, wide // math.gcd(wide, HEAD)
        self.norm = nn.BatchNorm2d(wide)
        self.read = nn.Conv2d(wide, 3 * wide, 1, bias=False)
        self.write = nn.Conv2d(wide, wide, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` -> the same shape."""
        high, wide = x.shape[2:]
        read = self.read(self.norm(x))
        if self.window and max(high, wide) > self.window:
            read = _whole(read, self.window)
            windows = read.unflatten(3, (-1, self.window)).unflatten(2, (-1, self.window)).permute(0, 2, 4, 1, 3, 5)  # (b, rows, columns, c, h, w)
            mixed = self._mixed(windows.flatten(0, 2)).unflatten(0, (-1, *windows.shape[1:3]))
            made = mixed.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)[:, :, :high, :wide]
        else:
            made = self._mixed(read)
        written: Tensor = self.write(made)
        return written

    def _mixed(self, read: Tensor) -> Tensor:
        """Queries, keys and values `(b, 3 c, h, w)` -> `(b, c, h, w)`."""
        queries, keys, values = read.flatten(2).unflatten(1, (3, self.heads, -1)).transpose(3, 4).unbind(1)  # each (b, heads, h w, c / heads)
        made = functional.scaled_dot_product_attention(queries, keys, values)
        return made.transpose(2, 3).flatten(1, 2).unflatten(2, read.shape[2:])


class Gate(nn.Module):
    """Factors of the channels, computed from their means (squeeze and excitation, Hu et al., CVPR 2018)."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(wide, _reduced(wide), 1), nn.Conv2d(_reduced(wide), wide, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` -> the same shape."""
        return x * torch.sigmoid(self.expand(functional.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Half(nn.Module):
    """The first or the second half of the channels."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.place = ("first", "second").index(which)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` -> `(b, c / 2, h, w)`."""
        return x.chunk(2, 1)[self.place]


class Join(nn.Module):
    """Sum, with a ReLU behind it where the operator is active, product or concatenation of maps."""

    def __init__(self, op: Operator) -> None:
        super().__init__()
        self.kind, self.active = op.kind, op.active

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps `(b, c, h, w)` -> the same shape, or all channels for a concatenation."""
        if self.kind == "concat":
            return torch.cat(maps, 1)
        joined = maps[0]
        for other in maps[1:]:
            joined = joined + other if self.kind == "add" else joined * other
        return functional.relu(joined) if self.active else joined


def _whole(x: Tensor, step: int) -> Tensor:
    """The map with zeros at its right and lower border, so that its sides are multiples of `step`."""
    return functional.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
