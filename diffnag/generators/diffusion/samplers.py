"""Reverse-time samplers: plain functions with one contract.

    sampler(score, sde, x, ts, *, generator) -> x at ts[-1]

`score(x (b, d), t (1,)) -> (b, d)`: all rows lie at one time; `x` lies at time `ts[0]`; `ts` descends; `generator` gives all noise (the samplers of
the probability-flow ODE draw none). Samplers know neither the network nor guidance; wrap the score in `RecordCalls` to
see the states on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diffnag.generators.diffusion.sde import SDE, denoised

Score = Callable[[Tensor, Tensor], Tensor]


class Sampler(Protocol):
    def __call__(self, score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator) -> Tensor: ...


class RecordCalls:
    """A score that keeps what it was asked and what it answered: `calls` of `x (b, d)`, `t (1,)` and `score (b, d)`."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        answer = self._score(x, t)
        self.calls.append((x, t, answer))
        return answer


def time_at(sde: SDE, level: float) -> Tensor:
    """The time `(1,)` at which the noise sigma / alpha is `level`, within the times of the process."""
    dense = torch.linspace(sde.t_min, 1, 1001)
    return torch.tensor([float(np.interp(level, sde.noise_to_signal(dense).numpy(), dense.numpy()))])


def time_grid(sde: SDE, steps: int, *, start: float = 1.0, device: torch.device | str = "cpu") -> Tensor:
    """`steps + 1` times from `start` down to `sde.t_min`, equidistant in log(alpha / sigma)."""
    dense = torch.linspace(sde.t_min, start, 4001, dtype=torch.float64)
    log_noise = sde.noise_to_signal(dense).log().numpy()
    ts = np.interp(np.linspace(log_noise[-1], log_noise[0], steps + 1), log_noise, dense.numpy())
    ts[0], ts[-1] = start, sde.t_min
    return torch.tensor(ts, dtype=torch.float32, device=device)


def stratified_times(grid: Tensor, b: int, *, generator: torch.Generator) -> Tensor:
    """`b` training times out of `grid`, one from each of `b` equal strata: less variance than independent draws."""
    strata = (torch.arange(b) + torch.rand(b, generator=generator)) / b
    return grid[(strata * len(grid)).long()]


def euler_maruyama(score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator) -> Tensor:
    """Euler-Maruyama on the reverse-time SDE (Song et al. 2021, eq. 6); one evaluation a step, weak order 1."""
    for t, s in itertools.pairwise(ts):
        x = _reverse_step(score, sde, x, t, s, generator)
    return x


def predictor_corrector(
    score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator, snr: float = 0.16
) -> Tensor:
    """Euler-Maruyama, each step followed by one of Langevin dynamics (Song et al. 2021, alg. 4); two evaluations a step.

    `snr` is their signal-to-noise ratio r of the Langevin step. Their step size takes |score| from the batch; here it is
    what it is for a true score, sqrt(d) / sigma, so that an architecture does not depend on its batch.
    """
    for t, s in itertools.pairwise(ts):
        x = _reverse_step(score, sde, x, t, s, generator)
        grad = score(x, s[None])
        noise = _noise_like(x, generator)
        alpha, sigma = sde.marginal(s)
        step = 2 * alpha * (snr * sigma) ** 2
        x = x + step * grad + (2 * step).sqrt() * noise
    return x


def heun(score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator) -> Tensor:
    """Heun's method on the probability-flow ODE (Song et al. 2021, eq. 13); two evaluations a step, order 2."""
    del generator  # the ODE is deterministic
    for t, s in itertools.pairwise(ts):
        slope = _flow(score, sde, x, t)
        guess = x + (s - t) * slope
        x = x + (s - t) * (slope + _flow(score, sde, guess, s)) / 2
    return x


