"""The variational bound of a diffusion: equal to the true log probability where the denoiser is exact, and a bound where it is not."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diffnag.generators.diffusion.family import SDEFamily
from diffnag.generators.diffusion.generator import Generator
from diffnag.generators.diffusion.likelihood import Prior, log_bound
from diffnag.generators.diffusion.options import Config
from diffnag.generators.diffusion.sde import SEGMENTS, LearnedSDE, from_json, make_sde, to_json
from diffnag.generators.loading import load_generator
from diffnag.generators.trained import Noise
from diffnag.protocols import HasLikelihood
from diffnag.spaces.loading import load_space
from diffnag.testing import LikelihoodContract
from tests.exact_space import ARCHS, SPACE, ExactDenoiser, points


class Exact(ExactDenoiser):
    """With what the bound reads beside the estimate; `blur` mixes the estimate with the mean of all architectures."""

    def __init__(self, sde, blur: float = 0.0) -> None:
        super().__init__(sde)
        self.blur = blur

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (1 - self.blur) * super().forward(x, t) + self.blur * points().mean(0)

    def surprise(self, x: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        is_one = (self(x, t) + 1) / 2
        cut = SPACE.nodes * len(SPACE.operators)
        rows, edges, true = is_one[:, :cut], is_one[:, cut:], x0 > 0
        right = torch.where(true[:, cut:], edges, 1 - edges)
        return -rows[true[:, :cut]].view(len(x), -1).log().sum(1) - right.clamp_min(1e-12).log().sum(1)


class TestShipped(LikelihoodContract):
    asked, most_summed = 6, 0

    @pytest.fixture
    def generator(self):
        return load_generator(load_space("nasbench201"), "sde")


class TestUntrained(LikelihoodContract):
    asked = 10

    @pytest.fixture
    def generator(self):
        return Generator(SPACE, SDEFamily().build(SPACE, Config(width=16, layers=1, heads=2), seed=0).eval())


@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp"])
def test_the_bound_of_an_exact_denoiser_is_the_log_probability(name):
    """54 architectures are equally likely. The mean over all of them and eight draws of the noise has an error of .01 nats."""
    generator = Generator(SPACE, Exact(make_sde(name)))
    found = [generator.log_prob(ARCHS, seed=seed) for seed in range(8)]
    assert {one.kind for one in found} == {"bound"} and isinstance(generator, HasLikelihood)
    assert np.mean([one.nats for one in found]) == pytest.approx(-math.log(len(ARCHS)), abs=0.05)


def test_a_worse_denoiser_has_a_lower_bound():
    good, bad = (Generator(SPACE, Exact(make_sde("ve"), blur)).log_prob(ARCHS, seed=0).nats.mean() for blur in (0.0, 0.1))
    assert bad < good - 0.5


def test_the_divergence_from_the_prior_is_that_of_two_normal_laws():
    prior = Prior(torch.tensor([0.5, -1.0]), torch.tensor([0.25, 0.0]))
    x0, level = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.tensor(2.0)
    one = torch.distributions.Normal(x0, level)
    other = torch.distributions.Normal(prior.mean, (level**2 + prior.variance).sqrt())
    torch.testing.assert_close(prior.divergence(x0, level), torch.distributions.kl_divergence(one, other).sum(1))


def test_the_bound_is_seeded_and_unbiased_in_the_number_of_levels():
    denoiser = Exact(make_sde("ve"))
    prior = Prior.of(denoiser, SPACE)  # type: ignore[arg-type]
    few, again, many = (
        torch.stack([log_bound(denoiser, points().repeat(9, 1), prior, noise=Noise(seed), levels=levels) for seed in range(11)])  # type: ignore[arg-type]
        for levels in (32, 32, 128)
    )
    assert torch.equal(few, again)
    assert few.mean().item() == pytest.approx(many.mean().item(), abs=0.08)


def learned() -> LearnedSDE:
    """A level that is steep at both ends."""
    return LearnedSDE.of_squares(torch.linspace(-1, 1, SEGMENTS) ** 4 + 0.01)


def test_a_learned_process_is_the_sde_of_its_marginals():
    """`d log alpha / dt = f` and `d sigma^2 / dt = 2 f sigma^2 + g^2`, by finite differences within the segments."""
    sde, h = learned(), 1e-5
    t = (torch.arange(SEGMENTS, dtype=torch.float64) + 0.5) / SEGMENTS
    (alpha, sigma), (more_alpha, more_sigma), (less_alpha, less_sigma) = (sde.marginal(t + d) for d in (0.0, h, -h))
    f, g = sde.drift_diffusion(t)
    torch.testing.assert_close((more_alpha.log() - less_alpha.log()) / (2 * h), f, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close((more_sigma**2 - less_sigma**2) / (2 * h), 2 * f * sigma**2 + g**2, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    assert from_json(json.loads(json.dumps(to_json(sde)))) == sde


def test_learned_levels_make_the_loss_vary_least():
    """With the squares known, the estimate `rate x loss` at even times has almost the least second moment: the square of the mean root."""
    centres = torch.linspace(math.log(0.2), math.log(20), SEGMENTS + 1)[:-1] + math.log(100) / SEGMENTS / 2
    root = torch.exp(-((centres - centres.mean()) ** 2) * 2) + 0.02
    t = torch.linspace(0, 1, 100_001)[1:]
    moments = []
    for sde in (LearnedSDE(), LearnedSDE.of_squares(root**2)):
        level = sde.noise_to_signal(t).log()
        loss = torch.from_numpy(np.interp(level, centres, root))
        moments.append(((sde.rate(t) * loss) ** 2).mean().item())
    least = (root.mean() * math.log(100)).item() ** 2
    assert least * 0.98 < moments[1] < 1.15 * least < moments[0] / 1.5


def test_a_learned_process_is_trained_saved_and_loaded(tmp_path):
    from diffnag import load_denoiser
    from diffnag.generators.diffusion.family import SDEFamily
    from diffnag.generators.diffusion.options import Config
    from diffnag.generators.options import Training
    from diffnag.generators.training import train

    out = tmp_path / "learned.safetensors"
    train(SDEFamily(), Training(space="nasbench201", steps=30, batch_size=64), Config(sde="learned", width=16, layers=1), out=out, device="cpu")
    denoiser = load_denoiser(load_space("nasbench201"), out)
    assert isinstance(denoiser.sde, LearnedSDE) and denoiser.sde.knots != LearnedSDE().knots
    assert len(Generator(load_space("nasbench201"), denoiser).sample(8, seed=0).decoded) == 8
