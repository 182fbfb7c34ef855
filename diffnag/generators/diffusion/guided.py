"""Guidance of a diffusion by gradients: a score goes in, the score of the tilted law comes out.

* `gradient`: with h(x_t, t) = log E[exp(S z) | x_t], the tilted score is exactly `score + grad h`. A noise-aware
  predictor gives mean and variance of z given x_t; what z lacks to some best is taken as gamma distributed with these, and
  the best is where the tilt of random architectures, of which nothing is known, comes out right. Were z taken as normal,
  a predictor by which the best are little above the mean and the worst far below would steer towards what is in doubt.
* `denoised`: h is taken as S z(D(x_t)), at the denoised estimate; for a differentiable predictor of clean architectures.
  Biased (z of a mean is not the mean of z), hence second choice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffnag.generators.diffusion.samplers import Score
from diffnag.generators.diffusion.sde import SDE, expand_like


def in_data_scale(sde: SDE, log_h: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn `log_h(y, noise)` of states in the data's scale into `log_h(x, t)` of states of `sde`.

    With `y = x_t / alpha` and noise level `sigma / alpha` every Gaussian process asks a noise-aware predictor the same question.
    """

    def at_time(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = sde.marginal(t)
        return log_h(x / expand_like(alpha, x), sigma / alpha)

    return at_time


def gradient_guided(score: Score, log_h: Callable[[Tensor, Tensor], Tensor], free: Tensor) -> Score:
    """The score of the tilted law: `score + grad log_h`, with `log_h(x, t) -> (b,)`; no guidance where `free (d,)` is 0."""

    def guided(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x_in = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(log_h(x_in, t).sum(), x_in)
        return score(x, t) + free * grad

    return guided


def denoised_guided(score: Score, sde: SDE, log_h: Callable[[Tensor], Tensor], free: Tensor) -> Score:
    """`score + grad log_h(D(x))`, with `log_h(x0 (b, d)) -> (b,)` at the denoised estimate, clipped to the cube."""

    def guided(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in sde.marginal(t))
        with torch.enable_grad():
            x_in = x.detach().requires_grad_()
            unguided = score(x_in, t)
            estimate = (x_in + sigma**2 * unguided) / alpha
            (grad,) = torch.autograd.grad(log_h(estimate.clamp(-1, 1)).sum(), x_in)
        return unguided.detach() + free * grad

    return guided


def within_cube(score: Score, sde: SDE) -> Score:
    """`score`, but where its denoised estimate has left the cube [-1, 1]^d, the score of the nearest estimate inside.

    The tilted law has the same architectures as the untilted one, so its denoised estimate is in the cube as well; steps of
    finite size push it out where guidance is strong. Where it is inside nothing changes, to the bit.
    """

    def bounded(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in sde.marginal(t))
        value = score(x, t)
        estimate = (x + sigma**2 * value) / alpha
        return value + alpha / sigma**2 * (estimate.clamp(-1, 1) - estimate)

    return bounded