def dpmpp(score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator) -> Tensor:
    """DPM-Solver++(2M) on the probability-flow ODE (Lu et al. 2022, alg. 2); one evaluation a step, order 2."""
    del generator
    alphas, sigmas = sde.marginal(ts)
    log_snr = (alphas / sigmas).log()
    before: Tensor | None = None
    for i in range(len(ts) - 1):
        x0 = denoised(x, score(x, ts[i : i + 1]), alpha=alphas[i], sigma=sigmas[i])
        h = log_snr[i + 1] - log_snr[i]
        estimate = x0
        if before is not None:
            estimate = x0 + (x0 - before) * h / (2 * (log_snr[i] - log_snr[i - 1]))
        x = sigmas[i + 1] / sigmas[i] * x - alphas[i + 1] * torch.expm1(-h) * estimate
        before = x0
    return x


def ancestral(score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, alg. 2), for any alpha and sigma: each x_s is drawn from `q(x_s | x_t, x_0)`, with the estimate
    of x_0 in its place; one evaluation a step.
    """
    alphas, sigmas = sde.marginal(ts)
    for i in range(len(ts) - 1):
        x0 = denoised(x, score(x, ts[i : i + 1]), alpha=alphas[i], sigma=sigmas[i])
        kept = alphas[i] / alphas[i + 1]
        share = (kept * sigmas[i + 1] / sigmas[i]) ** 2  # of the noise at t that is there at s already
        x = share / kept * x + alphas[i + 1] * (1 - share) * x0
        x = x + sigmas[i + 1] * (1 - share).sqrt() * _noise_like(x, generator)
    return x


LANGEVIN_STEPS = 5
"""Steps of annealed Langevin dynamics at each noise level."""


def annealed_langevin(score: Score, sde: SDE, x: Tensor, ts: Tensor, *, generator: torch.Generator) -> Tensor:
    """Annealed Langevin dynamics with a last denoising step (Song & Ermon 2019, alg. 1; 2020, alg. 1): `LANGEVIN_STEPS` at each level.

    It uses the levels of noise of a forward process, and nothing else of it. States are moved in the data's scale. A step has the size
    `rate s^2` at noise s = sigma / alpha; for the rate see `langevin_rate`.
    """
    alphas, sigmas = sde.marginal(ts)
    levels = sigmas / alphas
    rate = langevin_rate(float(levels[0] / levels[1]), LANGEVIN_STEPS)
    y = x / alphas[0]
    for alpha, level, t in zip(alphas[1:], levels[1:], ts[1:], strict=True):
        for _ in range(LANGEVIN_STEPS):
            pull = alpha * score(alpha * y, t[None])
            y = y + rate * level**2 * pull + (2 * rate) ** 0.5 * level * _noise_like(y, generator)
    return alphas[-1] * denoised(alphas[-1] * y, score(alphas[-1] * y, ts[-1:]), alpha=alphas[-1], sigma=sigmas[-1])


def langevin_rate(ratio: float, steps: int) -> float:
    """The step size, in units of the level's variance, that leaves a point's noise nearest to its level (Song & Ermon 2020, technique 4).

    `ratio` is that of a level to the next one. Around one point, a step multiplies the variance by `(1 - rate)^2` and adds `2 rate`.
    """
    from scipy.optimize import minimize_scalar

    def excess(rate: float) -> float:
        stays = 2 / (2 - rate)
        return abs((1 - rate) ** (2 * steps) * (ratio**2 - stays) + stays - 1)

    return float(minimize_scalar(excess, bounds=(1e-4, 1.0), method="bounded").x)


SAMPLERS: dict[str, Sampler] = {
    "euler-maruyama": euler_maruyama,
    "pc": predictor_corrector,
    "heun": heun,
    "dpmpp": dpmpp,
    "ancestral": ancestral,
    "annealed-langevin": annealed_langevin,
}

DETERMINISTIC = frozenset({"heun", "dpmpp"})
"""Samplers that draw no noise: what becomes of a row does not depend on the others."""


def _noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)


def _flow(score: Score, sde: SDE, x: Tensor, t: Tensor) -> Tensor:
    """dx/dt of the probability-flow ODE."""
    f, g = sde.drift_diffusion(t)
    return f * x - 0.5 * g**2 * score(x, t[None])


def _reverse_step(score: Score, sde: SDE, x: Tensor, t: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    f, g = sde.drift_diffusion(t)
    drift = f * x - g**2 * score(x, t[None])
    return x + (s - t) * drift + g * (t - s).sqrt() * _noise_like(x, generator)
