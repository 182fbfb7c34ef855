"""MobileNetV3 of Once-for-All (Cai et al., ICLR 2020, section 4.1; blocks of Howard et al., ICCV 2019), and its size in closed form.

It has a convolution and a first block, five stages of inverted bottlenecks, a 1x1 expansion, pooling, a mixing layer and a classifier. As
in OFA's published super-networks there is no dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from diffnag.protocols import Size

Layers = Sequence[Sequence[tuple[int, int]]]
"""(kernel, expansion) of each layer of each stage."""

WIDTHS = (16, 16, 24, 40, 80, 112, 160, 960, 1280)
"""Channels at width 1.0: first convolution, first block, the five stages, final expansion, mixing layer."""
STRIDES = (2, 2, 2, 1, 2)
"""Stride of the first layer of each stage."""
SMALL_STRIDES = (1, 2, 1, 1, 2)
"""The same for networks on small images."""
SQUEEZE = (False, True, False, True, True)
"""Whether each stage has squeeze-and-excitation."""
HARD_SWISH = (False, False, True, True, True)
"""Whether each stage has hard swish instead of ReLU."""


def divisible(width: float) -> int:
    """The nearest multiple of 8 that is at least 8 and at least 9/10 of `width`."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


@dataclass(frozen=True)
class Shape:
    """Shape of a network around its layers."""

    widths: tuple[int, ...]
    """Channels, in the order of `WIDTHS`."""
    stem_stride: int
    """Stride of the first convolution."""
    strides: tuple[int, ...]
    """Stride of the first layer of each stage."""

    @classmethod
    def of_ofa(cls, channels: int, stem_stride: int) -> Shape:
        """OFA's shape with all widths in proportion to `channels`, the width of the first stage."""
        return cls(tuple(divisible(width * channels / WIDTHS[2]) for width in WIDTHS), stem_stride, STRIDES)

    @classmethod
    def small(cls, channels: int, *, stem_stride: int) -> Shape:
        """Shape for small images, in which fewer stages halve the map."""
        return cls(cls.of_ofa(channels, stem_stride).widths, stem_stride, SMALL_STRIDES)


@dataclass(frozen=True)
class Block:
    """An inverted bottleneck: 1x1 convolution to `expansion` times the channels (left out if that is 1), depthwise one, 1x1 back."""

    c_in: int
    c_out: int
    kernel: int
    expansion: int
    stride: int = 1
    squeeze: bool = False
    hard_swish: bool = False

    @property
    def middle(self) -> int:
        """Channels of the depthwise convolution; a multiple of 8, as `c_in` is one."""
        return self.c_in * self.expansion

    @property
    def squeezed(self) -> int:
        """Channels between the two layers of squeeze-and-excitation."""
        return divisible(self.middle // 4)


def _blocks(layers: Layers, shape: Shape) -> Iterator[Block]:
    """The first block, then those of the stages in order."""
    width = shape.widths[1]
    yield Block(shape.widths[0], width, kernel=3, expansion=1)
    for number, stage in enumerate(layers):
        for place, (kernel, expansion) in enumerate(stage):
            yield Block(
                width, shape.widths[2 + number], kernel, expansion, stride=1 if place else shape.strides[number],
                squeeze=SQUEEZE[number], hard_swish=HARD_SWISH[number],
            )  # fmt: skip
            width = shape.widths[2 + number]


def _conv(c_in: int, c_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, batch normalisation: `(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`, rounded up."""
    return [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out)]


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor that two layers compute from the means of all channels (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c, h, w)` -> `(b, c, h, w)`."""
        gate: Tensor = self.gate(x.mean((2, 3), keepdim=True))
        return x * gate


class InvertedBottleneck(nn.Module):
    """Module of a `Block`, with a shortcut if input and output have the same shape."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        activation = nn.Hardswish if block.hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if block.expansion > 1:
            layers += [*_conv(block.c_in, block.middle), activation()]
        layers += _conv(block.middle, block.middle, kernel=block.kernel, stride=block.stride, groups=block.middle)
        layers += [activation()]
        if block.squeeze:
            layers += [SqueezeExcitation(block.middle, block.squeezed)]
        self.layers = nn.Sequential(*layers, *_conv(block.middle, block.c_out))
        self.shortcut = block.stride == 1 and block.c_in == block.c_out

    def forward(self, x: Tensor) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`."""
        out: Tensor = self.layers(x)
        return x + out if self.shortcut else out


class Network(nn.Module):
    """The whole network."""

    def __init__(self, layers: Layers, shape: Shape, *, num_classes: int) -> None:
        super().__init__()
        first, *_, width, expanded, mixed = shape.widths
        self.stem = nn.Sequential(*_conv(3, first, kernel=3, stride=shape.stem_stride), nn.Hardswish())
        self.blocks = nn.Sequential(*map(InvertedBottleneck, _blocks(layers, shape)))
        self.expand = nn.Sequential(*_conv(width, expanded), nn.Hardswish())
        self.mix = nn.Sequential(nn.Conv2d(expanded, mixed, 1, bias=False), nn.Hardswish())
        self.classifier = nn.Linear(mixed, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        features = self.expand(self.blocks(self.stem(images)))
        logits: Tensor = self.classifier(self.mix(features.mean((2, 3), keepdim=True)).flatten(1))
        return logits


def size(layers: Layers, shape: Shape, *, num_classes: int, image_size: int) -> Size:
    """Size of `Network` for square images, in closed form; multiply-adds are those of convolutions and of the classifier with its bias."""
    first, *_, width, expanded, mixed = shape.widths
    side = -(-image_size // shape.stem_stride)
    params = flops = expanded * mixed + (mixed + 1) * num_classes  # mixing layer and classifier, on one pixel
    weights = 3 * 9 * first
    params, flops = params + weights + 2 * first, flops + weights * side**2
    for block in _blocks(layers, shape):
        expand = block.c_in * block.middle if block.expansion > 1 else 0
        back = block.middle * block.kernel**2 + block.middle * block.c_out  # depthwise and second 1x1 convolution, after the stride
        squeeze = (2 * block.middle + 1) * block.squeezed + block.middle if block.squeeze else 0
        normalised = (2 if expand else 1) * block.middle + block.c_out
        params += expand + back + squeeze + 2 * normalised
        flops += expand * side**2
        side = -(-side // block.stride)
        flops += back * side**2 + squeeze
    weights = width * expanded
    return Size(params=params + weights + 2 * expanded, flops=flops + weights * side**2)
