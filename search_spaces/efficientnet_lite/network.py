"""EfficientNet-Lite0 (Tan & Le, ICML 2019; without squeeze-and-excitation and with ReLU6, as published for TensorFlow Lite), made elastic.

One set of weights holds all members of the space. A member uses the first channels of each block's middle layer, the inner part of a
kernel, and leaves blocks out (Cai et al., ICLR 2020). `Network.forward` computes any member on the shared weights, and `extract` copies a
member out of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.protocols import Size

STEM, HEAD = 32, 1280
"""Channels of the first convolution and of the last one."""
COLOURS = 3
"""Channels of the images that the published network takes."""
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
"""Number of blocks, kernel, stride of the first block, expansion and channels of each stage."""
EPSILON, MOMENTUM = 1e-3, 0.01
"""Constants of batch normalisation that the published weights were trained with."""


@dataclass(frozen=True)
class Block:
    """An inverted bottleneck: 1x1 convolution to `middle` channels (left out if `expand` is false), depthwise one, 1x1 back."""

    c_in: int
    c_out: int
    middle: int
    kernel: int
    stride: int
    expand: bool = True

    @property
    def shortcut(self) -> bool:
        """Whether the input is added to the output. Such a block may be left out."""
        return self.stride == 1 and self.c_in == self.c_out


def full() -> tuple[Block, ...]:
    """The 16 blocks of EfficientNet-Lite0."""
    found: list[Block] = []
    width = STEM
    for repeats, kernel, stride, expansion, c_out in STAGES:
        for place in range(repeats):
            found.append(Block(width, c_out, width * expansion, kernel, 1 if place else stride, expansion > 1))
            width = c_out
    return tuple(found)


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """`x` with zeros around it, so that a convolution returns `ceil(side / stride)` pixels; an odd one goes after (TensorFlow's `SAME`)."""
    (top, bottom), (left, right) = (_pad(side, kernel, stride) for side in x.shape[-2:])
    return functional.pad(x, (left, right, top, bottom)) if top or bottom or left or right else x


def _pad(side: int, kernel: int, stride: int) -> tuple[int, int]:
    needed = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return needed // 2, needed - needed // 2


class ConvNorm(nn.Module):
    """Convolution without bias and batch normalisation, of which a part can be used."""

    def __init__(self, c_in: int, c_out: int, *, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        self.pads = stride > 1 and kernel > 1
        """Whether `_padded` pads, and not the convolution itself."""
        self.conv = nn.Conv2d(
            c_in, c_out, kernel, stride, padding=0 if self.pads else kernel // 2, groups=c_out if depthwise else 1, bias=False
        )
        self.norm = nn.BatchNorm2d(c_out, EPSILON, MOMENTUM)

    def forward(self, x: Tensor, channels: int | None = None, kernel: int | None = None) -> Tensor:
        """`(b, c, h, w)` -> `(b, channels, h / stride, w / stride)`, rounded up.

        As many input channels are used as `x` has, and the first `channels` and the inner `kernel` x `kernel` entries of the weights.
        """
        conv, norm = self.conv, self.norm
        weight = part_of(conv.weight, channels, x.shape[1], kernel)
        side, stride = weight.shape[-1], conv.stride[0]
        x = _padded(x, side, stride) if self.pads else x
        if weight.shape == conv.weight.shape:
            x = conv(x)  # by the module, so that what counts and exports modules sees it
        else:
            groups = 1 if conv.groups == 1 else len(weight)
            x = functional.conv2d(x, weight, stride=stride, padding=0 if self.pads else side // 2, groups=groups)
        count = len(weight)
        if count == len(norm.weight):
            normalised: Tensor = norm(x)
            return normalised
        assert norm.running_mean is not None and norm.running_var is not None
        mean, var = (None, None) if norm.training else (norm.running_mean[:count], norm.running_var[:count])
        return functional.batch_norm(x, mean, var, norm.weight[:count], norm.bias[:count], norm.training, 0.0, norm.eps)


def part_of(weight: Tensor, c_out: int | None, c_in: int, kernel: int | None) -> Tensor:
    """The first channels and the inner part of the kernel of a convolution's `weight (o, i, k, k)`."""
    weight = weight[:c_out, :c_in]
    margin = (weight.shape[-1] - (kernel or weight.shape[-1])) // 2
    return weight[:, :, margin : weight.shape[-1] - margin, margin : weight.shape[-1] - margin] if margin else weight


class InvertedBottleneck(nn.Module):
    """Module of a `Block`, of which a narrower part can be used."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        self.expand = ConvNorm(block.c_in, block.middle) if block.expand else None
        self.depthwise = ConvNorm(block.middle, block.middle, kernel=block.kernel, stride=block.stride, depthwise=True)
        self.project = ConvNorm(block.middle, block.c_out)

    def forward(self, x: Tensor, used: Block | None = None) -> Tensor:
        """`(b, c_in, h, w)` -> `(b, c_out, h / stride, w / stride)`, by the part that `used` describes."""
        used = used or self.block
        middle = x if self.expand is None else functional.relu6(self.expand(x, used.middle))
        middle = functional.relu6(self.depthwise(middle, used.middle, used.kernel))
        out: Tensor = self.project(middle)
        return x + out if used.shortcut else out


Member = Sequence[Block | None]
"""A part of each block of a network; None leaves the block out."""


class Network(nn.Module):
    """The network of some blocks: stem for images of so many `channels`, blocks, 1x1 convolution, mean over all pixels, linear classifier."""

    def __init__(self, blocks: Sequence[Block], *, num_classes: int, channels: int = COLOURS) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, STEM, kernel=3, stride=2)
        self.blocks = nn.ModuleList(map(InvertedBottleneck, blocks))
        self.head = ConvNorm(blocks[-1].c_out, HEAD)
        self.classifier = nn.Linear(HEAD, num_classes)

    def features(self, images: Tensor, member: Member | None = None) -> Tensor:
        """Images `(b, channels, h, w)` -> features `(b, HEAD)`."""
        x = functional.relu6(self.stem(images))
        for block, used in zip(self.blocks, member or [None] * len(self.blocks), strict=True):
            if member is None or used is not None:
                x = block(x, used)
        return functional.relu6(self.head(x)).mean((2, 3))

    def forward(self, images: Tensor, member: Member | None = None) -> Tensor:
        """Images `(b, channels, h, w)` -> logits `(b, num_classes)`, by the `member` or by all weights."""
        logits: Tensor = self.classifier(self.features(images, member))
        return logits


def extract(shared: Network, member: Member) -> Network:
    """A network of its own with copies of the weights that `member` uses of `shared`."""
    kept = [(block, used) for block, used in zip(shared.blocks, member, strict=True) if used is not None]
    with torch.device(shared.classifier.weight.device):
        made = Network([used for _, used in kept], num_classes=shared.classifier.out_features, channels=shared.stem.conv.in_channels)
    for name in ("stem", "head", "classifier"):
        getattr(made, name).load_state_dict(getattr(shared, name).state_dict())
    for mine, (block, used) in zip(made.blocks, kept, strict=True):
        for name in ("expand", "depthwise", "project"):
            part, whole = getattr(mine, name), getattr(block, name)
            if part is not None:
                _copy(part, whole, kernel=used.kernel if name == "depthwise" else None)
    return made.train(shared.training)


@torch.no_grad()
def _copy(part: ConvNorm, whole: ConvNorm, *, kernel: int | None) -> None:
    part.conv.weight.copy_(part_of(whole.conv.weight, part.conv.out_channels, part.conv.weight.shape[1], kernel))
    for name, tensor in part.norm.state_dict().items():
        value = whole.norm.state_dict()[name]
        tensor.copy_(value[: len(tensor)] if tensor.dim() else value)


@torch.no_grad()
def take_channels(network: Network, channels: int) -> None:
    """Change the stem of a network for colour images, so that it takes images of so many channels.

    The rule is that of timm (`adapt_input_conv`). For one channel the weights are summed over the colours: the network computes what it did on
    that channel as all three colours. For more, the channels in turn have the weights of red, green and blue, times 3 / channels.
    """
    before = network.stem.conv
    with torch.device(before.weight.device):
        after = ConvNorm(channels, STEM, kernel=3, stride=2).conv
    after.weight.copy_(for_channels(before.weight, channels))
    network.stem.conv = after


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """Weights `(o, 3, k, k)` of a convolution for colours as those for so many channels; see `take_channels`."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % COLOURS] * (COLOURS / channels)


@torch.no_grad()
def sort_channels(network: Network, images: Tensor) -> None:
    """Put the most important middle channels of each block first; the network computes what it did.

    The importance of a channel is the mean of its activation on `images (b, c, h, w)` times the sum of the absolute weights that read
    it. With half of the channels of each block it keeps more than the weights alone do (as in Once-for-All).
    """
    activity: dict[int, Tensor] = {}
    blocks = [block for block in network.blocks if isinstance(block, InvertedBottleneck)]

    def remember(k: int, given: tuple[Tensor, ...]) -> None:
        activity[k] = given[0].mean((0, 2, 3))

    hooks = [block.project.register_forward_pre_hook(lambda _, given, k=k: remember(k, given)) for k, block in enumerate(blocks)]
    network.eval().features(images)
    for hook in hooks:
        hook.remove()
    for k, block in enumerate(blocks):
        if block.expand is not None:
            order = (activity[k] * block.project.conv.weight.abs().sum((0, 2, 3))).argsort(descending=True)
            for part in (block.expand, block.depthwise):
                for tensor in part.state_dict().values():
                    if tensor.dim():
                        tensor.copy_(tensor[order])
            block.project.conv.weight.copy_(block.project.conv.weight[:, order])


def narrowed(block: Block, *, share: float, kernel: int) -> Block:
    """The part of a block with a share of its middle channels, a multiple of 8, and an inner kernel."""
    return replace(block, middle=max(8, round(block.middle * share / 8) * 8), kernel=kernel)


def size(blocks: Sequence[Block], *, num_classes: int, image_size: int, channels: int = COLOURS) -> Size:
    """Size of `Network` for square images, in closed form; multiply-adds are those of convolutions and of the classifier with its bias."""
    params = flops = 0
    for weights, c_out, side in _layers(blocks, image_size, channels):
        params += weights + 2 * c_out
        flops += weights * side**2
    return Size(params=params + (HEAD + 1) * num_classes, flops=flops + (HEAD + 1) * num_classes)


def _layers(blocks: Sequence[Block], image_size: int, channels: int) -> Iterator[tuple[int, int, int]]:
    """Weights, output channels and output side of each convolution."""
    side = -(-image_size // 2)
    yield 9 * channels * STEM, STEM, side
    for block in blocks:
        if block.expand:
            yield block.c_in * block.middle, block.middle, side
        side = -(-side // block.stride)
        yield block.kernel**2 * block.middle, block.middle, side
        yield block.middle * block.c_out, block.c_out, side
    yield blocks[-1].c_out * HEAD, HEAD, side
