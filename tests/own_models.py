"""A user's own models, written as anyone would: plain torch modules of the usual kinds, and some that cannot be taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.protocols import Inherits
from diffnag.search_spaces.own_model.space import OwnModelSpace
from diffnag.spaces.loading import load_space


def space_of(name: str) -> OwnModelSpace:
    space = load_space(f"own-model:tests.own_models:{name}")
    assert isinstance(space, OwnModelSpace) and isinstance(space, Inherits)
    return space


class BasicBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """ResNet-18 with `width` 64 and two blocks a stage; `small` has the stem for small images."""

    def __init__(self, width: int = 64, depths: Sequence[int] = (2, 2, 2, 2), num_classes: int = 10, small: bool = False) -> None:
        super().__init__()
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        blocks, c_in = [], width
        for stage, depth in enumerate(depths):
            c_out = width * 2**stage
            for place in range(depth):
                blocks.append(BasicBlock(c_in, c_out, 2 if stage and not place else 1))
                c_in = c_out
        self.layers = nn.Sequential(*blocks)
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = functional.adaptive_avg_pool2d(self.layers(x), 1)
        return self.fc(torch.flatten(x, 1))


class SqueezeExcite(nn.Module):
    """As in MobileNetV3: the gate is sigmoid or hard sigmoid, which is not 0 at 0."""

    def __init__(self, channels: int, squeezed: int, hard: bool) -> None:
        super().__init__()
        self.reduce, self.expand, self.hard = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1), hard

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        gate = self.expand(functional.relu(self.reduce(gate)) if self.hard else functional.silu(self.reduce(gate)))
        return x * (functional.hardsigmoid(gate) if self.hard else gate.sigmoid())


class MBConv(nn.Module):
    def __init__(self, c_in: int, middle: int, c_out: int, kernel: int, stride: int, act: type[nn.Module], squeezed: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if middle != c_in:
            layers += [nn.Conv2d(c_in, middle, 1, bias=False), nn.BatchNorm2d(middle), act()]
        layers += [nn.Conv2d(middle, middle, kernel, stride, kernel // 2, groups=middle, bias=False), nn.BatchNorm2d(middle), act()]
        if squeezed:
            layers.append(SqueezeExcite(middle, squeezed, hard=act is nn.Hardswish))
        layers += [nn.Conv2d(middle, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.conv, self.shortcut = nn.Sequential(*layers), stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


def stem(width: int, act: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), act())


def head(c_in: int, c_out: int, act: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), act())


class Inverted(nn.Module):
    """Stem, inverted bottlenecks, a 1x1 convolution, and a classifier of one or two linear layers."""

    def __init__(self, first: int, blocks: Sequence[MBConv], last: nn.Sequential, classifier: nn.Module, act: type[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(stem(first, act), *blocks, last)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(nn.functional.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], -1))


def mobilenet_v2(share: float = 1.0, num_classes: int = 10) -> nn.Module:
    """MobileNetV2: expansion, channels, repeats and stride of each stage."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    blocks, c_in = [], int(32 * share)
    first = c_in
    for expansion, channels, repeats, stride in stages:
        for place in range(repeats):
            c_out = int(channels * share)
            blocks.append(MBConv(c_in, c_in * expansion, c_out, 3, 1 if place else stride, nn.ReLU6))
            c_in = c_out
    wide = int(1280 * share)
    return Inverted(first, blocks, head(c_in, wide, nn.ReLU6), nn.Sequential(nn.Dropout(0.2), nn.Linear(wide, num_classes)), nn.ReLU6)


