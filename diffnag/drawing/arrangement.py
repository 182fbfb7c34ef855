"""The geometry of a picture: sizes and places of boxes, panels side by side, routes of edges."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx

from diffnag.drawing.layered import APART, Edge, Layout, Point, layered

if TYPE_CHECKING:
    from diffnag.protocols import Picture

# Lengths are in units of the picture; a picture saved on its own has one inch per unit.
BOX = (0.92, 0.46)
TITLE, PADDING, BETWEEN = 0.3, 0.16, 0.4
"""Height of a panel's title, space inside its frame, and space between two frames."""
MARGIN = 0.12
ARRIVING = 0.11
"""Largest distance between the heads of arrows that meet at a box."""

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True)
class Box:
    """One node: its text, the centre of its box, and width and height of the box."""

    text: str
    centre: Point
    size: Point


@dataclass(frozen=True)
class Arrangement:
    """`boxes` in the order of the picture's nodes; `ways` with the points that each edge passes, both ends included; framed panels."""

    boxes: tuple[Box, ...]
    ways: Mapping[Edge, tuple[Point, ...]]
    frames: Mapping[str, Bounds]
    """Title, which stands above the frame -> bounds of the frame."""

    @property
    def bounds(self) -> Bounds:
        """Bounds of the whole picture, with a margin."""
        titled = [(left, bottom, right, top + TITLE) for left, bottom, right, top in self.frames.values()]
        passed = [(x, y, x, y) for way in self.ways.values() for x, y in way]
        left, bottom, right, top = _around([*titled, *passed, *(_sides(box.centre, box.size) for box in self.boxes)])
        return left - MARGIN, bottom - MARGIN, right + MARGIN, top + MARGIN


def arranged(picture: Picture, *, words: frozenset[str]) -> Arrangement:
    """Place the boxes of a picture; `words` are the texts that are no operators, and the width of their boxes follows their length.

    Each panel is laid out from left to right. If every panel is a single path, the panels run downwards and stand side by side.
    """
    sizes = {node: _size(text, words) for node, text in enumerate(picture.texts)}
    titles = picture.panels or ("",) * len(picture.texts)
    graph = networkx.DiGraph(picture.edges)
    graph.add_nodes_from(sizes)
    panels = {title: graph.subgraph([node for node in sizes if titles[node] == title]) for title in dict.fromkeys(titles)}
    downwards = len(panels) > 1 and all(map(_is_path, panels.values()))
    layouts = {title: _column(panel, sizes) if downwards else layered(panel, sizes) for title, panel in panels.items()}
    extents = {title: _extent(layout, sizes) for title, layout in layouts.items()}
    tall = max(top - bottom for _, bottom, _, top in extents.values())
    places: dict[int, Point] = {}
    routes: dict[Edge, tuple[Point, ...]] = dict.fromkeys(picture.edges, ())
    frames, x = {}, 0.0
    for title, layout in layouts.items():
        left, bottom, right, top = extents[title]
        shift = (x + PADDING - left, -top if downwards else -(tall + bottom + top) / 2)
        places |= {node: _moved(point, shift) for node, point in layout.places.items()}
        routes |= {edge: tuple(_moved(point, shift) for point in route) for edge, route in layout.routes.items()}
        end = x + right - left + 2 * PADDING
        if title:
            frames[title] = (x, -tall - PADDING, end, PADDING)
        x = end + BETWEEN
    boxes = tuple(Box(text, places[node], sizes[node]) for node, text in enumerate(picture.texts))
    return Arrangement(boxes, _ways(boxes, routes), frames)


def _ways(boxes: tuple[Box, ...], routes: Mapping[Edge, tuple[Point, ...]]) -> dict[Edge, tuple[Point, ...]]:
    """Routes from the side of one box to the side of the other; edges that meet at a box arrive beside each other."""
    arriving: dict[int, list[tuple[float, Edge]]] = {}
    for (i, j), route in routes.items():
        arriving.setdefault(j, []).append((route[-1][1] if route else boxes[i].centre[1], (i, j)))
    height: dict[Edge, float] = {}
    for j, edges in arriving.items():
        step = min(ARRIVING, 0.75 * boxes[j].size[1] / len(edges))
        for k, (_, edge) in enumerate(sorted(edges)):
            height[edge] = boxes[j].centre[1] + step * (k - (len(edges) - 1) / 2)
    ways: dict[Edge, tuple[Point, ...]] = {}
    for (i, j), route in routes.items():
        (x0, y0), (x1, y1) = boxes[i].centre, boxes[j].centre
        if x0 == x1:  # one above the other
            ways[i, j] = ((x0, y0 - boxes[i].size[1] / 2), (x1, y1 + boxes[j].size[1] / 2))
        else:
            ways[i, j] = ((x0 + boxes[i].size[0] / 2, y0), *route, (x1 - boxes[j].size[0] / 2, height[i, j]))
    return ways


def _size(text: str, words: frozenset[str]) -> Point:
    if text not in words:
        return BOX
    if "$" in text or len(text) <= 2:
        return BOX[1], BOX[1]
    return min(BOX[0], 0.2 + 0.09 * len(text)), 0.36


def _is_path(graph: networkx.DiGraph) -> bool:
    return networkx.dag_longest_path_length(graph) == graph.number_of_nodes() - 1 == graph.number_of_edges()


def _column(path: networkx.DiGraph, sizes: Mapping[int, Point]) -> Layout:
    nodes, y, places = list(networkx.topological_sort(path)), 0.0, {}
    for node in nodes:
        places[node] = (0.0, y - sizes[node][1] / 2)
        y -= sizes[node][1] + 1.5 * APART
    return Layout(places, dict.fromkeys(itertools.pairwise(nodes), ()))


def _extent(layout: Layout, sizes: Mapping[int, Point]) -> Bounds:
    passed = [(x, y, x, y) for route in layout.routes.values() for x, y in route]
    return _around([*passed, *(_sides(place, sizes[node]) for node, place in layout.places.items())])


def _sides(centre: Point, size: Point) -> Bounds:
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2


def _around(bounds: list[Bounds]) -> Bounds:
    left, bottom, right, top = zip(*bounds, strict=True)
    return min(left), min(bottom), max(right), max(top)


def _moved(point: Point, shift: Point) -> Point:
    return point[0] + shift[0], point[1] + shift[1]
