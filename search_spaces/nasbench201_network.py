"""The network of NAS-Bench-201 (Dong & Yang, ICLR 2020, section 2.1), and its size without building it.

Stem, three stages of equal cells at C, 2C and 4C channels with a residual block of stride 2 between them, pooling,
classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.protocols import Size
from search_spaces.nasbench201 import CONNECTIONS, OPERATIONS

KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


def _conv(c_in: int, c_out: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution without bias, batch normalisation: `(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
    )


class Cell(nn.Module):
    """Four feature maps of one shape; each is the sum of what its incoming connections make of earlier ones."""

    def __init__(self, operations: tuple[int, ...], *, channels: int) -> None:
        super().__init__()
        self.names = [OPERATIONS[op] for op in operations]
        self.live = _live(self.names)
        self.convs = nn.ModuleDict({
            str(i): _conv(channels, channels, kernel=KERNELS[name]) for i, name in enumerate(self.names) if name in KERNELS
        })

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` -> `(b, c, h, w)`."""
        maps = [x, *(torch.zeros_like(x) for _ in range(3))]
        for i, (name, (source, target)) in enumerate(zip(self.names, CONNECTIONS, strict=True)):
            if i not in self.live:
                continue
            if name in KERNELS:
                maps[target] = maps[target] + self.convs[str(i)](maps[source])
            elif name == "avg_pool_3x3":
                pooled = functional.avg_pool2d(maps[source], 3, stride=1, padding=1, count_include_pad=False)
                maps[target] = maps[target] + pooled
            else:
                maps[target] = maps[target] + maps[source]
        return maps[-1]


def _live(names: Sequence[str]) -> frozenset[int]:
    """The connections on a path from the cell's input to its output: the others have parameters but nothing to say."""
    open_ = [(i, *ends) for i, (name, ends) in enumerate(zip(names, CONNECTIONS, strict=True)) if name != "none"]
    reached, reaching = {0}, {3}
    for _, source, target in sorted(open_, key=lambda edge: edge[2]):
        reached |= {target} if source in reached else set()
    for _, source, target in sorted(open_, key=lambda edge: -edge[1]):
        reaching |= {source} if target in reaching else set()
    return frozenset(i for i, source, target in open_ if source in reached and target in reaching)


class Reduction(nn.Module):
    """Residual block that doubles the channels and halves the image."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_conv(c_in, c_out, kernel=3, stride=2), _conv(c_out, c_out, kernel=3))
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