def mobilenet_v3(share: float = 1.0, num_classes: int = 10) -> nn.Module:
    """MobileNetV3-Small: kernel, middle and output channels, squeeze-and-excitation, activation, stride of each block."""
    table = (
        (3, 16, 16, True, nn.ReLU, 2), (3, 72, 24, False, nn.ReLU, 2), (3, 88, 24, False, nn.ReLU, 1), (5, 96, 40, True, nn.Hardswish, 2),
        (5, 240, 40, True, nn.Hardswish, 1), (5, 240, 40, True, nn.Hardswish, 1), (5, 120, 48, True, nn.Hardswish, 1),
        (5, 144, 48, True, nn.Hardswish, 1), (5, 288, 96, True, nn.Hardswish, 2), (5, 576, 96, True, nn.Hardswish, 1),
        (5, 576, 96, True, nn.Hardswish, 1),
    )  # fmt: skip
    blocks, c_in = [], int(16 * share)
    for kernel, middle, c_out, squeeze, act, stride in table:
        mid, out = int(middle * share), int(c_out * share)
        blocks.append(MBConv(c_in, mid, out, kernel, stride, act, squeezed=max(4, mid // 4) if squeeze else 0))
        c_in = out
    wide, hidden = int(576 * share), int(1024 * share)
    classifier = nn.Sequential(nn.Linear(wide, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, num_classes))
    return Inverted(int(16 * share), blocks, head(c_in, wide, nn.Hardswish), classifier, nn.Hardswish)


def efficientnet(share: float = 1.0, num_classes: int = 10) -> nn.Module:
    """EfficientNet-B0: repeats, kernel, stride, expansion and channels of each stage."""
    stages = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
    blocks, c_in = [], int(32 * share)
    first = c_in
    for repeats, kernel, stride, expansion, channels in stages:
        for place in range(repeats):
            c_out = int(channels * share)
            blocks.append(MBConv(c_in, c_in * expansion, c_out, kernel, 1 if place else stride, nn.SiLU, squeezed=max(2, c_in // 4)))
            c_in = c_out
    wide = int(1280 * share)
    return Inverted(first, blocks, head(c_in, wide, nn.SiLU), nn.Linear(wide, num_classes), nn.SiLU)


# -- small ones that a search can use at once


def small(model: nn.Module, side: int = 64) -> nn.Module:
    """A model with normalisations as after a training, which states the size of its images."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in ((norm.running_mean, -0.1, 0.1), (norm.running_var, 0.7, 1.4), (norm.weight, 0.7, 1.4), (norm.bias, -1, 1)):
                nn.init.uniform_(tensor, low, high, generator=generator)
    model.pretrained_cfg = {"input_size": (3, side, side), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return model


def resnet() -> nn.Module:
    return small(ResNet(8))


def small_v2() -> nn.Module:
    return small(mobilenet_v2(0.25))


def small_v3() -> nn.Module:
    return small(mobilenet_v3(0.25))


def small_efficientnet() -> nn.Module:
    return small(efficientnet(0.25))


def tiny() -> nn.Module:
    return small(ResNet(8, (2, 1), num_classes=7, small=True), side=16)


def trained_tiny() -> nn.Module:
    """A model whose function loads its weights, as functions of packages do."""
    torch.manual_seed(3)
    return tiny()


class Concatenated(nn.Module):
    """Two convolutions side by side, and a linear layer that reads flattened maps: images of one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 8, 3, 2, 1)
        self.norm, self.hidden, self.last = nn.BatchNorm2d(12), nn.Linear(12 * 8 * 8, 16), nn.Linear(16, 5)
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.one(x), self.two(x)], 1)
        return self.last(self.hidden(self.norm(x).relu().flatten(1)).relu())


# -- some that cannot be taken


class DependsOnItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) if x.sum() > 0 else -self.conv(x)
        return self.fc(x.mean((2, 3)))


class LinearOnly(nn.Module):
    """A network with nothing to remove."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class Probabilities(LinearOnly):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.conv(self.stem(x))).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 2)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.two(self.one(self.stem(x))).mean((2, 3)))


class States(nn.Module):
    """A network that states how many channels it has, so that none of them can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 1, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(x.shape[0], 8, -1).mean(2).view(-1, 8))


def one_channel() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def oddly_configured() -> nn.Module:
    model = tiny()
    model.pretrained_cfg = {"input_size": (3, 16, 24)}
    return model


def needs_an_argument(width: int) -> nn.Module:
    return ResNet(width)


def no_module() -> str:
    return "a network"


NUMBER = 3
