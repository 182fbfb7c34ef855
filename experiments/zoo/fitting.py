"""Fit folded networks to the operators of the space `network-zoo`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffnag.search_spaces.network_zoo.operators import NAMES, OPERATORS, OUTPUT, TABLE, Operator
from diffnag.search_spaces.network_zoo.shapes import HIGHEST, IMAGES, LOWEST, UNIT, Shape, level_of, shape_behind
from diffnag.search_spaces.network_zoo.space import NODES, fault_of
from experiments.zoo.folding import LeftOut, Node

CONVOLUTIONS = [op for op in OPERATORS.values() if op.kind == "conv"]
Graph = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Operators, and the nodes that each node reads."""


TRIES = 100
"""Choices of levels that are tried for a network."""


class Clash(LeftOut):
    """Maps of these widths are added, which should be equal."""

    def __init__(self, node: Node, widths: Sequence[int]) -> None:
        super().__init__("a sum or product of widths that no operators make equal")
        self.channels, self.levels = node.channels, {level_of(width) for width in widths}


def fitted(nodes: Sequence[Node], side: int) -> Graph:
    """The graph of a network whose images have `side` pixels a side. Raises `LeftOut` where its operators give no valid one.

    Widths go to the closest level of the grid, and a width is at one level wherever it appears: where no operator reaches it at first, at
    the level that one reaches. Where sums clash nevertheless, the levels of what they add are tried, and those next to them. Kernels, activations and
    strides are those of the closest operator.
    """
    if len(nodes) + 1 > NODES:
        raise LeftOut(f"more than {NODES} nodes")
    stem = next((node for node in nodes if node.inputs and node.inputs[0].kind == "input"), None)
    if nodes[0].kind != "input" or stem is None:
        raise LeftOut("no stem")
    tries: list[dict[int, int]] = [{stem.channels: 0}]
    for count in range(TRIES):
        levels = tries.pop()
        try:
            return _fitted(nodes, side, dict(levels), stem)
        except Clash as clash:
            if clash.channels not in levels:
                near = {level + step for level in clash.levels for step in (-1, 1)} - clash.levels
                tries += [levels | {clash.channels: level} for level in (*sorted(near), *sorted(clash.levels))]  # the last one is tried first
            if not tries or count == TRIES - 1:
                raise
    raise AssertionError("the last try returns or raises")


def _fitted(nodes: Sequence[Node], side: int, levels: dict[int, int], stem: Node) -> Graph:
    """The graph with the widths `levels`, channels -> level, to which those of other widths are added."""
    place = {node: number for number, node in enumerate(nodes)}
    ops: list[int] = []
    shapes: list[Shape] = []
    for node in nodes:
        read = [shapes[place[source]] for source in node.inputs]
        op = _operator(node, read, side, levels, stem)
        shape = shape_behind(op, read) if read else IMAGES
        if isinstance(shape, str):
            raise Clash(node, [each.width for each in read]) if "widths" in shape else LeftOut(f"a node {node.kind} that {shape}")
        if node.kind == "conv":
            levels.setdefault(node.channels, level_of(shape.width))
        ops.append(TABLE.index(op))
        shapes.append(shape)
    reads = [tuple(sorted(place[source] for source in node.inputs)) for node in nodes]
    graph = (*ops, OUTPUT), (*reads, (len(nodes) - 1,))
    if fault := fault_of(*graph):
        raise LeftOut(f"a graph of which {fault}")
    return graph


def _level(channels: int, stem: Node) -> int:
    """Level of the grid closest to a width."""
    return level_of(max(1, round(UNIT * channels / stem.channels)))


def _operator(node: Node, read: Sequence[Shape], side: int, levels: dict[int, int], stem: Node) -> Operator:
    """The closest operator of the space."""
    if node.kind in ("input", "gate", "attention", "multiply", "concat"):
        return OPERATORS[node.kind]
    if node.kind == "half":
        return OPERATORS[("first-half", "second-half")[node.part]]
    if node.kind == "window":
        return OPERATORS["window-attention"]
    if node.kind == "add":
        return OPERATORS["add-act" if node.active else "add"]
    if node.kind == "pooled":
        raise LeftOut("a pooling of all pixels in the middle")
    halved = max(0, round(math.log2(side / node.side))) - max(0, round(math.log2(side / node.inputs[0].side)))
    if node.kind == "conv":
        return _convolution(node, read[0], halved, levels, stem)
    if halved not in (0, 1) or (node.kind in ("depthwise", "grouped") and node.channels != node.inputs[0].channels):
        raise LeftOut(f"a node {node.kind} with another stride or width")
    if node.kind == "avgpool" or node.kind == "maxpool":
        return OPERATORS[f"{node.kind}-s2" if halved else "avgpool"]
    if node.kind == "grouped":
        return OPERATORS["grouped3-s2" if halved else "grouped3"]
    kernel = 3 if node.kernel < 5 else 5 if halved or node.kernel == 5 else 7
    return OPERATORS[f"depthwise{kernel}-s2" if halved else f"depthwise{kernel}"]


def _convolution(node: Node, before: Shape, halved: int, levels: dict[int, int], stem: Node) -> Operator:
    """The convolution closest in width, then in kernel, then in activation, among those of its stride."""
    if (halved > 2 and before != IMAGES) or halved < 0:
        raise LeftOut("a convolution with a large stride behind the stem, or one that enlarges its map")
    stride = 2**halved if halved <= 2 else 16
    wanted = levels.get(node.channels, _level(node.channels, stem)) - level_of(before.width)

    def distance(op: Operator) -> tuple[bool, int, float, bool]:
        beyond = not LOWEST <= level_of(before.width) + op.step <= HIGHEST
        return beyond, abs(op.step - wanted), abs(math.log(op.kernel / node.kernel)), op.active != node.active

    return min((op for op in CONVOLUTIONS if op.stride == stride and (op.kernel == 1) == (node.kernel == 1 and stride < 4)), key=distance)


assert len(NAMES) <= 50
