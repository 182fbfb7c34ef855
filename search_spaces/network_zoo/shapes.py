"""Shapes of the maps in a network of `network-zoo`, and the rules that they follow."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from typing import NamedTuple

from diffnag.search_spaces.network_zoo.operators import TABLE, Operator

UNIT = 16
"""Parts into which the width of the stem is cut: widths are counted in sixteenths of it."""
LOWEST, HIGHEST = -6, 14
"""Levels of the grid that a convolution may give: an eighth of the stem's width, and 128 times it."""
WIDEST = UNIT << HIGHEST // 2
"""Largest width, also of a concatenation."""
COARSEST = 6
"""Largest number of times that a map is halved; the input is then 64 times as long as the map."""
ATTENDED = 2
"""Halvings before global attention: it would be slow on larger maps."""


class Shape(NamedTuple):
    """Shape of a map: `width` in sixteenths of the stem's width, 0 for the images, and how many times its sides were halved."""

    width: int
    halvings: int


IMAGES = Shape(0, 0)


def width_of(level: int) -> int:
    """Width at a level of the grid: 16, 24, 32, 48, ... at the levels 0, 1, 2, 3, ..."""
    return (UNIT << HIGHEST if level % 2 == 0 else (UNIT + UNIT // 2) << HIGHEST) >> HIGHEST - level // 2


_BOUNDS = [math.sqrt(width_of(level) * width_of(level + 1)) for level in range(LOWEST, HIGHEST)]


def level_of(width: int) -> int:
    """Level closest to a width by their ratio; the images count as the stem's own width."""
    return LOWEST + bisect(_BOUNDS, width or UNIT)


def shape_behind(op: Operator, inputs: Sequence[Shape]) -> Shape | str:
    """Shape of what `op` gives for as many inputs as it takes, or the reason why it does not take them."""
    if not inputs:
        return "reads nothing"
    width, halvings = inputs[0]
    if IMAGES in inputs and op.kind != "conv":
        return "reads the images, which only a convolution does"
    if len(inputs) > 1:
        if len({shape.halvings for shape in inputs}) > 1:
            return "reads maps of different sides"
        if op.kind == "concat":
            width = sum(shape.width for shape in inputs)
            return Shape(width, halvings) if width <= WIDEST else "concatenates too many channels"
        return inputs[0] if len({shape.width for shape in inputs}) == 1 else "reads maps of different widths"
    if op.kind in ("first", "second"):
        return Shape(width // 2, halvings) if width % 2 == 0 and width > 2 else "halves channels that are too few"
    if op.kind == "attention" and halvings < ATTENDED:
        return "attends to a map that is too large"
    halvings += op.stride.bit_length() - 1
    if halvings > COARSEST:
        return "makes the map too small"
    if op.kind != "conv":
        return Shape(width, halvings)
    level = level_of(width) + op.step
    if not LOWEST <= level <= HIGHEST:
        return "gives too few or too many channels"
    return Shape(width_of(level), halvings)


def shapes_of(ops: Sequence[int], reads: Sequence[Sequence[int]]) -> list[Shape] | str:
    """Shapes behind the nodes of a network, or the first fault. `reads` are the nodes that each node reads, all before it."""
    shapes = [IMAGES]
    for node in range(1, len(ops)):
        op = TABLE[ops[node]]
        fewest, most = op.inputs
        if not fewest <= len(reads[node]) <= most:
            return f"node {node} reads {len(reads[node])} nodes, not {fewest if fewest == most else f'{fewest} to {most}'}"
        shape = shape_behind(op, [shapes[source] for source in reads[node]])
        if isinstance(shape, str):
            return f"node {node} {shape}"
        shapes.append(shape)
    return shapes
