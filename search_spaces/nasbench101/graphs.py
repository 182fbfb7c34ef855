"""The graphs of NAS-Bench-101 (Ying et al., ICML 2019, section 2): pruning, normal form, enumeration, hash.

A cell has at most 7 vertices, the first its input and the last its output, and at most 9 edges; every vertex lies on a path
from input to output. What the order of the vertices leaves open is settled by a normal form, so that there is one graph for
each of the 423,624 cells: the one that the benchmark's own enumeration meets first. On that order the network depends, where
channels are not shared out evenly. A wiring is written as an integer, a bit an edge (`BITS`), and so are the benchmark's.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

VERTICES, EDGES = 7, 9
"""At most."""
LABELS = 3
"""Operations that an interior vertex may have."""
Edge = tuple[int, int]
COUNT = 423_624
"""Cells that there are (checked where they are enumerated)."""
PAIRS: tuple[Edge, ...] = tuple((i, j) for j in range(VERTICES) for i in range(j))
BITS = {pair: 1 << k for k, pair in enumerate(PAIRS)}
BACKWARDS = 1 << len(PAIRS)
"""In place of the integer of a matrix that is not upper triangular."""


class Wirings(NamedTuple):
    """All wirings of the benchmark, and what leads from each to its normal form."""

    normal: dict[int, tuple[int, tuple[int, ...]]]
    """Wiring -> its normal form, and for each vertex of that the vertex of the wiring."""
    automorphisms: dict[int, list[tuple[int, ...]]]
    """Normal form -> the orders of its vertices that leave it as it is."""
    edges: dict[int, tuple[Edge, ...]]
    """Normal form -> its edges."""
    vertices: dict[int, int]
    """Normal form -> number of its vertices. Ascending, and so are the wirings of one number."""
    labellings: dict[int, np.ndarray]
    """Normal form -> labels of the interior vertices `(m, vertices - 2)`, one row for each cell of this wiring."""
    ends: np.ndarray
    """How many cells have this or an earlier wiring."""


def wiring(edges: Iterable[Edge]) -> int:
    """The integer for edges `i -> j`, i < j."""
    return sum(BITS[edge] for edge in edges)


@cache
def wirings() -> Wirings:
    """Found once a process, in about 0.2 s. Of the orders of a wiring the normal form is the smallest integer."""
    normal: dict[int, tuple[int, tuple[int, ...]]] = {}
    automorphisms: dict[int, list[tuple[int, ...]]] = {}
    for n in range(2, VERTICES + 1):
        orders = [(0, *middle, n - 1) for middle in itertools.permutations(range(1, n - 1))]
        graphs = _connected(n)
        rewritten = np.stack([_wiring_of(graphs[:, order][:, :, order]) for order in orders])  # (orders, graphs)
        own, best = rewritten[0].tolist(), rewritten.argmin(0).tolist()
        for k, (code, order) in enumerate(zip(own, best, strict=True)):
            normal[code] = (int(rewritten[order, k]), orders[order])
            if rewritten[order, k] == code:
                automorphisms[code] = [orders[same] for same in np.flatnonzero(rewritten[:, k] == code)]
    vertices = {code: len(orders[0]) for code, orders in sorted(automorphisms.items(), key=lambda item: (len(item[1][0]), item[0]))}
    labellings = {code: _labellings(n, automorphisms[code]) for code, n in vertices.items()}
    return Wirings(
        normal, automorphisms, {code: tuple(sorted(pair for pair in PAIRS if code & BITS[pair])) for code in vertices},
        vertices, labellings, np.cumsum([len(rows) for rows in labellings.values()]),
    )  # fmt: skip


def _connected(n: int) -> np.ndarray:
    """Upper-triangular adjacency matrices `(m, n, n)` of at most 9 edges in which all vertices lie on a path from first to last."""
    i, j = np.triu_indices(n, 1)
    codes = np.arange(1 << len(i), dtype=np.uint32)
    for vertex in range(n):
        for incident in (*([i == vertex] if vertex < n - 1 else []), *([j == vertex] if vertex else [])):
            codes = codes[codes & np.uint32((1 << np.flatnonzero(incident)).sum()) != 0]
    graphs = np.zeros((len(codes), n, n), dtype=np.int32)
    graphs[:, i, j] = codes[:, None] >> np.arange(len(i), dtype=np.uint32) & 1
    return graphs[graphs.sum((1, 2)) <= EDGES]


def _wiring_of(graphs: np.ndarray) -> np.ndarray:
    """The integers of adjacency matrices `(m, n, n)`; `BACKWARDS` where an edge leads backwards."""
    n = graphs.shape[1]
    weights = np.array([[BITS.get((i, j), 0) for j in range(n)] for i in range(n)], dtype=np.int32)
    return np.where(np.tril(graphs).any((1, 2)), BACKWARDS, np.tensordot(graphs, weights, 2))


def _labellings(n: int, automorphisms: list[tuple[int, ...]]) -> np.ndarray:
    """Labellings `(m, n - 2)` in ascending order, the smallest of each set that automorphisms turn into each other."""
    interior = n - 2
    rows = np.indices((LABELS,) * interior, dtype=np.int8).reshape(interior, LABELS**interior).T
    weights = LABELS ** np.arange(interior)[::-1]
    images = [rows[:, np.array(order[1:-1], dtype=int) - 1] @ weights for order in automorphisms]
    return rows[rows @ weights == np.min(images, axis=0)]


def pruned(vertices: int, edges: Iterable[Edge]) -> tuple[list[int], list[Edge]]:
    """The vertices on a path from the first to the last, ascending, and the edges between them; nothing where there is no path.

    Edges lead from lower to higher vertices.
    """
    edges = sorted(edges)
    reached, leads = {0}, {vertices - 1}
    for i, j in edges:  # ascending in i: whatever reaches i has been seen
        if i in reached:
            reached.add(j)
    for i, j in reversed(edges):
        if j in leads:
            leads.add(i)
    kept = reached & leads
    return sorted(kept), [(i, j) for i, j in edges if i in kept and j in kept]


def normalised(labels: Sequence[int], code: int) -> tuple[tuple[int, ...], tuple[Edge, ...]]:
    """Labels of the interior vertices and edges of the normal form of a pruned graph, given its labels and its wiring.

    Raises `KeyError` for a wiring that is none of the benchmark's.
    """
    known = wirings()
    normal, order = known.normal[code]
    labels = tuple([labels[vertex - 1] for vertex in order[1:-1]])
    same = known.automorphisms[normal]
    if len(same) > 1:
        labels = min([tuple([labels[vertex - 1] for vertex in order[1:-1]]) for order in same])
    return labels, known.edges[normal]


def in_order(vertices: int, edges: Iterable[Edge]) -> list[int] | None:
    """The vertices in a topological order of `edges` between any two of them, first and last in place; None where there is a cycle."""
    edges = set(edges)
    order, left = [0], list(range(1, vertices))
    while left:
        ready = next((v for v in left if not any(j == v and i in left for i, j in edges)), None)
        if ready is None:
            return None
        left.remove(ready)
        order.append(ready)
    order.remove(vertices - 1)
    return [*order, vertices - 1]


def cell(index: int) -> tuple[tuple[int, ...], tuple[Edge, ...]]:
    """Labels and edges of the cell of this number, in the order of `cells`."""
    known = wirings()
    place = int(np.searchsorted(known.ends, index, side="right"))
    code = _codes()[place]
    rows = known.labellings[code]
    return tuple(rows[index - int(known.ends[place])].tolist()), known.edges[code]


@cache
def _codes() -> tuple[int, ...]:
    return tuple(wirings().vertices)


def cells() -> Iterator[tuple[tuple[int, ...], tuple[Edge, ...]]]:
    """Labels of the interior vertices and edges of every cell once: those of few vertices first."""
    known = wirings()
    for code, rows in known.labellings.items():
        for labels in rows.tolist():
            yield tuple(labels), known.edges[code]


@lru_cache(maxsize=1 << 16)
def md5(labels: tuple[int, ...], edges: tuple[Edge, ...]) -> str:
    """The benchmark's hash of a pruned graph, the same for every order of its vertices.

    Labels are refined as often as there are vertices, each by the sorted labels of the vertices before and after it (the
    algorithm of Weisfeiler and Lehman). `labels` number conv3x3, conv1x1, maxpool3x3, as the benchmark's configuration does.
    """
    incoming, outgoing = _adjacent(len(labels) + 2, edges)
    now = [
        _hex(f"({len(out)}, {len(into)}, {label})")
        for out, into, label in zip(outgoing, incoming, (-1, *labels, -2), strict=True)
    ]
    for _ in now:
        now = [
            _hex(f"{''.join(sorted([now[i] for i in into]))}|{''.join(sorted([now[i] for i in out]))}|{own}")
            for into, out, own in zip(incoming, outgoing, now, strict=True)
        ]
    return _hex(str(sorted(now)))


@lru_cache(maxsize=4096)
def _adjacent(vertices: int, edges: tuple[Edge, ...]) -> tuple[list[list[int]], list[list[int]]]:
    """The vertices before and after each."""
    incoming = [[i for i, j in edges if j == vertex] for vertex in range(vertices)]
    return incoming, [[j for i, j in edges if i == vertex] for vertex in range(vertices)]


def _hex(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
