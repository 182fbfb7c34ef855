"""Graphs of NAS-Bench-101 (Ying et al., ICML 2019, section 2): pruning, normal form, enumeration, hash.

A cell has at most 7 vertices, the first its input and the last its output, and at most 9 edges. Every vertex lies on a path from input to
output. A normal form fixes the order of the vertices, so that each of the 423,624 cells is exactly one graph: the one that the
benchmark's own enumeration finds first. The network depends on this order if channels cannot be shared out evenly. A wiring is written as
an integer with one bit for each edge (`BITS`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

VERTICES, EDGES = 7, 9
"""Largest numbers in a cell."""
LABELS = 3
"""Number of operations for an interior vertex."""
Edge = tuple[int, int]
"""From vertex, to vertex."""
COUNT = 423_624
"""Number of cells; a test compares it with the enumeration."""
PAIRS: tuple[Edge, ...] = tuple((i, j) for j in range(VERTICES) for i in range(j))
"""All possible edges of a cell."""
BITS = {pair: 1 << k for k, pair in enumerate(PAIRS)}
"""Edge -> its bit in the integer of a wiring."""
BACKWARDS = 1 << len(PAIRS)
"""Stands for a matrix that is not upper triangular; larger than the integer of any wiring."""


class Wirings(NamedTuple):
    """All wirings of the benchmark with their normal forms."""

    normal: dict[int, tuple[int, tuple[int, ...]]]
    """Wiring -> its normal form, and the wiring's vertex for each vertex of the normal form."""
    automorphisms: dict[int, list[tuple[int, ...]]]
    """Normal form -> the orders of its vertices that give the same wiring again."""
    edges: dict[int, tuple[Edge, ...]]
    """Normal form -> its edges."""
    vertices: dict[int, int]
    """Normal form -> number of its vertices; sorted by this number, then by wiring."""
    labellings: dict[int, np.ndarray]
    """Normal form -> labels of the interior vertices `(m, vertices - 2)`, one row for each cell with this wiring."""
    ends: np.ndarray
    """Number of cells with this or an earlier wiring, in the order of `vertices`."""


def wiring(edges: Iterable[Edge]) -> int:
    """The integer of a wiring with edges `i -> j`, i < j."""
    return sum(BITS[edge] for edge in edges)


@cache
def wirings() -> Wirings:
    """All wirings, computed once in a process (0.2 s). The normal form of a wiring is the smallest integer over all orders of vertices."""
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
    """All upper-triangular adjacency matrices `(m, n, n)` with at most 9 edges and every vertex on a path from the first to the last."""
    i, j = np.triu_indices(n, 1)
    codes = np.arange(1 << len(i), dtype=np.uint32)
    for vertex in range(n):
        for incident in (*([i == vertex] if vertex < n - 1 else []), *([j == vertex] if vertex else [])):
            codes = codes[codes & np.uint32((1 << np.flatnonzero(incident)).sum()) != 0]
    graphs = np.zeros((len(codes), n, n), dtype=np.int32)
    graphs[:, i, j] = codes[:, None] >> np.arange(len(i), dtype=np.uint32) & 1
    return graphs[graphs.sum((1, 2)) <= EDGES]


def _wiring_of(graphs: np.ndarray) -> np.ndarray:
    """The integers `(m,)` of adjacency matrices `(m, n, n)`; `BACKWARDS` for a matrix with an edge to an earlier vertex."""
    n = graphs.shape[1]
    weights = np.array([[BITS.get((i, j), 0) for j in range(n)] for i in range(n)], dtype=np.int32)
    return np.where(np.tril(graphs).any((1, 2)), BACKWARDS, np.tensordot(graphs, weights, 2))


def _labellings(n: int, automorphisms: list[tuple[int, ...]]) -> np.ndarray:
    """Labels of the interior vertices `(m, n - 2)`, one row for each class under the automorphisms: its smallest, in ascending order."""
    interior = n - 2
    rows = np.indices((LABELS,) * interior, dtype=np.int8).reshape(interior, LABELS**interior).T
    weights = LABELS ** np.arange(interior)[::-1]
    images = [rows[:, np.array(order[1:-1], dtype=int) - 1] @ weights for order in automorphisms]
    return rows[rows @ weights == np.min(images, axis=0)]


