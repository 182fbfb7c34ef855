"""A world with closed forms: data N(0, tau^2) in every coordinate, so that every p_t is normal and its score is known."""

from __future__ import annotations

import torch
from torch import Tensor

from diffnag.generators.diffusion.sde import SDE, expand_like

TAU = 0.7


def score_of(sde: SDE, *, reward: float = 0.0):
    """Score of p_t for data N(reward * tau^2, tau^2): what a tilt by exp(reward * sum(x_0)) makes of N(0, tau^2)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in sde.marginal(t))
        return -(x - alpha * reward * TAU**2) / (alpha**2 * TAU**2 + sigma**2)

    return score


def log_h_of(sde: SDE, reward: float):
    """log E[exp(reward * sum(x_0)) | x_t] up to a constant in x: the mean of x_0 given x_t, times the reward."""

    def log_h(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in sde.marginal(t))
        return reward * (alpha * TAU**2 / (alpha**2 * TAU**2 + sigma**2) * x).sum(1)

    return log_h


def flow_map(sde: SDE, x: Tensor, t: Tensor, s: Tensor, *, reward: float = 0.0) -> Tensor:
    """Where the probability-flow ODE carries x from time t to s: the normal quantile is kept."""
    (a_t, s_t), (a_s, s_s) = sde.marginal(t), sde.marginal(s)
    mean = reward * TAU**2
    spread = ((a_s**2 * TAU**2 + s_s**2) / (a_t**2 * TAU**2 + s_t**2)).sqrt()
    return a_s * mean + spread * (x - a_t * mean)


def uniform_grid(steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)
