"""The family `coordinates`: contract, the lift against path lengths, equivariance, reconstruction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffnag.arch import ArchBatch
from diffnag.generators.coordinates.family import CoordinatesFamily
from diffnag.generators.coordinates.network import JointUpdate, gram
from diffnag.generators.coordinates.options import Config
from diffnag.generators.loading import load_generator
from diffnag.networks.build import seeded
from diffnag.search_spaces.nasbench101.space import NASBench101
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import GeneratorContract
from diffnag.testing.draws import draws
from tests.exact_space import ARCHS, SPACE

FAMILY = CoordinatesFamily()


class TestCoordinates201(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return load_generator(NASBench201(), "coordinates")


class TestCoordinates101(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return load_generator(NASBench101(), "coordinates")


def test_squared_distances_are_path_lengths():
    """A path of four nodes and a lonely one: lengths 1, 2, then 3 for all that is farther."""
    E = torch.zeros(1, 5, 5)
    E[0, [0, 1, 2], [1, 2, 3]] = 1
    inner = gram(E)[0]
    squared = inner.diag()[:, None] + inner.diag() - 2 * inner
    expected = torch.tensor([[0, 1, 2, 3, 3], [1, 0, 1, 2, 3], [2, 1, 0, 1, 3], [3, 2, 1, 0, 3], [3, 3, 3, 3, 0.0]])
    torch.testing.assert_close(squared, expected)
    torch.testing.assert_close(inner.sum(0), torch.zeros(5), atol=1e-6, rtol=0)


def test_enough_dimensions_keep_every_distance():
    """In 200 cells of NAS-Bench-101: five dimensions tell all edges by one threshold, three do not."""
    space = NASBench101()
    batch = ArchBatch.of(draws(space, 200), space)
    i, j = torch.triu_indices(7, 7, 1)
    there = batch.E[:, i, j] > 0
    exact = {}
    for k in (3, 5):
        points = FAMILY.build(space, Config(dimensions=k, width=8, layers=1), seed=0).lift(batch)[..., :k] / k**0.5
        exact[k] = float((((points[:, i] - points[:, j]).square().sum(2) < 1.5) == there).all(1).float().mean())
    assert exact[5] > 0.97 > exact[3] > 0.5


def test_the_denoiser_turns_with_its_points():
    """A rotation, reflection and shift of the points turns the estimate, and leaves operators and edges as they are."""
    net = FAMILY.build(SPACE, Config(width=16, layers=2, joint=8), seed=0).double().eval()
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(6, SPACE.nodes, net.channels, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    moved = torch.cat([state[..., :3] @ turn + 2.0, state[..., 3:]], dim=2)
    level = torch.linspace(0.2, 5, 6, dtype=torch.float64)
    one, two = net.estimate(state, level), net.estimate(moved, level)
    torch.testing.assert_close(one.points @ turn, two.points)
    torch.testing.assert_close(one.operators, two.operators)
    torch.testing.assert_close(one.edges, two.edges)
    torch.testing.assert_close(one.points.mean(1), torch.zeros(6, 3, dtype=torch.float64))


def test_a_share_of_a_batch_has_its_own_loss():
    net, batch = FAMILY.build(SPACE, Config(width=16, layers=1), seed=0).eval(), ArchBatch.of(ARCHS[:8], SPACE)
    whole, half = (FAMILY.loss(net, batch, generator=torch.Generator().manual_seed(1), share=share) for share in (slice(None), slice(1, None, 2)))
    torch.testing.assert_close(whole[1::2], half)


@pytest.mark.parametrize("space", [NASBench201(), NASBench101()], ids=lambda space: space.name)
def test_what_is_lifted_is_read_again(space):
    figures = load_generator(space, "coordinates").figures(ArchBatch.of(draws(space, 256), space))
    assert figures["reconstructed"] >= 0.95


def test_pairs_correct_each_other():
    """Before training the joint part of a layer adds nothing; after it, the correction of one pair of nodes depends on another pair."""
    with seeded(0):
        part = JointUpdate(4, 8, 16)
    read, messages = torch.randn(2, 4, 8), torch.randn(2, 4, 4, 8)
    moved, corrections = part(read, messages)
    assert not moved.any() and not corrections.any() and corrections.shape == messages.shape
    nn.init.ones_(part.last.weight)
    nn.init.ones_(part.widen.weight)
    other = messages.clone()
    other[:, 2, 3] += 1
    one, two = part(read, messages)[1], part(read, other)[1]
    assert (one[:, 0, 1] != two[:, 0, 1]).all() and torch.equal(one, one.transpose(1, 2)) and not one[:, 0, 0].any()
