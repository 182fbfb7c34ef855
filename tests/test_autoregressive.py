"""The family `autoregressive`: contracts, symbols of every space, probabilities against enumeration, moves that leave a law in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.autoregressive.family import AutoregressiveFamily
from diffnag.generators.autoregressive.options import Config, Sampling
from diffnag.generators.diffusion.options import Sampling as OtherSampling
from diffnag.generators.loading import load_generator
from diffnag.generators.network import shipped_network
from diffnag.generators.reference import UniformGenerator
from diffnag.plugins import names
from diffnag.protocols import CountsInputs
from diffnag.spaces.draws import random_archs
from diffnag.spaces.loading import load_space
from diffnag.testing import GeneratorContract, LikelihoodContract, draws
from tests.exact_space import ARCHS, SPACE

FAMILY = AutoregressiveFamily()


@pytest.fixture(scope="module")
def untrained():
    """A generator whose law is far from uniform, over a space that can be summed over."""
    return FAMILY.generator(SPACE, FAMILY.build(SPACE, Config(width=16), seed=1).eval().requires_grad_(False))


class TestShipped(GeneratorContract, LikelihoodContract):
    @pytest.fixture(params=["nasbench201", "nasbench101"])
    def generator(self, request):
        return load_generator(load_space(request.param), "autoregressive")


class TestUntrained(GeneratorContract, LikelihoodContract):
    @pytest.fixture
    def generator(self, untrained):
        return untrained


class TestUniform(LikelihoodContract):
    @pytest.fixture
    def generator(self):
        return UniformGenerator(load_space("nasbench201"))


@pytest.mark.parametrize("name", [name for name in names("space") if not isinstance(load_space(name), CountsInputs)])
@pytest.mark.parametrize("together", [1, 6])
def test_symbols_say_all_that_varies(name, together):
    """In every space: architectures are read as symbols and written again; no symbol has a value that is impossible."""
    space = load_space(name)
    net = FAMILY.build(space, Config(width=4, layers=1, together=together), seed=0)
    batch = ArchBatch.of(draws(space, 50), space)
    values = net.read(batch)
    V, E = net.written(values)
    assert torch.equal(V, batch.V) and torch.equal(E, batch.E)
    assert net.log_likelihood(values).isfinite().all()


def test_symbols_stand_in_the_order_of_the_nodes():
    """NAS-Bench-101: five operators vary, and all edges; the edges into a node follow its operator, the last node has edges alone."""
    net = FAMILY.build(load_space("nasbench101"), Config(), seed=0)
    assert (~net.impossible).sum(1).tolist() == [4, 2, 4, 4, 4, 8, 4, 16, 4, 32, 64]
    assert FAMILY.build(load_space("nasbench101"), Config(together=1), seed=0).symbols == 5 + 21


def test_a_symbol_depends_on_those_before_it_alone(untrained):
    net = untrained.network
    one, two = net.read(ArchBatch.of([ARCHS[0], ARCHS[-1]], SPACE)).split(1)
    for place in range(net.symbols):
        mixed = torch.cat([one[:, :place], two[:, place:]], dim=1)
        assert torch.allclose(net.log_likelihood(mixed)[:, :place], net.log_likelihood(one)[:, :place])


def test_samples_are_as_frequent_as_they_are_probable(untrained):
    """Each of the 54 architectures, against its exact probability (chi-squared, 53 degrees of freedom)."""
    archs = untrained.sample(5400, seed=0).archs
    expected = len(archs) * np.exp(untrained.log_prob(ARCHS).nats)
    assert expected.max() > 3 * expected.min() and expected.sum() == pytest.approx(len(archs), rel=1e-4)
    assert chi_squared(archs, expected) < 95


def test_a_move_leaves_the_law_in_place(untrained):
    """Samples of a law that is not uniform, moved: each architecture is there as often as it is probable."""
    archs = untrained.sample(5400, seed=1).archs
    moved = untrained.vary(archs, 5400, seed=2).archs
    assert np.mean([one != two for one, two in zip(archs, moved, strict=True)]) > 0.3
    assert chi_squared(moved, len(moved) * np.exp(untrained.log_prob(ARCHS).nats)) < 95


def chi_squared(archs, expected):
    place = {arch: k for k, arch in enumerate(ARCHS)}
    counts = np.bincount([place[arch] for arch in archs], minlength=54)
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize(("name", "count", "validity", "gap"), [("nasbench201", 15_625, 0.995, 0.1), ("nasbench101", 423_624, 0.98, 0.4)])
def test_the_shipped_network_reaches_what_was_asked(name, count, validity, gap):
    """Raw validity, and nats above the entropy of the uniform law; half of the architectures were held out from training."""
    generator = load_generator(load_space(name), "autoregressive")
    found = -generator.log_prob(random_archs(generator.space, 4000, seed=0)).nats - np.log(count)
    assert len(generator.sample(2048, seed=0).archs) >= validity * 2048
    assert -5 * found.std() / len(found) ** 0.5 <= found.mean() <= gap


def test_bad_input():
    space = load_space("nasbench201")
    with pytest.raises(UserError, match="12,720 edges of space 'tpu-tiles' vary, of which the family 'autoregressive' accepts 2,000 at most"):
        FAMILY.build(load_space("tpu-tiles"), Config(), seed=0)
    with pytest.raises(UserError, match="no network of family 'autoregressive' is shipped for space 'darts'"):
        load_generator(load_space("darts"), "autoregressive")
    with pytest.raises(UserError, match="is a generator of family 'sde', not of 'autoregressive'"):
        load_generator(space, "autoregressive", checkpoint=shipped_network("nasbench201", "sde"))
    with pytest.raises(UserError, match="takes its own Sampling options, not a Sampling"):
        load_generator(space, "autoregressive").sample(1, seed=0, sampling=OtherSampling())
    assert load_generator(space, "autoregressive").sampling == Sampling()
    with pytest.raises(UserError, match="knows probabilities only where architectures can be counted; darts has too many"):
        UniformGenerator(load_space("darts")).log_prob([], seed=0)