def pruned(vertices: int, edges: Iterable[Edge]) -> tuple[list[int], list[Edge]]:
    """The vertices on a path from the first to the last, ascending, and the edges between them; two empty lists if there is no path.

    All edges lead from lower to higher vertices.
    """
    edges = sorted(edges)
    reached, leads = {0}, {vertices - 1}
    for i, j in edges:  # ascending in i: all edges to i come before
        if i in reached:
            reached.add(j)
    for i, j in reversed(edges):
        if j in leads:
            leads.add(i)
    kept = reached & leads
    return sorted(kept), [(i, j) for i, j in edges if i in kept and j in kept]


def on_a_path(E: np.ndarray) -> np.ndarray:
    """Which vertices of upper-triangular graphs `E (b, n, n)` lie on a path from the first to the last, `(b, n)` bool."""
    n = E.shape[1]
    there = E.astype(bool)
    reached, leads = np.zeros((len(E), n), dtype=bool), np.zeros((len(E), n), dtype=bool)
    reached[:, 0] = leads[:, -1] = True
    for vertex in range(1, n):
        reached[:, vertex] = (reached & there[:, :, vertex]).any(1)
        leads[:, n - 1 - vertex] = (leads & there[:, n - 1 - vertex]).any(1)
    kept: np.ndarray = reached & leads
    return kept


def wirings_of(E: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The integers `(b,)` of the graphs that the vertices `kept (b, n)` and the edges between them in `E (b, n, n)` make."""
    place = kept.cumsum(1) - 1
    bits = np.zeros((VERTICES, VERTICES), dtype=np.int64)
    for (i, j), bit in BITS.items():
        bits[i, j] = bit
    between = E.astype(bool) & kept[:, :, None] & kept[:, None, :]
    return np.asarray((bits[place[:, :, None], place[:, None, :]] * between).sum((1, 2)))


def normalised(labels: Sequence[int], code: int) -> tuple[tuple[int, ...], tuple[Edge, ...]]:
    """Labels of the interior vertices and edges of the normal form, for a pruned graph with these `labels` and the wiring `code`.

    Raises `KeyError` for a wiring that is not in the benchmark.
    """
    known = wirings()
    normal, order = known.normal[code]
    labels = tuple([labels[vertex - 1] for vertex in order[1:-1]])
    same = known.automorphisms[normal]
    if len(same) > 1:
        labels = min([tuple([labels[vertex - 1] for vertex in order[1:-1]]) for order in same])
    return labels, known.edges[normal]


def in_order(vertices: int, edges: Iterable[Edge]) -> list[int] | None:
    """The vertices in a topological order of `edges`, with the first and the last in place; None if there is a cycle."""
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
    """Labels and edges of the cell with this index in the order of `cells`."""
    known = wirings()
    place = int(np.searchsorted(known.ends, index, side="right"))
    code = _codes()[place]
    rows = known.labellings[code]
    return tuple(rows[index - int(known.ends[place])].tolist()), known.edges[code]


@cache
def _codes() -> tuple[int, ...]:
    """The normal forms in the order of `Wirings.vertices`."""
    return tuple(wirings().vertices)


def cells() -> Iterator[tuple[tuple[int, ...], tuple[Edge, ...]]]:
    """Labels of the interior vertices and edges of every cell once, in the order of the number of vertices."""
    known = wirings()
    for code, rows in known.labellings.items():
        for labels in rows.tolist():
            yield tuple(labels), known.edges[code]


@lru_cache(maxsize=1 << 16)
def md5(labels: tuple[int, ...], edges: tuple[Edge, ...]) -> str:
    """The benchmark's hash of a pruned graph; it does not depend on the order of the vertices.

    In each of as many rounds as there are vertices, the label of a vertex is combined with the sorted labels of the vertices before and
    after it (the algorithm of Weisfeiler and Lehman). `labels` are 0 for conv3x3, 1 for conv1x1 and 2 for maxpool3x3, as in the
    benchmark's configuration.
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
    """For each vertex, the vertices with an edge to it and those with an edge from it."""
    incoming = [[i for i, j in edges if j == vertex] for vertex in range(vertices)]
    return incoming, [[j for i, j in edges if i == vertex] for vertex in range(vertices)]


def _hex(text: str) -> str:
    """MD5 of a text in hexadecimal digits."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
