"""Size of the parts of a network, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from diffnag.protocols import Size
from diffnag.search_spaces.own_model.network import CLASSIFIER, Elastic, Part, Side, in_body, tensors_at


@dataclass(frozen=True)
class _Tensor:
    """A parameter: its layer, its dimensions, and which of them are channels of a side of the layer."""

    layer: str
    shape: tuple[int, ...]
    sides: tuple[Side | None, ...]


class Sizes:
    """Counts parameters and multiply-adds of any part of a network, as `diffnag.spaces.counting` measures them."""

    def __init__(self, network: Elastic) -> None:
        self._blocks = [frozenset(map(in_body, block.owned)) for block in network.blocks]
        self._tensors = [_described(network, name) for name, parameter in network.named_parameters() if parameter.requires_grad]
        self._lost: dict[tuple[str, Side], list[tuple[int, int, int]]] = {}
        """Layer and side -> number, channels of the groups there, and positions of each channel."""
        for number, group in enumerate(network.groups):
            for place in group.places:
                self._lost.setdefault((place.layer, place.side), []).append((number, *place.positions.shape))

    def of(self, part: Part, *, pixels: dict[str, int], num_classes: int) -> Size:
        """Size of a part with a classifier of its own; `pixels` are those at which each layer with multiply-adds is applied."""
        params = flops = 0
        gone = [layers for number, layers in enumerate(self._blocks) if number in part.absent]
        for tensor in self._tensors:
            if any(tensor.layer in layers for layers in gone):
                continue
            count = math.prod(
                dim if side is None else dim - self._less(tensor.layer, side, part) for dim, side in zip(tensor.shape, tensor.sides, strict=True)
            )
            if tensor.layer == CLASSIFIER:
                count = count // tensor.shape[0] * num_classes
            params += count
            flops += count * pixels.get(tensor.layer, 0)
        return Size(params=params, flops=flops)

    def _less(self, layer: str, side: Side, part: Part) -> int:
        """The channels of a side of a layer that a part does not keep."""
        return sum(each * (channels - part.kept[number]) for number, channels, each in self._lost.get((layer, side), ()))


def _described(network: Elastic, name: str) -> _Tensor:
    path, _, kind = name.rpartition(".")
    layer, shape = network.get_submodule(path), tuple(network.get_parameter(name).shape)
    sides: list[Side | None] = [None] * len(shape)
    if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
        for side in ("out", "in"):
            if side == "out" or isinstance(layer, nn.Conv2d | nn.Linear):
                for other, dim in tensors_at(layer, side):
                    if other == kind:
                        sides[dim] = side
        return _Tensor(path, shape, tuple(sides))
    owner = path if not isinstance(layer, torch.fx.GraphModule) else name
    return _Tensor(owner, shape, tuple(sides))


@torch.no_grad()
def outputs(network: Elastic, side: int) -> tuple[dict[str, int], dict[str, int]]:
    """Pixels a side of the output of each layer, in the order in which they run, and how often its weights are used for an image."""
    sides: dict[str, int] = {}
    pixels: dict[str, int] = {}
    names = {layer: name for name, layer in network.named_modules() if not list(layer.children())}

    def see(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            sides[names[layer]] = output.shape[-1] if output.dim() == 4 else 1
            if isinstance(layer, nn.Conv2d | nn.Linear):
                pixels[names[layer]] = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1

    hooks = [layer.register_forward_hook(see) for layer in names]
    network.eval()(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return sides, pixels
