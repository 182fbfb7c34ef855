"""The SDEs: kernel, drift and diffusion belong together."""

from __future__ import annotations

import pytest
import torch

from diffnag.errors import UserError
from diffnag.generators.diffusion.samplers import time_grid
from diffnag.generators.diffusion.sde import SDES, expand_like, from_json, make_sde, to_json


@pytest.fixture(params=sorted(SDES))
def sde(request):
    return make_sde(request.param)


def test_marginal_solves_the_moment_equations(sde):
    """d alpha / dt = f alpha; d sigma^2 / dt = 2 f sigma^2 + g^2 (Sarkka & Solin 2019, eq. 5.50)."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    alpha, sigma = sde.marginal(t)
    f, g = sde.drift_diffusion(t)
    if alpha.requires_grad:
        (slope,) = torch.autograd.grad(alpha.sum(), t, retain_graph=True)
        torch.testing.assert_close(slope, f * alpha)
    else:
        assert (f == 0).all() and (alpha == 1).all()
    (slope,) = torch.autograd.grad((sigma**2).sum(), t)
    torch.testing.assert_close(slope, 2 * f * sigma**2 + g**2)


def test_json_round_trip(sde):
    assert from_json(to_json(sde)) == sde


def test_time_grid_is_even_in_log_noise(sde):
    ts = time_grid(sde, 20).double()
    assert ts[0] == 1 and ts[-1] == pytest.approx(sde.t_min) and len(ts) == 21
    steps = sde.noise_to_signal(ts).log().diff()
    torch.testing.assert_close(steps, steps.mean().expand(20), rtol=0.01, atol=0)
    assert sde.noise_to_signal(ts[-1:]).item() == pytest.approx(0.2, rel=0.05)


def test_prior_has_the_noise_of_time_one(sde):
    x = sde.prior((4000, 5), generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    assert x.std().item() == pytest.approx(sde.marginal(torch.ones(1))[1].item(), rel=0.02)


def test_expand_like():
    assert expand_like(torch.ones(3), torch.ones(3, 4, 5)).shape == (3, 1, 1)


def test_unknown_name():
    with pytest.raises(UserError, match="unknown SDE 'x'; there are: ve, vp, sub-vp"):
        make_sde("x")
