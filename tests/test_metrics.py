"""Distances of graphs against closed forms."""

from __future__ import annotations

import pytest

from diffnag.arch import Arch
from diffnag.generators.metrics import GraphStatistics
from diffnag.search_spaces.mobilenetv3.space import MobileNetV3
from diffnag.search_spaces.nasbench101.space import NASBench101


def test_what_is_counted_of_graphs():
    space = NASBench101()
    archs = [space.from_str(text) for text in ("output@0", "conv3x3@0/maxpool3x3@1/output@0,2")]
    found = GraphStatistics.of(archs, space)
    assert found.edges.tolist() == [1, 4] and found.depth.tolist() == [1, 3]
    names = [space.operators[k] for k in found.operators[1].nonzero()[0]]
    assert names == ["input", "conv3x3-bn-relu", "maxpool3x3", "output", "absent"]
    assert found.operators.sum(1).tolist() == [7, 7] and found.operators[0].tolist() == [1, 0, 0, 0, 1, 5]


def test_distances_are_how_far_the_counts_must_be_moved():
    space = MobileNetV3()
    least, most = (space.of_stages([[0] * depth] * 5) for depth in (2, 4))
    one, two = (GraphStatistics.of(archs, space) for archs in ([least], [most, most, least, least]))
    assert one.distances(one) == {"edges": 0, "depth": 0, "operators": 0}
    # half of the graphs have 10 layers more, and 10 absent ones fewer; there are ten operators
    assert one.distances(two) == pytest.approx({"edges": 5, "depth": 5, "operators": (5 + 5) / 10})


def test_depth_is_the_longest_path_wherever_it_ends():
    arch = Arch((0,) * 20, ((0, 19), (1, 2), (2, 5), (1, 5), (5, 7)))
    assert GraphStatistics.of([arch], MobileNetV3()).depth.tolist() == [3]
