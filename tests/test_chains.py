"""Chains that are decoded together: exactly the graphs of the rules are read, and the others get the reason that they get one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from diffnag.arch import Arch
from diffnag.protocols import Decoded
from diffnag.search_spaces.shared.chains import Chains, edges_between, wirings
from diffnag.spaces.decoding import decode_all
from diffnag.spaces.loading import load_space

REFUSED = Decoded(None, "refused")
POSSIBLE = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
"""Node 0 is never absent, and node 1 has one operator."""


@pytest.mark.parametrize(("behind", "count"), [([0, 0, 0], 6), ([0, 0, 1], 4)])
def test_all_graphs_of_three_nodes(behind: list[int], count: int) -> None:
    rows = np.array(list(itertools.product([0, 1], repeat=3)))
    V = np.array(list(itertools.product(rows, repeat=3)))  # any number of operators a node
    E = np.array(list(itertools.product([0, 1], repeat=9))).reshape(-1, 3, 3)
    every_V, every_E = V.repeat(len(E), axis=0).astype(np.uint8), np.tile(E, (len(V), 1, 1)).astype(np.uint8)
    seen = []

    def refused(v: np.ndarray, e: np.ndarray) -> Decoded:
        seen.append((v, e))
        return REFUSED

    decoded = Chains(POSSIBLE, np.array(behind, dtype=bool)).decode(every_V, every_E, refused)
    assert len(decoded) == len(every_V) == 8**3 * 2**9 and len(seen) == len(decoded) - count
    read = {k: item.arch for k, item in enumerate(decoded) if item.arch is not None}
    expected = set()
    for ops in itertools.product([0], [1, 2], [0, 1, 2]):
        if not (behind[2] and ops[1] == 2 != ops[2]):
            present = [node for node, op in enumerate(ops) if op != 2]
            expected.add(Arch(ops, tuple(itertools.pairwise(present))))
    assert set(read.values()) == expected and len(expected) == len(read) == count
    for k, arch in read.items():
        for matrix, given in zip(arch.matrices(nodes=3, operators=3), (every_V[k], every_E[k]), strict=True):
            assert np.array_equal(matrix, given)


def test_wirings_are_the_edges() -> None:
    every = np.array(list(itertools.product([False, True], repeat=6)))
    for present, wiring in zip(every, wirings(every), strict=True):
        edges = edges_between(tuple(present.tolist()))
        assert edges == tuple(map(tuple, np.argwhere(wiring).tolist())) and len(edges) == max(0, present.sum() - 1)
    assert edges_between((True, False, False, True, True)) == ((0, 3), (3, 4))


@pytest.mark.parametrize(
    ("name", "last", "reasons"),
    [
        ("mobilenetv3", 3, {
            "node 1 is absent, but a stage has at least 2 layers", "node 3 is a layer, but node 2 before it in the stage is absent",
            "node 0 has 2 operators", "edge 0->1 is missing with these layers", "edge 1->0 is not in the space with these layers", None,
        }),
        ("gpt-s", 12, {
            "node 1 is absent, but there are at least 10 layers", "node 12 is a layer, but node 11 before it is absent",
            "node 0 has 2 operators", "edge 0->1 is missing with these layers", "edge 1->0 is not in the space with these layers", None,
        }),
    ],
)  # fmt: skip
def test_reasons_of_a_batch(name: str, last: int, reasons: set[str | None]) -> None:
    space = load_space(name)
    V, E = (np.stack([part] * 6).astype(np.uint8) for part in space.encode(space.random(np.random.default_rng(0))))
    layer, absent = np.eye(len(space.operators), dtype=np.uint8)[-2:]
    V[0, 1] = absent
    V[1, last - 1], V[1, last] = absent, layer
    V[2, 0] = [1, 1, *[0] * (len(absent) - 2)]
    E[3, 0, 1] = 0
    E[4, 1, 0] = 1
    assert {item.reason for item in decode_all(space, V, E)} == reasons
