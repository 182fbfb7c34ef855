"""Networks made of two: one up to one of its maps, and what another one makes of a map of the same shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffnag.search_spaces.network_zoo.shapes import shapes_of

Graph = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Operators, and the nodes that each node reads."""


def joints(reads: Sequence[Sequence[int]]) -> list[int]:
    """Nodes, without input and output, that all paths from the nodes before to the nodes behind go through."""
    furthest = np.arange(len(reads))
    for node, sources in enumerate(reads):
        furthest[list(sources)] = node  # nodes ascend
    passed = np.maximum.accumulate(furthest)
    return [node for node in range(1, len(reads) - 1) if passed[node - 1] <= node]


def crossed(one: Graph, other: Graph, rng: np.random.Generator, *, most: int) -> Graph:
    """`one` up to a joint, and `other` behind a joint at which its map has the same shape; `one` if no such network has `most` nodes at most.

    The pair of joints is uniform. Where both are the same network, a part of it is repeated or left out.
    """
    shapes, theirs, ends = shapes_of(*one), shapes_of(*other), joints(other[1])
    places = [
        (node, joint) for node in joints(one[1]) for joint in ends
        if shapes[node] == theirs[joint] and node + len(other[0]) - joint <= most and (one != other or node != joint)
    ]  # fmt: skip
    if not places:
        return one
    node, joint = places[rng.integers(len(places))]
    moved = [[source + node - joint for source in sources] for sources in other[1][joint + 1 :]]
    return [*one[0][: node + 1], *other[0][joint + 1 :]], [*one[1][: node + 1], *moved]
