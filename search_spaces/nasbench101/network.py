"""Network of NAS-Bench-101 (Ying et al., ICML 2019, section 2.2), and its size in closed form.

It has a stem, three stacks of equal cells with C, 2C and 4C channels and a max pooling of stride 2 between them, pooling and a
classifier. In a cell, the inputs of a vertex are summed and those of the output are concatenated. Wherever the cell's input is read, it
passes through a 1x1 convolution (a projection).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.protocols import Size
from diffnag.search_spaces.nasbench101.graphs import Edge

KERNELS = {"conv3x3-bn-relu": 3, "conv1x1-bn-relu": 1}
"""Convolution -> kernel size."""
STACKS = 3


def _conv(c_in: int, c_out: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU: `(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`.

    The benchmark's running averages have momentum 0.997, for some 40,000 steps. Torch's default also works for short trainings.
    """
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


def vertex_channels(c_out: int, vertices: int, edges: Sequence[Edge]) -> list[int]:
    """Channels of each vertex: `[0, c_1, ..., c_out]`; the 0 stands for the input, whose channels are not needed.

    The vertices that the output reads share its channels equally; if that is not possible the first ones have one more. Each other vertex
    has as many channels as the widest vertex that reads it. Raises `UserError` if `c_out` is smaller than the number of vertices that the
    output reads.
    """
    last = vertices - 1
    ends = [i for i, j in edges if j == last and i]
    if len(ends) > c_out:
        raise UserError(f"a cell whose output concatenates {len(ends)} vertices needs at least {len(ends)} channels, not {c_out}")
    channels = [0] * last + [c_out]
    for k, vertex in enumerate(ends):
        channels[vertex] = c_out // len(ends) + (k < c_out % len(ends))
    for vertex in range(last - 1, 0, -1):
        if vertex not in ends:
            channels[vertex] = max(channels[j] for i, j in edges if i == vertex)
    return channels


def _convs(names: Sequence[str], edges: Sequence[Edge], *, c_in: int, c_out: int) -> Iterator[tuple[str, int, int, int]]:
    """Name, input channels, output channels and kernel size of every convolution in a cell."""
    channels = vertex_channels(c_out, len(names) + 2, edges)
    for vertex in [j for i, j in edges if i == 0]:
        yield f"projection{vertex}", c_in, channels[vertex], 1
    for vertex, name in enumerate(names, start=1):
        if name in KERNELS:
            yield f"vertex{vertex}", channels[vertex], channels[vertex], KERNELS[name]


class Cell(nn.Module):
    """A cell with the operations `names` of its interior vertices."""

    def __init__(self, names: Sequence[str], edges: Sequence[Edge], *, c_in: int, c_out: int) -> None:
        super().__init__()
        self.last = len(names) + 1
        self.sources = [[i for i, j in edges if j == vertex] for vertex in range(self.last + 1)]
        self.channels = vertex_channels(c_out, self.last + 1, edges)
        self.convs = nn.ModuleDict({
            name: _conv(wide, out, kernel=kernel) for name, wide, out, kernel in _convs(names, edges, c_in=c_in, c_out=c_out)
        })
        self.pool = nn.MaxPool2d(3, 1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h, w)`."""
        values = [x]
        for vertex in range(1, self.last):
            total = self._sum(vertex, [values[source][:, : self.channels[vertex]] for source in self.sources[vertex] if source], x)
            name = f"vertex{vertex}"
            values.append(self.convs[name](total) if name in self.convs else self.pool(total))
        parts = [values[source] for source in self.sources[self.last] if source]
        return self._sum(self.last, [torch.cat(parts, dim=1)] if parts else [], x)

    def _sum(self, vertex: int, terms: list[Tensor], x: Tensor) -> Tensor:
        """The sum of the terms and, if the vertex reads the cell's input `x`, of its projection."""
        if 0 in self.sources[vertex]:
            terms = [*terms, self.convs[f"projection{vertex}"](x)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


class Network(nn.Module):
    """The whole network; `channels` of the first stack, `cells` in each stack.

    `stem_stride` divides the side of the image before the first cell.
    """

    def __init__(
        self, names: Sequence[str], edges: Sequence[Edge], *, channels: int, cells: int, num_classes: int, stem_stride: int = 1
    ) -> None:
        super().__init__()
        self.stem = _conv(3, channels, kernel=3, stride=stem_stride)
        self.body = nn.Sequential()
        for stack, c_in, c_out in _cells(channels, cells):
            if stack and c_in != c_out:
                self.body.append(nn.MaxPool2d(2, ceil_mode=True))  # an odd side is rounded up, as by the benchmark's padding
            self.body.append(Cell(names, edges, c_in=c_in, c_out=c_out))
        self.classifier = nn.Linear(channels << STACKS - 1, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        return self.classifier(self.body(self.stem(images)).mean((2, 3)))


def _cells(channels: int, cells: int) -> Iterator[tuple[int, int, int]]:
    """Stack, input channels and output channels of each cell; the first cell of a later stack doubles the channels."""
    for stack in range(STACKS):
        for k in range(cells):
            wide = channels << stack
            yield stack, wide // 2 if stack and k == 0 else wide, wide


def size(
    names: Sequence[str], edges: Sequence[Edge], *, num_classes: int, image_size: int = 32, channels: int = 128, cells: int = 3
) -> Size:
    """Size of `Network` for images whose side after the stem is `image_size`, in closed form.

    Multiply-adds are those of convolutions and of the classifier with its bias.
    """
    params = flops = ((channels << STACKS - 1) + 1) * num_classes  # the classifier
    convs = [(3, channels, 3, image_size)]
    for stack, c_in, c_out in _cells(channels, cells):
        side = -(-image_size // 2**stack)
        convs += [(wide, out, kernel, side) for _, wide, out, kernel in _convs(names, edges, c_in=c_in, c_out=c_out)]
    for wide, out, kernel, side in convs:
        weights = wide * out * kernel**2
        params += weights + 2 * out  # weights, and two numbers for each normalised channel
        flops += weights * side**2
    return Size(params=params, flops=flops)
