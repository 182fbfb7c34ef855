"""Layered layout of a small directed acyclic graph: places of boxes and routes of edges around them (Sugiyama et al., 1981).

The layers, from left to right, are the topological generations of networkx. An edge over several layers has a point of its own
in each layer that it passes, so that it crosses no box. Layers are ordered for few crossings. Heights make edges level, by least
squares.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx
import numpy as np

Point = tuple[float, float]
Edge = tuple[int, int]
Layers = list[list[Hashable]]
"""Layers from left to right, each from top to bottom: nodes, and `(edge, layer)` for an edge that passes the layer."""

ACROSS, APART = 0.46, 0.16
"""Distance between layers, and between the items of one layer."""
STARTS, SWEEPS = 12, 8
"""Number of starting orders in the search for few crossings, and of passes through all layers from each."""
LARGE = 200
"""Items, nodes and passing points, from which on one starting order is sorted and nothing swapped, and items stand at even distances:
the search and the least squares would take minutes."""
LEVEL = {0: 1.0, 1: 2.0, 2: 20.0}
"""Weight of a link by the number of its ends that are passing points: long edges become straight (Gansner et al., 1993)."""


@dataclass(frozen=True)
class Layout:
    """`places` are the centres of boxes; `routes` are the points of each edge in the layers that it passes, two in each layer."""

    places: dict[int, Point]
    routes: dict[Edge, tuple[Point, ...]]


def layered(graph: networkx.DiGraph, sizes: Mapping[int, Point]) -> Layout:
    """Lay out a graph whose nodes are boxes; `sizes` are their widths and heights."""
    layer_of = {node: k for k, nodes in enumerate(networkx.topological_generations(graph)) for node in nodes}
    layers: Layers = [[] for _ in range(1 + max(layer_of.values(), default=0))]
    for node in sorted(layer_of):
        layers[layer_of[node]].append(node)
    links: list[tuple[Hashable, Hashable]] = []
    for i, j in sorted(graph.edges):
        passed = [((i, j), k) for k in range(layer_of[i] + 1, layer_of[j])]
        for point in passed:
            layers[point[1]].append(point)
        links += itertools.pairwise([i, *passed, j])
    layers = _ordered(layers, links)
    heights = _heights(layers, links, {node: sizes[node][1] for node in layer_of})
    widths = [max((sizes[item][0] for item in layer if isinstance(item, int)), default=0.0) for layer in layers]
    centres = [sum(widths[:k]) + widths[k] / 2 + k * ACROSS for k in range(len(layers))]
    routes: dict[Edge, tuple[Point, ...]] = {}
    for i, j in graph.edges:
        ways = [(k, heights[(i, j), k]) for k in range(layer_of[i] + 1, layer_of[j])]
        routes[i, j] = tuple((centres[k] + side * widths[k] / 2, y) for k, y in ways for side in (-1, 1))
    return Layout({node: (centres[k], heights[node]) for node, k in layer_of.items()}, routes)


def _ordered(layers: Layers, links: Sequence[tuple[Hashable, Hashable]]) -> Layers:
    """The layers in an order with few crossings.

    From several starting orders, in turn from both sides: sort each layer by the mean place of the neighbours of its items, then
    swap adjacent items as long as this helps.
    """
    beside: dict[Hashable, tuple[list[Hashable], list[Hashable]]] = {item: ([], []) for layer in layers for item in layer}
    for one, other in links:
        beside[one][1].append(other)
        beside[other][0].append(one)

    def crossings(layers: Layers, which: Iterable[int]) -> int:
        """Number of crossings between layers k and k + 1, summed over all k in `which`."""
        count = 0
        for k in which:
            if 0 <= k < len(layers) - 1:
                place = {item: p for p, item in enumerate(layers[k + 1])}
                ends = [place[other] for item in layers[k] for other in sorted(beside[item][1], key=place.__getitem__)]
                count += sum(a > b for a, b in itertools.combinations(ends, 2))
        return count

    def swapped(layers: Layers) -> None:
        better = True
        while better:
            better = False
            for k, layer in enumerate(layers):
                for p in range(len(layer) - 1):
                    before = crossings(layers, (k - 1, k))
                    layer[p], layer[p + 1] = layer[p + 1], layer[p]
                    if crossings(layers, (k - 1, k)) < before:
                        better = True
                    else:
                        layer[p], layer[p + 1] = layer[p + 1], layer[p]

    shuffle, best, fewest = np.random.default_rng(0).permutation, layers, crossings(layers, range(len(layers)))
    large = sum(map(len, layers)) > LARGE
    for start in range(1 if large else STARTS):
        now = [[*layer] if start == 0 else [layer[p] for p in shuffle(len(layer))] for layer in layers]
        for sweep in range(SWEEPS):
            side = sweep % 2  # 0: by the layer to the left, 1: by the one to the right
            for layer in now[1:] if side == 0 else now[-2::-1]:
                place = {item: p for other in now for p, item in enumerate(other)}
                layer.sort(key=lambda item: float(np.mean([place[near] for near in beside[item][side]] or [place[item]])))
            if not large:
                swapped(now)
            if (count := crossings(now, range(len(now)))) < fewest:
                best, fewest = [[*layer] for layer in now], count
        if fewest == 0:
            break
    return best


def _heights(layers: Layers, links: Sequence[tuple[Hashable, Hashable]], boxes: Mapping[int, float]) -> dict[Hashable, float]:
    """Heights that keep the items of a layer apart and links level: least squares over the layers' tops and the gaps below them."""
    from scipy.optimize import lsq_linear

    if sum(map(len, layers)) > LARGE:
        return _even_heights(layers, max(boxes.values()))
    least: list[float] = []  # the top of a layer is free, each gap in it has a least size
    above: dict[Hashable, list[int]] = {}  # the variables whose sum is how far an item lies below 0
    for layer in layers:
        for p, item in enumerate(layer):
            above[item] = [*above[layer[p - 1]], len(least)] if p else [len(least)]
            half = [boxes.get(near, 0.0) / 2 for near in layer[max(p - 1, 0) : p + 1] if isinstance(near, int)]
            least.append(APART + sum(half) if p else -np.inf)
    rows = np.zeros((len(links) + len(above), len(least)))
    for row, (one, other) in zip(rows, links, strict=False):
        weight = LEVEL[sum(not isinstance(end, int) for end in (one, other))] ** 0.5
        np.add.at(row, above[one], weight)
        np.add.at(row, above[other], -weight)
    for row, columns in zip(rows[len(links) :], above.values(), strict=True):
        row[columns] = 0.03  # pulls to the middle what nothing else holds
    solved = lsq_linear(rows, np.zeros(len(rows)), bounds=(least, np.inf), method="bvls").x
    return {item: -float(solved[columns].sum()) for item, columns in above.items()}


def _even_heights(layers: Layers, box: float) -> dict[Hashable, float]:
    """Heights of the items of each layer at even distances, for boxes that are `box` high at most, around the middle."""
    step = box + APART
    return {item: step * ((len(layer) - 1) / 2 - p) for layer in layers for p, item in enumerate(layer)}
