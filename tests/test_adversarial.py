"""The family `adversarial`: contract, gradients against closed forms, the law of a draw, bad input."""

import numpy as np
import pytest
import torch

from diffnag.arch import ArchBatch
from diffnag.errors import UserError
from diffnag.generators.adversarial.family import AdversarialFamily
from diffnag.generators.adversarial.options import Config
from diffnag.generators.loading import load_generator
from diffnag.search_spaces.nasbench101.space import NASBench101
from diffnag.search_spaces.nasbench201.space import NASBench201
from diffnag.spaces.draws import random_archs
from diffnag.testing.generators import GeneratorContract

FAMILY = AdversarialFamily()
SPACE = NASBench201()


class TestAdversarial201(GeneratorContract):
    @pytest.fixture
    def generator(self):
        return load_generator(NASBench201(), "adversarial")


@pytest.fixture
def net():
    return FAMILY.build(SPACE, Config(width=16, latents=4, blocks=1), seed=0)


@pytest.fixture
def batch():
    return ArchBatch.of(random_archs(SPACE, 8, seed=0), SPACE)


def test_one_loss_pulls_critic_and_generator_apart(net, batch):
    """The critic's gradient is that of the loss; the generator's is that of the critic's value of its samples, upwards."""
    latents, u, mix = torch.randn(8, 4), torch.rand(8, net.packing.size), torch.rand(8)
    net.losses(batch, latents, u, mix).sum().backward()
    reversed_slope = next(net.generator.parameters()).grad.clone()
    critic_slope = net.critic[-1].bias.grad.clone()
    net.zero_grad()
    (-net.critic(net.sampled(net.drawn(latents, u))).sum()).backward()
    torch.testing.assert_close(reversed_slope, next(net.generator.parameters()).grad)
    torch.testing.assert_close(critic_slope, torch.zeros(1), atol=1e-4, rtol=0)  # a constant raises both values alike


def test_the_penalty_of_a_linear_critic_is_known(net, batch):
    """Its slope is its weight everywhere; with equal values of both sides nothing else is left but the reader's loss."""
    weight = torch.zeros(1, net.packing.size)
    weight[0, :4] = 1.5
    net.critic = torch.nn.Linear(net.packing.size, 1)
    net.critic.weight.data.copy_(weight)
    latents, u = torch.randn(8, 4), torch.rand(8, net.packing.size)
    found = net.losses(batch, latents, u, torch.rand(8))
    fake = net.sampled(net.drawn(latents, u))
    apart = (net.critic(fake) - net.critic(net.packing.pack(batch.V, batch.E))).squeeze(1)
    reading = (net.reader(fake) - latents).square().mean(1)
    torch.testing.assert_close(found, apart + net.config.penalty * (3.0 - 1) ** 2 + reading)


def test_entries_are_drawn_by_their_probabilities(net):
    """The share of each operator of node 1 over many draws of one latent vector, within five standard errors."""
    latents = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).repeat(20_000, 1)
    u = torch.rand(20_000, net.packing.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        operators, _ = net.likeliest(net.drawn(latents, u))
        expected = net.within_space(net(latents[:1]))[0].softmax(2)[0, 1]
    found = torch.bincount(operators[:, 1], minlength=7) / 20_000
    assert (found - expected).abs().max() < 5 * (0.25 / 20_000) ** 0.5


def test_shares_of_a_batch_add_up(net, batch):
    whole = FAMILY.loss(net, batch, generator=torch.Generator().manual_seed(0))
    halves = [FAMILY.loss(net, batch, generator=torch.Generator().manual_seed(0), share=part) for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize("space", [NASBench201(), NASBench101()], ids=lambda space: space.name)
def test_the_shipped_network_drops_modes_but_not_all(space):
    archs = load_generator(space, "adversarial").sample(512, seed=0).archs
    assert 0.2 < len(set(archs)) / max(len(archs), 1) <= 1


def test_other_options_are_refused(net):
    with pytest.raises(UserError, match="the family 'adversarial' takes its own Sampling options, not a str"):
        FAMILY.generator(SPACE, net).sample(1, seed=0, sampling="argmax")
    assert np.isfinite(net.config.penalty)
