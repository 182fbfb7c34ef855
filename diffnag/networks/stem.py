"""Makes a network for colour images take arrays of any number of channels, and signals, which are images of one row."""

from __future__ import annotations

import torch
from torch import nn

from diffnag.errors import UserError

COLOURS = 3


def take_inputs(network: nn.Module, inputs: tuple[int, int, int]) -> nn.Module:
    """Change a network for images `(b, 3, h, w)` to one for `inputs`, channels, height and width; returns it.

    Its first convolution of three channels is drawn anew, from torch's global generator, with as many channels as are needed. Its stride
    divides the longer side, and the shorter one in proportion. Its kernel becomes wide enough for every pixel to be seen.
    For a height of 1 all convolutions keep the middle row of their kernels: the others would only meet zeros. Raises `UserError` if
    there is no convolution of three channels.
    """
    channels, height, width = inputs
    name, stem = first_convolution(network)
    stride, kernel = max(_pair(stem.stride)), max(_pair(stem.kernel_size))
    strides = [max(1, round(stride * side / max(height, width))) for side in (height, width)]
    if channels != COLOURS or stride > kernel or strides != [stride, stride]:
        kernels = [max(kernel, 2 * step - 1) for step in strides]
        padding = (kernels[0] // 2, kernels[1] // 2)
        drawn = nn.Conv2d(channels, stem.out_channels, (kernels[0], kernels[1]), (strides[0], strides[1]), padding, bias=stem.bias is not None)
        network.set_submodule(name, drawn.to(stem.weight.device))
    if height == 1:
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
                _flatten(module)
    return network


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Name and module of the first convolution that takes three channels; raises `UserError` if there is none."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == COLOURS and module.groups == 1 and name:
            return name, module
    raise UserError(f"a {type(network).__name__} has no convolution of {COLOURS} channels, which arrays of other channels or shapes need as its stem")


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


@torch.no_grad()
def _flatten(conv: nn.Conv2d) -> None:
    """Keep the middle row of a convolution whose padding is half of its kernel."""
    rows, columns = conv.kernel_size
    spread = conv.dilation[0] * (rows // 2)
    if isinstance(conv.padding, str) or conv.padding[0] != spread or rows % 2 == 0:
        return
    middle = rows // 2
    conv.weight = nn.Parameter(conv.weight[:, :, middle : middle + 1].clone())
    conv.kernel_size, conv.padding = (1, columns), (0, conv.padding[1])
    conv._reversed_padding_repeated_twice = [conv.padding[1], conv.padding[1], 0, 0]
