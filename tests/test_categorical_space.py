"""A space given by its choices keeps the contract, and says what is wrong with a string or a graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from torch import nn

from diffnag import Arch, CategoricalSpace, UserError
from diffnag.testing import SearchSpaceContract

LAYERS = ("conv1x1", "conv3x3")


class Depths(CategoricalSpace):
    """One to three layers: the number of nodes varies, and with it the wiring."""

    name, nodes, operators = "depths", 4, ("input", *LAYERS)
    parameters: Mapping[str, tuple[str, ...]] = {"depth": ("1", "2", "3"), "layer": LAYERS}

    def from_parameters(self, parameters: Mapping[str, str]) -> Arch:
        depth = int(parameters["depth"])
        op = self.operators.index(parameters["layer"])
        return Arch((0, *[op] * depth), tuple((i, i + 1) for i in range(depth)))

    def to_parameters(self, arch: Arch) -> dict[str, str]:
        return {"depth": str(len(arch.ops) - 1), "layer": self.operators[arch.ops[1]]}

    def build(self, arch: Arch, *, channels: int = 16, cells: int = 1, num_classes: int, stem_stride: int = 1) -> nn.Module:
        kernels = [1 if self.operators[op] == "conv1x1" else 3 for op in arch.ops[1:]] * cells
        layers = [nn.Conv2d(channels, channels, k, padding=k // 2) for k in kernels]
        stem = nn.Conv2d(3, channels, 3, padding=1, stride=stem_stride)
        return nn.Sequential(stem, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


class TestDepths(SearchSpaceContract):
    @pytest.fixture
    def space(self) -> Depths:
        return Depths()


def test_all_that_there_are() -> None:
    space = Depths()
    every = list(space.enumerate() or ())
    assert len(set(every)) == 6 and [space.to_str(arch) for arch in every[:2]] == ["1,conv1x1", "1,conv3x3"]
    V, E = space.constant
    assert V[0].all() and not V[1:, 1:].any() and E[0].all() and not E[1, 2] and not E[2, 3]


def test_size_is_that_of_the_network() -> None:
    space = Depths()
    size = space.size(space.from_str("2,conv3x3"), channels=4, num_classes=3, image_size=8, stem_stride=2)
    assert size.params == (27 * 4 + 4) + 2 * (36 * 4 + 4) + (4 * 3 + 3)
    assert size.flops == 16 * size.params - 15 * 15  # 4 x 4 places, the last layer but once


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("2", "has 1 choices; expected are 2: depth, layer"), ("4,conv1x1", "depth is '4'; accepted are 1, 2, 3")],
)
def test_bad_strings(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Depths().from_str(text)


def test_graphs_of_fewer_nodes_are_read_from_bytes() -> None:
    space = Depths()
    for arch in space.enumerate() or ():
        V, E = space.encode(arch)
        assert space.decode(V.astype(np.uint8), E.astype(np.uint8)) == (arch, None)


def test_graphs_of_no_choices() -> None:
    space = Depths()
    V, E = space.encode(space.from_str("2,conv3x3"))
    mixed, gap, loose = V.copy(), V.copy(), E.copy()
    mixed[2] = [0, 1, 0]
    gap[1] = 0
    loose[2, 3] = 1
    reasons = ("no choices of depths", "without an operator comes before", "at a node without an operator")
    for broken, reason in zip(((mixed, E), (gap, E), (V, loose)), reasons, strict=True):
        arch, why = space.decode(*map(np.asarray, broken))
        assert arch is None and why is not None and reason in why
