"""What can be removed of a traced network: groups of channels, which torch-pruning finds, and residual blocks, which the graph shows.

Each is tried out before it is accepted: the channels of a group can be permuted without any change of the logits, and the network runs
with a part of them, or without the block.
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, fx, nn

from diffnag.errors import UserError, type_and_line
from diffnag.search_spaces.own_model.network import CLASSIFIER, Block, Depthwise, Elastic, Group, Part, Place, Side, in_body

if TYPE_CHECKING:
    from torch_pruning.dependency import DependencyGraph
    from torch_pruning.dependency import Group as Found

SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
"""What adds a block to its shortcut: functions, and names of methods of a tensor."""
FEWEST = 2
"""Channels of a group, at least."""
TOLERANCE = 1e-3
"""Largest change of logits, as a share of their spread, that is taken for rounding."""


def with_what_can_go(body: fx.GraphModule, classifier: nn.Linear, images: Tensor) -> Elastic:
    """The network with the groups and blocks that can be removed, in its order; `images (b, 3, h, w)` serve for trying out.

    Raises `UserError` if torch-pruning is not installed, or cannot follow the network.
    """
    trial = _with_uneven_norms(Elastic(body, classifier))
    groups = [group for group in _groups(trial, images) if _can_be_pruned(Elastic(trial.body, trial.classifier, [group]), images)]
    blocks = [block for block in _blocks(body.graph) if _can_be_left_out(Elastic(trial.body, trial.classifier, (), [block]), images)]
    place = {in_body(str(node.target)): number for number, node in enumerate(body.graph.nodes)}
    groups.sort(key=lambda group: min(place[layer] for layer in group.layers if layer != CLASSIFIER))
    return Elastic(body, classifier, groups, blocks)


def _with_uneven_norms(network: Elastic) -> Elastic:
    """A copy whose normalisations differ from channel to channel. Fresh ones are all equal, and a forgotten one would not show."""
    made, generator = copy.deepcopy(network).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                for name, tensor in (*layer.named_parameters(), *layer.named_buffers()):
                    if tensor.dim():
                        low, high = (0.5, 1.5) if name in ("weight", "running_var") else (-0.2, 0.2)
                        tensor.uniform_(low, high, generator=generator)
        if made.classifier.bias is not None:
            made.classifier.bias.zero_()  # it might outweigh everything else
    return made


# -- groups of channels


def _groups(network: Elastic, images: Tensor) -> Iterator[Group]:
    """The groups of channels, those left out that contain layers which are neither convolutions, linear layers nor batch normalisations."""
    graph = _dependencies(network, images)
    names = {layer: name for name, layer in network.named_modules()}
    for found in graph.get_all_groups(ignored_layers=[network.classifier], root_module_types=[nn.Conv2d, nn.Linear]):
        group = _read(found, graph, names)
        if group is not None and group.channels >= FEWEST:
            yield group


def _dependencies(network: Elastic, images: Tensor) -> DependencyGraph:
    try:
        from torch_pruning.dependency import DependencyGraph
    except ImportError as error:
        raise UserError("a model of your own is taken apart by torch-pruning, which is not installed; pip install 'diffnag[prune]'") from error
    try:
        with torch.enable_grad():
            return DependencyGraph().build_dependency(network, example_inputs=images, verbose=False)
    except Exception as error:  # of a network that torch-pruning does not know
        raise UserError(f"torch-pruning cannot follow the layers of the model: {type_and_line(error)}") from error


def _read(found: Found, graph: DependencyGraph, names: dict[nn.Module, str]) -> Group | None:
    """A group of torch-pruning as ours; None if not all of it can be sliced."""
    positions: dict[tuple[str, Side], dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for item in found.items:
        layer = item.dep.target.module
        if layer not in names:
            if isinstance(layer, nn.Parameter):
                return None  # a parameter that belongs to no layer
            continue  # an operation without weights
        if not _sliceable(layer):
            return None
        one_sided = isinstance(layer, Depthwise | nn.BatchNorm1d | nn.BatchNorm2d)
        side: Side = "out" if one_sided or graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        for root, index in zip(item.root_idxs, item.idxs, strict=True):
            positions[names[layer], side][root].add(index)
    places = [_place(layer, side, of_root) for (layer, side), of_root in positions.items()]
    if any(place is None or len(place.positions) != len(found[0].idxs) for place in places):
        return None
    return Group(tuple(place for place in places if place is not None))


def _sliceable(layer: nn.Module) -> bool:
    """Whether channels can be taken out of a layer one by one."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 or isinstance(layer, Depthwise)
    return isinstance(layer, nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d)


def _place(layer: str, side: Side, of_root: dict[int, set[int]]) -> Place | None:
    """The place, if each channel of the group has as many positions in it."""
    rows = [sorted(of_root[root]) for root in sorted(of_root)]
    return Place(layer, side, np.array(rows)) if len({len(row) for row in rows}) == 1 else None


@torch.no_grad()
def _can_be_pruned(network: Elastic, images: Tensor) -> bool:
    """Whether the one group of the network is what it seems: permuted channels change nothing, and half of them are enough to run."""
    (group,) = network.groups
    order = np.roll(np.random.default_rng(0).permutation(group.channels), 1)
    try:
        before, permuted = network(images), network.selection(images, [order])
        half = network.selection(images, [np.arange(group.channels // 2)])
    except Exception:  # the network states how many channels there are, or something else of its kind
        return False
    close: bool = (before - permuted).abs().max() <= TOLERANCE * before.std()
    return bool(close) and half.shape == before.shape


# -- residual blocks


def _blocks(graph: fx.Graph) -> Iterator[Block]:
    """The sums of a tensor and of what is computed from this tensor alone, by layers with weights."""
    for node in graph.nodes:
        if node.op not in ("call_function", "call_method") or node.target not in SUMS or len(node.args) != 2 or node.kwargs:
            continue
        for shortcut, branch in (node.args, node.args[::-1]):
            if isinstance(shortcut, fx.Node) and isinstance(branch, fx.Node):
                between = _between(shortcut, branch, node)
                owned = frozenset(str(one.target) for one in between or () if one.op in ("call_module", "get_attr"))
                if owned:
                    yield Block(node.name, shortcut.name, owned)
                    break


def _between(begin: fx.Node, end: fx.Node, total: fx.Node) -> set[fx.Node] | None:
    """All nodes on the ways from `begin` to `end`; None if they read or serve anything else but `total`, or if there is no way."""
    found: set[fx.Node] = set()
    left = [end]
    while left:
        node = left.pop()
        if node is begin or node in found:
            continue
        if node.op in ("placeholder", "output"):
            return None
        found.add(node)
        left += node.all_input_nodes
    alone = all(user in found or user is total for node in found for user in node.users)
    return found if alone and any(begin in node.all_input_nodes for node in found) else None


def _can_be_left_out(network: Elastic, images: Tensor) -> bool:
    """Whether the network runs without its one block, and can be trained so."""
    try:
        with torch.enable_grad():
            without = network(images, Part((), frozenset({0})))
            without.sum().backward()
        return bool(without.shape == network(images).shape)
    except Exception:  # shapes that do not fit
        return False
