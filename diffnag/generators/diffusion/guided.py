"""Guidance of a diffusion by gradients: functions that turn the score of a law into the score of the tilted law.

* `gradient`: with h(x_t, t) = log E[exp(S z) | x_t], the tilted score is exactly `score + grad h`. A noise-aware predictor gives the
  mean and variance of z given x_t. The distance `best - z` is taken as gamma distributed with these, and `best` is chosen so that the
  tilt of random architectures, of which nothing is known, comes out right. A normal law would steer towards doubtful architectures
  where the best lie little above the mean and the worst far below it.
* `denoised`: h is taken as S z(D(x_t)), at the denoised estimate, for a differentiable predictor of clean architectures. It is biased,
  as z of a mean is not the mean of z, and therefore the second choice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffnag.generators.diffusion.samplers import Score
from diffnag.generators.diffusion.sde import SDE, denoised, expand_like


def in_data_scale(sde: SDE, log_h: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn `log_h(y, noise)` of states in the data's scale into `log_h(x, t)` of states of `sde`.

    With `y = x_t / alpha` and noise level `sigma / alpha` every Gaussian process asks a noise-aware predictor the same question.
    """

    def at_time(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = sde.marginal(t)
        return log_h(x / expand_like(alpha, x), (sigma / alpha).expand(len(x)))

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
    """Return `score + grad log_h(D(x))`, with `log_h(x0 (b, d)) -> (b,)` at the denoised estimate, clipped to the cube."""

    def guided(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in sde.marginal(t))
        with torch.enable_grad():
            x_in = x.detach().requires_grad_()
            unguided = score(x_in, t)
            estimate = denoised(x_in, unguided, alpha=alpha, sigma=sigma)
            (grad,) = torch.autograd.grad(log_h(estimate.clamp(-1, 1)).sum(), x_in)
        return unguided.detach() + free * grad

    return guided


def within_cube(score: Score, sde: SDE) -> Score:
    """Replace the score where its denoised estimate has left the cube [-1, 1]^d by that of the nearest estimate inside.

    The tilted law has the same architectures as the untilted one, so that its denoised estimate lies in the cube as well. Steps of
    finite size push it out where guidance is strong. Where it lies inside, the score stays the same to the bit.
    """

    def bounded(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand_like(value, x) for value in sde.marginal(t))
        value = score(x, t)
        estimate = denoised(x, value, alpha=alpha, sigma=sigma)
        return value + alpha / sigma**2 * (estimate.clamp(-1, 1) - estimate)

    return bounded
