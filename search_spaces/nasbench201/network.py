"""The network of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1), and its size without building it.

Stem, three stages of equal cells at C, 2C and 4C channels with a residual block of stride 2 between them, pooling,
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
    """The benchmark's cell, which keeps channels and side of its image."""

    def __init__(self, operations: tuple[int, ...], *, channels: int) -> None:
        super().__init__([OPERATIONS[op] for op in operations], c_in=channels, c_out=channels)


class Reduction(nn.Module):
    """Residual block that doubles the channels and halves the image."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(relu_conv(c_in, c_out, kernel=3, stride=2), relu_conv(c_out, c_out, kernel=3))
        pooling = nn.AvgPool2d(2, ceil_mode=True)  # an odd side is rounded up, as the convolution does
        self.shortcut = nn.Sequential(pooling, nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / 2, w / 2)`."""
        return self.shortcut(x) + self.convs(x)


class PooledReduction(nn.Sequential):
    """Doubles the channels and halves the image with next to no weights: what there is to learn is left to the cells."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


class Network(nn.Module):
    """Images `(b, 3, h, w)` -> logits `(b, num_classes)`.

    `stem_stride` divides the image's side before the first cell; `small` has pooled reductions in place of residual
    blocks, which would do most of the work of a network of few cells.
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
        features = self.last(self.body(self.stem(images)))
        return self.classifier(features.mean((2, 3)))


def _cells(operations: tuple[int, ...], *, channels: int, cells: int) -> list[nn.Module]:
    return [Cell(operations, channels=channels) for _ in range(cells)]


def size(operations: tuple[int, ...], *, num_classes: int, image_size: int = 32, channels: int = 16, cells: int = 5) -> Size:
    """Size of `Network` on square images, in closed form.

    As in the benchmark's own figures, multiply-adds are those of convolutions and of the classifier with its bias.
    """
    names = [OPERATIONS[op] for op in operations]
    kernels = [KERNELS[name] ** 2 for name in names if name in KERNELS]
    params = flops = (4 * channels + 1) * num_classes  # the classifier
    params += 2 * channels + 2 * 4 * channels  # normalisation: of the stem, and the last
    convs = [(3 * 9 * channels, image_size)]  # (weights, image side) of the stem, the cells of a stage, a reduction
    for stage in range(3):
        width, side = channels << stage, _halved(image_size, stage)
        convs.append((cells * sum(kernels) * width**2, side))
        params += cells * len(kernels) * 2 * width
        if stage < 2:  # two 3x3 and the 1x1 of the shortcut, into twice the width
            convs.append(((9 * 2 + 9 * 4 + 2) * width**2, _halved(side)))
            params += 2 * 2 * (2 * width)
    return Size(
        params=params + sum(weights for weights, _ in convs),
        flops=flops + sum(weights * side**2 for weights, side in convs),
    )


def _halved(side: int, times: int = 1) -> int:
    """Rounded up each time."""
    return -(-side // 2**times)
