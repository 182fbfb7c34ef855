"""The family `latent`: contract, bound and divergence against closed forms, moves, guidance, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.base import Steer
from diffnag.generators.latent.family import LatentFamily
from diffnag.generators.latent.generator import LatentGenerator
from diffnag.generators.latent.options import Config, Sampling
from diffnag.generators.loading import load_generator
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.tilt import Tilt
from diffnag.search_spaces.nasbench101.space import NASBench101
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.testing import GeneratorContract, LikelihoodContract
from diffnag.testing.draws import draws
from tests.exact_space import ARCHS, SPACE
from tests.test_guidance import Relaxed

FAMILY = LatentFamily()
TINY = Config(width=16, levels=3, latents=2, blocks=1, warm_up=10)


@pytest.fixture
def tiny():
    return FAMILY.build(SPACE, TINY, seed=0).eval()


class TestLatent201(GeneratorContract, LikelihoodContract):
    most_summed = 0

    @pytest.fixture
    def generator(self):
        return load_generator(NASBench201(), "latent")


class TestUntrained(LikelihoodContract):
    @pytest.fixture
    def generator(self, tiny):
        return LatentGenerator(SPACE, tiny, Sampling(decoding="sample"))


class TestLatent101(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return load_generator(NASBench101(), "latent")


def test_the_bound_of_a_decoder_that_ignores_its_latents_is_exact(tiny):
    """Posterior = prior, and logits that do not depend on z: every weight is the probability of independent entries."""
    with torch.no_grad():
        for posterior in tiny.posteriors:
            posterior[-1].weight.zero_()
            posterior[-1].bias.copy_(torch.cat([torch.zeros(len(posterior[-1].bias) // 2), torch.ones(len(posterior[-1].bias) // 2)]))
        tiny.last[-1].weight.zero_()
        tiny.last[-1].bias.zero_()
    nats = LatentGenerator(SPACE, tiny).log_prob(ARCHS, seed=0).nats
    assert nats == pytest.approx(-math.log(54), abs=1e-5)  # three operators at three places, and one edge


@pytest.mark.parametrize("levels", [1, 3])
def test_weights_and_divergence_agree(levels):
    """`E_q [log p(z) - log q(z | A)]` by sampling is the negative KL divergence in closed form."""
    net = FAMILY.build(SPACE, Config(width=16, levels=levels, latents=2, blocks=1), seed=1).eval()
    batch, noise = ArchBatch.of([ARCHS[7]] * 40_000, SPACE), torch.randn(40_000, net.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        reconstruction, divergence = net.bound(batch, noise)
        weights = net.log_weights(batch, noise)
    assert float((weights + reconstruction).mean()) == pytest.approx(-float(divergence.sum(1).mean()), abs=0.03)


def test_a_posterior_equal_to_the_prior_costs_nothing(tiny):
    with torch.no_grad():
        units = torch.randn(5, tiny.size, generator=torch.Generator().manual_seed(0))
        found = tiny.encode(ArchBatch.of(ARCHS[:5], SPACE), units)
        again = tiny(found.units)
    torch.testing.assert_close(again, found.logits)  # the units say the same to encoder and decoder
    assert found.units.shape == (5, tiny.size) and tiny.size == 2 + 2 + SPACE.nodes


def test_the_weight_of_the_divergence_warms_up(tiny):
    batch, net = ArchBatch.of(ARCHS[:8], SPACE), tiny.train()
    first = FAMILY.loss(net, batch, generator=torch.Generator().manual_seed(0))
    assert int(net.steps) == 1
    net.steps.fill_(TINY.warm_up)
    full = FAMILY.loss(net, batch, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(8, net.size, generator=torch.Generator().manual_seed(0))
    reconstruction, divergence = net.bound(batch, noise)
    torch.testing.assert_close(first, reconstruction)
    torch.testing.assert_close(full, reconstruction + TINY.weight * divergence.sum(1))
    share = FAMILY.loss(net.eval(), batch, generator=torch.Generator().manual_seed(0), share=slice(1, None, 2))
    torch.testing.assert_close(share, full[1::2])


@pytest.mark.parametrize("space", [NASBench201(), NASBench101()], ids=lambda space: space.name)
def test_the_shipped_posterior_has_not_collapsed(space):
    """Most architectures are read off their latents again, and the bound lies near that of the uniform law."""
    generator = load_generator(space, "latent")
    archs = draws(space, 256)
    figures = generator.figures(ArchBatch.of(archs, space))
    assert figures["reconstructed"] > 0.4 and figures["active_latents"] > 0.6 * figures["latents"]
    found = generator.log_prob(archs[:64], seed=0)
    size = {"nasbench201": 15_625, "nasbench101": 423_624}[space.name]
    assert found.kind == "bound" and math.log(size) < -found.nats.mean() < math.log(size) + 2.5


@pytest.mark.parametrize("kind", ["denoised", "particles"])
def test_gradients_in_the_latent_space_reach_the_tilted_law(kind):
    """Mean z against the sum over all architectures, each as probable as the rest; Metropolis' rule takes the relaxation's bias away."""
    space = NASBench201()
    generator, tilt = load_generator(space, "latent"), Tilt(CheckedPredictor("relaxed", Relaxed(space)), space, 1.0)
    made = generator.sample(512, seed=0, steer=Steer(tilt=tilt), sampling=Sampling(guidance=kind))
    z = tilt.z(list(space.enumerate()))
    assert made.guidance == kind and (kind == "particles" or made.nfe == 62)
    assert tilt.z(made.archs).mean() == pytest.approx((z * np.exp(z)).sum() / np.exp(z).sum(), abs=0.15)


def test_the_law_that_is_bounded_can_be_drawn_from(tiny):
    generator = LatentGenerator(SPACE, tiny)
    sampled = generator.sample(64, seed=0, sampling=Sampling(decoding="sample")).decoded
    assert sampled != generator.sample(64, seed=0).decoded and all(item.arch is not None for item in sampled)


def test_bad_options_get_a_sentence(tiny):
    generator = LatentGenerator(SPACE, tiny)
    with pytest.raises(UserError, match="unknown decoding 'x'; there are: argmax, sample"):
        generator.sample(1, seed=0, sampling=Sampling(decoding="x"))
    with pytest.raises(UserError, match="temperature is 11"):
        generator.sample(1, seed=0, sampling=Sampling(temperature=11))
    with pytest.raises(UserError, match="the family 'latent' takes its own Sampling options, not a str"):
        generator.sample(1, seed=0, sampling="fast")
    with pytest.raises(UserError, match="is of space 'exact-chain', not of 'nasbench201'"):
        LatentGenerator(NASBench201(), tiny)


def test_a_saved_network_is_the_same(tmp_path, tiny):
    FAMILY.save(tmp_path / "net.safetensors", tiny, {"split": "canonical-sha256-1.0"})
    again = FAMILY.load(SPACE, tmp_path / "net.safetensors")
    assert np.array_equal(again.log_prob(ARCHS, seed=0).nats, LatentGenerator(SPACE, tiny).log_prob(ARCHS, seed=0).nats)
