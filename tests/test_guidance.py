"""Guidance against closed forms: the guided Gaussian, and exact tilts of enumerated sets."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from diffnag.errors import PredictorError, UserError
from diffnag.generators.diffusion.guided import denoised_guided, gradient_guided, within_cube
from diffnag.generators.diffusion.samplers import SAMPLERS, dpmpp, heun, time_grid
from diffnag.generators.diffusion.sde import make_sde
from diffnag.guidance.checked import CheckedPredictor
from diffnag.guidance.choice import choose
from diffnag.guidance.particles import particles
from diffnag.guidance.tilt import LEAST_LACK, NORMAL, Tilt, _best
from tests.gaussian import flow_map, log_h_of, score_of, uniform_grid

DIFFUSION = {"gradient", "denoised", "particles"}


def start(sde, count: int = 9):
    return torch.linspace(-1, 1, count, dtype=torch.float64)[:, None] * sde.marginal(torch.ones(1, dtype=torch.float64))[1]


@pytest.mark.parametrize("name", ["ve", "vp", "sub-vp"])
@pytest.mark.parametrize("sampler", [heun, dpmpp])
def test_guided_gaussian_is_the_flow_of_the_tilted_one(name, sampler):
    """log_h exact for the reward a sum(x_0) turns the flow of N(0, tau^2) into that of N(a tau^2, tau^2)."""
    sde, reward = make_sde(name), 1.5
    guided = gradient_guided(score_of(sde), log_h_of(sde, reward), torch.ones(1, dtype=torch.float64))
    ts = uniform_grid(2000, 0.9, 0.3)
    x = start(sde)
    exact = flow_map(sde, x, ts[:1], ts[-1:], reward=reward)
    out = sampler(guided, sde, x, ts, generator=torch.Generator())
    torch.testing.assert_close(out, exact, rtol=0, atol=2e-4)


def test_denoised_guidance_of_a_linear_reward_is_exact():
    """Where h is linear in x_0, the reward of the denoised estimate is the expected reward: both kinds are one."""
    sde, reward = make_sde("ve"), 0.3
    x, t = torch.randn(4, 3, dtype=torch.float64) * 0.1, torch.full((4,), 0.2, dtype=torch.float64)  # inside the cube
    free = torch.ones(3, dtype=torch.float64)
    by_estimate = denoised_guided(score_of(sde), sde, lambda x0: reward * x0.sum(1), free)(x, t)
    by_gradient = gradient_guided(score_of(sde), log_h_of(sde, reward), free)(x, t)
    torch.testing.assert_close(by_estimate, by_gradient)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))
def test_scale_zero_equals_unguided_bitwise(sampler):
    sde = make_sde("vp")
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    ts = time_grid(sde, 12)
    plain = sampler(score_of(sde), sde, x, ts, generator=torch.Generator().manual_seed(2))
    guided_score = gradient_guided(score_of(sde), log_h_of(sde, 0.0), torch.ones(3))
    guided = sampler(guided_score, sde, x, ts, generator=torch.Generator().manual_seed(2))
    assert torch.equal(plain, guided)


def test_constant_entries_are_not_guided():
    sde, free = make_sde("ve"), torch.tensor([1.0, 0.0])
    x, t = torch.ones(1, 2), torch.full((1,), 0.5)
    pushed = gradient_guided(score_of(sde), log_h_of(sde, 2.0), free)(x, t) - score_of(sde)(x, t)
    assert pushed[0, 0] > 0 and pushed[0, 1] == 0


def test_within_cube_only_touches_estimates_outside():
    sde = make_sde("ve")
    x, t = torch.tensor([[0.5, 0.1], [3.0, 0.1]]), torch.full((2,), 0.4)
    free = torch.ones(2)
    pushed = gradient_guided(score_of(sde), log_h_of(sde, 20.0), free)
    sigma = sde.marginal(t)[1][:, None]
    estimate, bounded = (x + sigma**2 * score(x, t) for score in (pushed, within_cube(pushed, sde)))
    assert (estimate > 1).all()
    torch.testing.assert_close(bounded, torch.ones(2, 2))
    inside = gradient_guided(score_of(sde), log_h_of(sde, 0.1), free)
    assert torch.equal(within_cube(inside, sde)(x[:1], t[:1]), inside(x[:1], t[:1]))


class Table:
    """Knows z of every architecture of the space, by a fixed random weight an operation: a predictor of the tests."""

    def __init__(self, space) -> None:
        self.space, self.weight = space, np.random.default_rng(3).normal(size=(8, 7))

    def fit(self, archs, y) -> None:
        raise AssertionError("nothing to fit")

    def predict(self, archs):
        mean = np.array([sum(self.weight[i, op] for i, op in enumerate(arch.ops)) for arch in archs]) * 3 + 50
        return mean, np.zeros(len(archs))


class Relaxed(Table):
    def forward(self, V, E, mask):
        return (V * torch.as_tensor(self.weight, dtype=V.dtype)).sum((1, 2)) * 3 + 50


class Noisy(Relaxed):
    def forward_noisy(self, V, E, mask, noise):
        return self.forward((V + 1) / 2, E, mask), torch.ones(len(V))


@pytest.fixture(scope="module")
def cells(space):
    return list(space.enumerate())


def test_tilt_standardises_over_the_space(space, cells):
    z = Tilt(CheckedPredictor("table", Table(space)), space, 1.0).z(cells)
    assert z.mean() == pytest.approx(0, abs=0.1) and z.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_noisy_tilt_is_that_of_a_gamma_law_below_the_best(space, scale):
    tilt = Tilt(CheckedPredictor("noisy", Noisy(space)), space, scale)
    tilt.best = 2.5
    x = torch.randn(5, 84, generator=torch.Generator().manual_seed(0))
    V, E = tilt._packing.split(x)
    z = (tilt.predictor.predictor.forward((V + 1) / 2, E, None).numpy() - tilt.centre) / tilt.spread
    variance = 1 / tilt.spread**2
    for value, mean in zip(tilt.noisy(x, torch.ones(5)).tolist(), z.astype(float), strict=True):
        lack = np.logaddexp(0, 8 * (tilt.best - mean)) / 8 + LEAST_LACK
        law = scipy.stats.gamma(a=lack**2 / variance, scale=variance / lack)
        expected = law.expect(lambda w, up=mean + lack: np.exp(scale * (up - w)))
        assert value == pytest.approx(np.log(expected), rel=1e-4, abs=1e-4)
        assert scale * mean < value < scale * (mean + lack)


@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("law", [scipy.stats.norm(), scipy.stats.uniform(), scipy.stats.skewnorm(-8), scipy.stats.gumbel_l()])
def test_the_best_makes_the_tilt_of_unknown_architectures_right(law, scale):
    z = law.ppf((np.arange(1024) + 0.5) / 1024)
    z = (z - z.mean()) / z.std()
    best = _best(z, scale)
    tilted = scale * best - best**2 * np.log1p(scale / best)
    assert tilted == pytest.approx(np.log(np.exp(scale * z).mean()), rel=1e-6)
    assert best > z.mean() and (best > 20 or law.dist.name != "norm" or scale > 1)


def test_a_tail_upwards_counts_as_normal():
    z = scipy.stats.gumbel_r().ppf((np.arange(1024) + 0.5) / 1024)
    assert _best((z - z.mean()) / z.std(), 2.0) == NORMAL == _best(np.zeros(4), 0.0)


def test_noisy_tilt_without_doubt_is_the_mean(space):
    plugin = Noisy(space)
    plugin.forward_noisy = lambda V, E, mask, noise: (plugin.forward((V + 1) / 2, E, mask), torch.zeros(len(V)))
    tilt = Tilt(CheckedPredictor("noisy", plugin), space, 3.0)
    x = torch.randn(3, 84, generator=torch.Generator().manual_seed(0))
    V, E = tilt._packing.split(x)
    mean = plugin.forward((V + 1) / 2, E, None)
    torch.testing.assert_close(tilt.noisy(x, torch.ones(3)), 3 * (mean - tilt.centre) / tilt.spread, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [lambda _: True, lambda arch: 2 not in arch.ops], ids=["all", "without a zero"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 4.0])
def test_particles_draw_the_exact_tilt(space, cells, scale, wanted):
    """With an ideal move (a few operations drawn anew, which leaves the uniform law in place) on all 15,625 cells."""
    tilt = Tilt(CheckedPredictor("table", Table(space)), space, scale)
    rng = np.random.default_rng(0)

    def renoise(archs):
        kept = [rng.random(6) < 0.7 for _ in archs]
        drawn = [space.operations(space.random(rng)) for _ in archs]
        return [
            space.of_operations(tuple(np.where(keep, space.operations(arch), new)))
            for keep, arch, new in zip(kept, archs, drawn, strict=True)
        ]

    samples = particles([space.random(rng) for _ in range(2000)], tilt, renoise, rng=rng, wanted=wanted)
    assert all(map(wanted, samples))
    z = tilt.z([cell for cell in cells if wanted(cell)])
    weights = np.exp(scale * (z - z.max()))
    exact = (weights * z).sum() / weights.sum()
    assert tilt.z(samples).mean() == pytest.approx(exact, abs=0.07)


def test_particles_of_which_none_is_wanted_stay_as_they_are(space):
    archs = [space.random(np.random.default_rng(0)) for _ in range(3)]
    tilt = Tilt(CheckedPredictor("table", Table(space)), space, 2.0)
    assert particles(archs, tilt, lambda now: now, rng=np.random.default_rng(0), wanted=lambda _: False) == archs


def test_strongest_kind_and_refusals(space):
    assert choose(CheckedPredictor("noisy", Noisy(space)), "particles") == "particles"
    with pytest.raises(UserError, match="has no forward_noisy, which gradient guidance needs; it allows denoised, particles"):
        choose(CheckedPredictor("relaxed", Relaxed(space)), "gradient", DIFFUSION)
    with pytest.raises(UserError, match="unknown guidance 'x'; there are: auto, gradient, denoised, entries, pool, particles"):
        choose(CheckedPredictor("table", Table(space)), "x")


def test_a_module_without_its_own_forward_steers_by_particles(space):
    class Inherits(Table, torch.nn.Module):
        def __init__(self, space) -> None:
            torch.nn.Module.__init__(self)
            Table.__init__(self, space)

    assert choose(CheckedPredictor("module", Inherits(space)), "auto", DIFFUSION) == "particles"


def test_wrong_answers_of_a_differentiable_predictor_are_named(space):
    class Wrong(Relaxed):
        def forward(self, V, E, mask):
            return V.sum((1, 2))[:, None]

    tilt = Tilt(CheckedPredictor("wrong", Wrong(space)), space, 1.0)
    with pytest.raises(PredictorError, match=r"predictor 'wrong' \(.*\): forward must return finite tensors of shape \(2,\)"):
        tilt.relaxed(torch.zeros(2, 84))


