"""Size of the parts of a network, in closed form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from diffnag.protocols import Size
from diffnag.search_spaces.own_model.network import CLASSIFIER, Depthwise, Elastic, Side, in_body


class Sizes:
    """Counts parameters and multiply-adds of any part of a network, as `diffnag.spaces.counting` measures them.

    The number of entries of a tensor is a constant times the numbers of channels at the sides of its layer.
    """

    def __init__(self, network: Elastic, pixels: Mapping[int, Mapping[str, int]]) -> None:
        """`pixels` says for each resolution how often the weights of each convolution and linear layer are used for an image."""
        parameters = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        sides: dict[tuple[str, Side], int] = {}
        """Layer and side -> its row in the arrays below. The first row stands for one channel, which is always there."""
        self._constants, self._rows = np.ones(len(parameters), np.int64), np.zeros((2, len(parameters)), np.int64)
        layers = [_owner(network, name) for name, _ in parameters]
        for number, (name, parameter) in enumerate(parameters):
            of_sides = _sides(network, name)
            for dim, width in enumerate(parameter.shape):
                if dim in of_sides:
                    self._rows[dim, number] = sides.setdefault((layers[number], of_sides[dim]), 1 + len(sides))
                else:
                    self._constants[number] *= width
        self._widths = np.array([1, *(network.width(*side) for side in sides)])
        self._positions = np.zeros((len(network.groups), 1 + len(sides)), np.int64)
        """Channels of a side that one channel of a group is."""
        for group, found in enumerate(network.groups):
            for place in found.places:
                self._positions[group, sides.get((place.layer, place.side), 0)] = place.positions.shape[1]
        self._positions[:, 0] = 0
        self._owned = np.array([[layer in map(in_body, block.owned) for layer in layers] for block in network.blocks]).reshape(-1, len(layers))
        self._pixels = {side: np.array([of_layer.get(layer, 0) for layer in layers]) for side, of_layer in pixels.items()}
        self._classes = sides[CLASSIFIER, "out"]

    def of(self, lost: np.ndarray, absent: np.ndarray, *, side: int, num_classes: int) -> Size:
        """Size of the part that has lost so many channels of each group `(groups,)` and, where `absent (blocks,)`, its blocks."""
        widths = self._widths - lost @ self._positions
        widths[self._classes] = num_classes
        counts = self._constants * widths[self._rows[0]] * widths[self._rows[1]]
        if absent.any():
            counts[self._owned[absent].any(0)] = 0
        return Size(params=int(counts.sum()), flops=int(counts @ self._pixels[side]))


def _sides(network: Elastic, name: str) -> dict[int, Side]:
    """The dimensions of a parameter that are channels, each with the side of the layer."""
    path, _, kind = name.rpartition(".")
    layer = network.get_submodule(path)
    found: dict[int, Side] = {}
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | Depthwise):
        found = {0: "out"}
    elif isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        found = {0: "out", 1: "in"} if kind == "weight" else {0: "out"}
    return found


def _owner(network: Elastic, name: str) -> str:
    """The layer of a parameter; the parameter itself if the network uses it without a layer."""
    path = name.rpartition(".")[0]
    return path if path == CLASSIFIER or any(in_body(str(node.target)) == path for node in network.body.graph.nodes) else name


@torch.no_grad()
def outputs(network: Elastic, side: int) -> tuple[dict[str, int], dict[str, int]]:
    """Pixels a side of the output of each layer, in the order in which they run, and how often its weights are used for an image."""
    sides: dict[str, int] = {}
    pixels: dict[str, int] = {}
    called = [in_body(str(node.target)) for node in network.body.graph.nodes if node.op == "call_module"]
    names = {network.get_submodule(name): name for name in (*called, CLASSIFIER)}

    def see(layer: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            sides[names[layer]] = output.shape[-1] if output.dim() == 4 else 1
            if isinstance(layer, nn.Conv2d | nn.Linear):
                pixels[names[layer]] = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1

    hooks = [layer.register_forward_hook(see) for layer in names]
    try:
        logits = network.eval()(torch.zeros(1, 3, side, side))
    finally:
        for hook in hooks:
            hook.remove()
    if logits.shape != (1, network.classifier.out_features):
        raise ValueError(f"it returns {tuple(logits.shape)} for one image, not one logit for each class")
    return sides, pixels
