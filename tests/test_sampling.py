"""Samplers against the exact Gaussian: order of convergence, law of the samples, what they count and draw."""

from __future__ import annotations

import pytest
import torch

from diffnag.generators.diffusion.samplers import (
    LANGEVIN_STEPS,
    SAMPLERS,
    RecordCalls,
    ancestral,
    annealed_langevin,
    dpmpp,
    euler_maruyama,
    heun,
    langevin_rate,
    predictor_corrector,
    time_grid,
)
from diffnag.generators.diffusion.sde import make_sde
from tests.gaussian import TAU, flow_map, score_of, uniform_grid


@pytest.fixture(params=["ve", "vp", "sub-vp"])
def sde(request):
    return make_sde(request.param)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def order(sampler, sde) -> float:
    """Slope of the log error against the exact flow map, from 80 to 320 steps, in a grid even in t."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    errors = []
    for steps in (80, 320):
        ts = uniform_grid(steps, 0.9, 0.3)
        exact = flow_map(sde, x, ts[:1], ts[-1:])
        errors.append((sampler(score_of(sde), sde, x, ts, generator=generator()) - exact).abs().max())
    return float((errors[0] / errors[1]).log() / torch.tensor(4.0).log())


@pytest.mark.parametrize("sampler", [heun, dpmpp])
def test_second_order(sampler, sde):
    assert order(sampler, sde) == pytest.approx(2.0, abs=0.12)


def test_first_step_of_dpmpp_is_exact_for_a_point():
    """With all data at zero D is constant, and DPM-Solver++ is exact in one step of any size."""
    sde = make_sde("vp")
    x = torch.randn(5, 3, generator=generator(), dtype=torch.float64)
    ts = torch.tensor([0.9, 0.2], dtype=torch.float64)

    def score(x, t):
        return -x / sde.marginal(t)[1][:, None] ** 2

    out = dpmpp(score, sde, x, ts, generator=generator())
    torch.testing.assert_close(out, x * sde.marginal(ts[1])[1] / sde.marginal(ts[0])[1])


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))
def test_samples_have_the_data_law(sampler, sde):
    """From the exact p_1, in 100 steps: mean 0 and the variance that is left at t_min."""
    ts = time_grid(sde, 100)
    (alpha, sigma), last = sde.marginal(ts[:1]), sde.marginal(ts[-1:])
    x = torch.randn(20_000, 2, generator=generator()) * (alpha**2 * TAU**2 + sigma**2).sqrt()
    out = sampler(score_of(sde), sde, x, ts, generator=generator())
    wanted = (last[0] ** 2 * TAU**2 + last[1] ** 2).sqrt().item()
    assert out.mean().item() == pytest.approx(0, abs=0.02)
    assert out.std().item() == pytest.approx(wanted, rel=0.05)


def test_euler_maruyama_is_of_weak_order_one():
    """The variance of its samples, which for a linear SDE is a product over the steps, nears the exact one at order 1."""
    sde = make_sde("ve")
    errors = []
    for steps in (100, 400):
        ts = uniform_grid(steps, 1.0, 0.2)
        variance = TAU**2 + sde.marginal(ts[:1])[1].item() ** 2
        for i in range(steps):  # a step is x -> factor x + noise; with equal noise, two x tell the factor
            one, zero = (
                euler_maruyama(score_of(sde), sde, torch.full((1, 1), x, dtype=torch.float64), ts[i : i + 2], generator=generator())
                for x in (1.0, 0.0)
            )
            g = sde.drift_diffusion(ts[i : i + 1])[1].item()
            variance = variance * (one - zero).item() ** 2 + g**2 * (ts[i] - ts[i + 1]).item()
        errors.append(abs(variance - TAU**2 - sde.marginal(ts[-1:])[1].item() ** 2))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_ancestral_sampling_keeps_the_law_in_one_step_of_a_point():
    """With all data at zero the estimate of x_0 is exact, so that one step of any size has the law of p_s."""
    sde = make_sde("sub-vp")
    ts = torch.tensor([0.9, 0.3], dtype=torch.float64)
    (_, before), (_, after) = sde.marginal(ts[:1]), sde.marginal(ts[1:])

    def score(x, t):
        return -x / sde.marginal(t)[1][:, None] ** 2

    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * before
    assert ancestral(score, sde, x, ts, generator=generator()).std().item() == pytest.approx(after.item(), rel=0.01)


def test_langevin_rate_leaves_the_noise_of_a_point_near_its_level():
    """The law of a point's noise after the steps of one level, by the recursion of its variance; a finer ladder fits better."""
    for ratio, bound in ((1.05, 1.07), (1.3, 1.2)):
        rate = langevin_rate(ratio, LANGEVIN_STEPS)
        variance = ratio**2
        for _ in range(LANGEVIN_STEPS):
            variance = (1 - rate) ** 2 * variance + 2 * rate
        assert 1 <= variance < min(bound, ratio**2)


def test_annealed_langevin_counts_its_steps_and_the_last_denoising():
    sde = make_sde("ve")
    score = RecordCalls(score_of(sde))
    annealed_langevin(score, sde, torch.zeros(2, 3), time_grid(sde, 7), generator=generator())
    assert len(score.calls) == 7 * LANGEVIN_STEPS + 1


@pytest.mark.parametrize(("sampler", "a_step"), [(ancestral, 1), (euler_maruyama, 1), (predictor_corrector, 2), (heun, 2), (dpmpp, 1)])
def test_evaluations_are_counted(sampler, a_step):
    sde = make_sde("ve")
    score = RecordCalls(score_of(sde))
    sampler(score, sde, torch.zeros(2, 3), time_grid(sde, 7), generator=generator())
    assert len(score.calls) == 7 * a_step


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))
def test_same_generator_same_samples(sampler):
    sde = make_sde("vp")
    x = torch.randn(3, 4, generator=generator())
    one, two = (sampler(score_of(sde), sde, x, time_grid(sde, 5), generator=generator()) for _ in range(2))
    assert torch.equal(one, two)
