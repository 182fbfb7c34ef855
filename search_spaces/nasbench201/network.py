"""Network of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1), and its size in closed form.

It has a stem, three stages of equal cells with C, 2C and 4C channels and a residual block of stride 2 between them, pooling and a
classifier.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from diffnag.protocols import Size
from diffnag.search_spaces.nasbench201.operations import OPERATIONS
from diffnag.search_spaces.shared.connection_cell_network import KERNELS, ConnectionCell
from diffnag.search_spaces.shared.layers import relu_conv


class Cell(ConnectionCell):
    """The benchmark's cell, which keeps the shape of its input. `operations` are indices into `OPERATIONS`."""

    def __init__(self, operations: tuple[int, ...], *, channels: int) -> None:
        super().__init__([OPERATIONS[op] for op in operations], c_in=channels, c_out=channels)


class Reduction(nn.Module):
    """Residual block that doubles the channels and halves the map."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(relu_conv(c_in, c_out, kernel=3, stride=2), relu_conv(c_out, c_out, kernel=3))
        pooling = nn.AvgPool2d(2, ceil_mode=True)  # an odd side is rounded up, as in the convolution
        self.shortcut = nn.Sequential(pooling, nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / 2, w / 2)`, rounded up."""
        return self.shortcut(x) + self.convs(x)


class PooledReduction(nn.Sequential):
    """Reduction that doubles the channels and halves the map with few weights, so that the cells do most of the work."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


class Network(nn.Module):
    """The whole network.

    Args:
        operations: Operations of the cell, indices into `OPERATIONS`.
        channels: Channels of the first stage.
        cells: Cells in each stage.
        num_classes: Number of logits.
        stem_stride: Divides the side of the image before the first cell.
        small: Whether reductions are pooled. Residual blocks would do most of the work in a network of few cells.
    """

    def __init__(
        self, operations: tuple[int, ...], *, channels: int, cells: int, num_classes: int, stem_stride: int = 1, small: bool = False
    ) -> None:
        super().__init__()
        widths = (channels, 2 * channels, 4 * channels)
        stem = nn.Conv2d(3, channels, 3, stem_stride, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(channels))
        self.body = nn.Sequential(*_cells(operations, channels=channels, cells=cells))
        for narrow, wide in pairwise(widths):
            self.body.append(PooledReduction(narrow, wide) if small else Reduction(narrow, wide))
            self.body.extend(_cells(operations, channels=wide, cells=cells))
        self.last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        features = self.last(self.body(self.stem(images)))
        return self.classifier(features.mean((2, 3)))


def _cells(operations: tuple[int, ...], *, channels: int, cells: int) -> list[nn.Module]:
    """The cells of one stage."""
    return [Cell(operations, channels=channels) for _ in range(cells)]


def size(operations: tuple[int, ...], *, num_classes: int, image_size: int = 32, channels: int = 16, cells: int = 5) -> Size:
    """Size of `Network` for square images, in closed form.

    As in the benchmark's own figures, multiply-adds are those of convolutions and of the classifier with its bias.
    """
    names = [OPERATIONS[op] for op in operations]
    kernels = [KERNELS[name] ** 2 for name in names if name in KERNELS]
    params = flops = (4 * channels + 1) * num_classes  # the classifier
    params += 2 * channels + 2 * 4 * channels  # normalisation in the stem and before the classifier
    convs = [(3 * 9 * channels, image_size)]  # (weights, side of the output) of stem, cells of a stage, and reductions
    for stage in range(3):
        width, side = channels << stage, _halved(image_size, stage)
        convs.append((cells * sum(kernels) * width**2, side))
        params += cells * len(kernels) * 2 * width
        if stage < 2:  # two 3x3 convolutions and the 1x1 of the shortcut, to twice the width
            convs.append(((9 * 2 + 9 * 4 + 2) * width**2, _halved(side)))
            params += 2 * 2 * (2 * width)
    return Size(
        params=params + sum(weights for weights, _ in convs),
        flops=flops + sum(weights * side**2 for weights, side in convs),
    )


def _halved(side: int, times: int = 1) -> int:
    """`side` halved so many `times`, rounded up each time."""
    return -(-side // 2**times)
