"""A user's convolutional network made elastic: all parts of it use one set of weights.

The network is traced by torch.fx. A part keeps the first channels of each group of channels that depend on each other, and leaves residual
blocks out. It is computed on the shared weights by slices of them, so that it equals the network that `extract` makes of these slices.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional

Side = Literal["out", "in"]
"""The output or input channels of a layer."""
CLASSIFIER = "classifier"
"""Name of the linear layer behind the features."""


@dataclass(frozen=True, eq=False)
class Place:
    """The channels of a group at one side of a layer: `positions (channels, r)`, where `r` above 1 stands for flattened pixels."""

    layer: str
    side: Side
    positions: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that can only be removed together, with all places where they are written or read."""

    places: tuple[Place, ...]

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return len(self.places[0].positions)

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers."""
        return frozenset(place.layer for place in self.places)


@dataclass(frozen=True)
class Block:
    """A residual block by names of nodes of the traced graph: the sum `total` becomes its operand `shortcut` where the block is left out."""

    total: str
    shortcut: str
    owned: frozenset[str]
    """Names of layers and parameters that only this block uses."""


@dataclass(frozen=True)
class Part:
    """The number of first channels that are kept of each group, and the numbers of the blocks that are left out."""

    kept: tuple[int, ...]
    absent: frozenset[int] = frozenset()


class Depthwise:
    """Makes a depthwise convolution one that has as many groups as its weights have channels, so that some channels can be used."""

    weight: Tensor

    @property
    def groups(self) -> int:
        """Number of channels."""
        return len(self.weight)


def as_depthwise(conv: nn.Conv2d) -> nn.Conv2d:
    """The same depthwise convolution, with the same parameters, which is also `Depthwise`; packages have classes of their own for them."""
    cls: type[nn.Conv2d] = type("DepthwiseConv2d", (Depthwise, type(conv)), {})
    made = cls.__new__(cls)
    made.__dict__.update({name: value for name, value in conv.__dict__.items() if name != "groups"})
    return made


def _as_it_was(conv: Depthwise) -> nn.Module:
    """The convolution of the class that it had, with the number of groups that it has now: exporters want a plain attribute."""
    cls: type[nn.Module] = type(conv).__bases__[1]
    made = cls.__new__(cls)
    made.__dict__.update({**conv.__dict__, "groups": conv.groups})
    return made


def in_body(name: str) -> str:
    """The name in an `Elastic` of a layer or tensor of its body."""
    return f"body.{name}"


def tensors_at(layer: nn.Module, side: Side) -> list[tuple[str, int]]:
    """The names of the tensors of a layer that have its channels, each with the dimension in which it has them."""
    if side == "in":
        return [("weight", 1)]
    return [(name, 0) for name, tensor in (*layer.named_parameters(), *layer.named_buffers()) if tensor.dim()]


class Elastic(nn.Module):
    """A traced network that computes features, and a linear classifier behind it; with groups and blocks, also any part of the two."""

    def __init__(self, body: fx.GraphModule, classifier: nn.Linear, groups: Sequence[Group] = (), blocks: Sequence[Block] = ()) -> None:
        super().__init__()
        self.body, self.classifier = body, classifier
        self.groups, self.blocks = tuple(groups), tuple(blocks)
        for name, layer in list(body.named_modules()):
            if isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels and not isinstance(layer, Depthwise):
                body.set_submodule(name, as_depthwise(layer))

    @property
    def whole(self) -> Part:
        """The part that is the whole network."""
        return Part(tuple(group.channels for group in self.groups))

    def features(self, images: Tensor, part: Part | None = None) -> Tensor:
        """Images `(b, 3, h, w)` -> features `(b, d)`, of the `part` or of the whole network."""
        if part is None:
            features: Tensor = self.body(images)
            return features
        return self._features(images, part.absent, self.selected([np.arange(kept) for kept in part.kept]))

    def forward(self, images: Tensor, part: Part | None = None) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, classes)`, by the `part` or by all weights."""
        if part is None:
            logits: Tensor = self.classifier(self.features(images))
            return logits
        return self.selection(images, [np.arange(kept) for kept in part.kept], part.absent)

    def selection(self, images: Tensor, chosen: Sequence[np.ndarray], absent: frozenset[int] = frozenset()) -> Tensor:
        """Logits with the `chosen` channels of each group, in that order, and without the blocks `absent`."""
        tensors = self.selected(chosen)
        weight = tensors.get(f"{CLASSIFIER}.weight", self.classifier.weight)
        return functional.linear(self._features(images, absent, tensors), weight, self.classifier.bias)

    def _features(self, images: Tensor, absent: frozenset[int], tensors: Mapping[str, Tensor]) -> Tensor:
        body = self.without(absent)
        used = (name for name, _ in (*body.named_parameters(), *body.named_buffers()) if in_body(name) in tensors)
        features: Tensor = functional_call(body, {name: tensors[in_body(name)] for name in used}, (images,))
        return features

    def without(self, absent: frozenset[int]) -> fx.GraphModule:
        """The body with the same layers, but without some blocks."""
        if not absent:
            return self.body
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        result = graph.graph_copy(self.body.graph, copies)
        graph.output(result)
        by_name = {node.name: copied for node, copied in copies.items()}
        for number in sorted(absent, reverse=True):  # the shortcut of a block may be the sum of an earlier one
            block = self.blocks[number]
            by_name[block.total].replace_all_uses_with(by_name[block.shortcut])
        for node in reversed(graph.nodes):
            if not node.users and node.op not in ("placeholder", "output"):
                graph.erase_node(node)
        return fx.GraphModule(self.body, graph)

    # -- channels

    def selected(self, chosen: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """The tensors, by name, that are not whole or not in order where only the `chosen` channels of each group are used, in that order."""
        tensors: dict[str, Tensor] = {}
        for (name, side), index in self._indices(chosen).items():
            layer = self.get_submodule(name)
            used = torch.from_numpy(index).to(self.classifier.weight.device)
            for kind, dim in tensors_at(layer, side):
                full = f"{name}.{kind}"
                tensors[full] = tensors.get(full, getattr(layer, kind)).index_select(dim, used)
        return tensors

    def _indices(self, chosen: Sequence[np.ndarray]) -> dict[tuple[str, Side], np.ndarray]:
        """The channels that are used at each side of each layer, where these are not all in their order."""
        orders: dict[tuple[str, Side], tuple[np.ndarray, np.ndarray]] = {}
        for group, channels in zip(self.groups, chosen, strict=True):
            if np.array_equal(channels, np.arange(group.channels)):
                continue
            for place in group.places:
                key = (place.layer, place.side)
                if key not in orders:
                    count = self.width(*key)
                    orders[key] = (np.arange(count), np.ones(count, bool))
                order, used = orders[key]
                order[place.positions[: len(channels)]] = place.positions[channels]
                used[place.positions[len(channels) :]] = False
        return {key: order[used] for key, (order, used) in orders.items()}

    def width(self, layer: str, side: Side) -> int:
        """Number of channels at a side of a layer."""
        found = self.get_submodule(layer)
        name, dim = next(iter(tensors_at(found, side)))
        return int(getattr(found, name).shape[dim])

    @torch.no_grad()
    def sort_channels(self, images: Tensor) -> None:
        """Put the most important channels of each group first; the network computes what it did.

        The importance of a channel is the mean of its absolute activation on `images (b, 3, h, w)` times the sum of the absolute
        weights that read it.
        """
        activity: dict[str, Tensor] = {}
        readers = {place.layer for group in self.groups for place in group.places if place.side == "in"}

        def remember(name: str, given: tuple[Tensor, ...]) -> None:
            activity[name] = given[0].abs().mean([dim for dim in range(given[0].dim()) if dim != 1])

        hooks = [self.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: remember(name, given)) for name in readers]
        self.eval()(images)
        for hook in hooks:
            hook.remove()
        orders = []
        for group in self.groups:
            importance = np.zeros(group.channels)
            for place in group.places:
                if place.side == "in":
                    weight = self.get_submodule(place.layer).weight
                    assert isinstance(weight, Tensor)
                    worth = activity[place.layer] * weight.abs().sum([dim for dim in range(weight.dim()) if dim != 1])
                    importance += worth.cpu().numpy()[place.positions].sum(1)
            orders.append(np.argsort(-importance, kind="stable"))
        for name, tensor in self.selected(orders).items():
            self.get_parameter_or_buffer(name).copy_(tensor)

    def get_parameter_or_buffer(self, name: str) -> Tensor:
        """The parameter or buffer with this name."""
        layer, _, kind = name.rpartition(".")
        tensor = getattr(self.get_submodule(layer), kind)
        assert isinstance(tensor, Tensor)
        return tensor


def extract(shared: Elastic, part: Part) -> Elastic:
    """A network of its own with copies of the weights that `part` uses of `shared`."""
    made = copy.deepcopy(Elastic(shared.without(part.absent), shared.classifier))
    tensors = shared.selected([np.arange(kept) for kept in part.kept])
    for path, layer in list(made.named_modules()):
        for kind, whole in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            if (tensor := tensors.get(f"{path}.{kind}")) is not None:
                own = tensor.detach().clone()
                setattr(layer, kind, nn.Parameter(own, requires_grad=whole.requires_grad) if isinstance(whole, nn.Parameter) else own)
        _resize(layer)
        if isinstance(layer, Depthwise):
            made.set_submodule(path, _as_it_was(layer))
    return made.train(shared.training)


def _resize(layer: nn.Module) -> None:
    """Make the numbers of channels that a layer states those of its tensors."""
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = len(layer.weight), layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features = next(len(tensor) for tensor in (layer.running_mean, layer.weight) if tensor is not None)
