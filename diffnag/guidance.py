"""Bending the diffusion towards architectures that a predictor likes.

All kinds aim at one law, the exponential tilt `p(A) exp(S z(A))`: `p` is what the generator draws unguided, `z` the
predictor's mean, standardised over the space, and `S` the scale.

* `gradient`: with h(x_t, t) = log E[exp(S z) | x_t], the tilted score is exactly `score + grad h`. A noise-aware
  predictor gives mean and variance of z given x_t; what z lacks to some best is taken as gamma distributed with these, and
  the best is where the tilt of random architectures, of which nothing is known, comes out right. Were z taken as normal,
  a predictor by which the best are little above the mean and the worst far below would steer towards what is in doubt.
* `denoised`: h is taken as S z(D(x_t)), at the denoised estimate; for a differentiable predictor of clean architectures.
  Biased (z of a mean is not the mean of z), hence second choice.
* `particles`: no gradient. Samples are tempered from S = 0 to S by resampling, with moves that noise an architecture and
  denoise it again between; as such a move leaves `p` in place, a Metropolis step makes the tilt its law (Del Moral et al.
  2006, sequential Monte Carlo samplers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diffnag.arch import Packing
from diffnag.errors import PredictorError, UserError
from diffnag.predicting import CheckedPredictor
from diffnag.protocols import NoisyPredictor, RelaxedPredictor
from diffnag.sampling import Score
from diffnag.sde import SDE, expand_like

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

Kind = Literal["gradient", "denoised", "particles"]
KINDS: tuple[Kind, ...] = ("gradient", "denoised", "particles")
REFERENCE_DRAWS = 1024
LEAST_LACK, NORMAL = 0.02, 1e3
"""Of what z lacks to the best: the least that is assumed, and from where on its law counts as normal."""
KEPT = 0.8
"""Share of the particles that stay effective in a rise of the temperature (of 0.5 to 0.9, the least error for its cost)."""


def strongest(predictor: CheckedPredictor) -> Kind:
    """The best kind that a predictor allows: `gradient`, then `denoised`, then `particles`."""
    plugin = predictor.predictor
    if isinstance(plugin, NoisyPredictor):
        return "gradient"
    inherited = isinstance(plugin, torch.nn.Module) and type(plugin).forward is torch.nn.Module.forward  # which only raises
    return "denoised" if isinstance(plugin, RelaxedPredictor) and not inherited else "particles"


def choose(predictor: CheckedPredictor, asked: str) -> Kind:
    """Resolve `auto`; raises `UserError` for a kind that does not exist or that the predictor has no method for."""
    best = strongest(predictor)
    if asked == "auto":
        return best
    for kind in KINDS:
        if kind == asked:
            needed = {"gradient": "forward_noisy", "denoised": "forward"}.get(kind)
            if needed is not None and (KINDS.index(kind) < KINDS.index(best) or not hasattr(predictor.predictor, needed)):
                raise UserError(f"predictor {predictor.name} has no {needed}, which {kind} guidance needs; it allows {best}")
            return kind
    raise UserError(f"unknown guidance {asked!r}; there are: auto, {', '.join(KINDS)}")


class Tilt:
    """The log tilt `S z` of one predictor in one space, on architectures, relaxed matrices and noisy ones.

    `z = (mean - centre) / spread`, where centre and spread are those of the predictor's means over `REFERENCE_DRAWS`
    fixed random architectures. `items` counts the architectures that the predictor was asked about since.
    """

    def __init__(self, predictor: CheckedPredictor, space: SearchSpace, scale: float) -> None:
        self.predictor, self.scale, self.items = predictor, scale, 0
        self._packing = Packing.of(space)
        rng = np.random.default_rng(0)
        means, _ = predictor.predict([space.random(rng) for _ in range(REFERENCE_DRAWS)])
        self.centre, self.spread = float(means.mean()), float(means.std()) or 1.0  # a constant predictor tilts nothing
        self.best = _best((means - self.centre) / self.spread, scale)

    def z(self, archs: Sequence[Arch]) -> np.ndarray:
        """Standardised means `(b,)` of clean architectures."""
        self.items += len(archs)
        return (self.predictor.predict(archs)[0] - self.centre) / self.spread

    def relaxed(self, x0: Tensor) -> Tensor:
        """`S z (b,)` of relaxed architectures `x0 (b, d)`, an estimate inside the cube [-1, 1]^d; differentiable."""
        self.items += len(x0)
        V, E = self._packing.relaxed(x0.cpu())  # predictors live on the CPU, whatever the denoiser does
        mean = self.predictor.predictor.forward(V, E, V.new_ones(V.shape[:2], dtype=torch.bool))  # type: ignore[attr-defined]
        return self.scale * (self._checked(mean, "forward", len(x0)) - self.centre).to(x0.device) / self.spread

    def noisy(self, x: Tensor, t: Tensor) -> Tensor:
        """`log E[exp(S z) | x_t] (b,)` for `x (b, d)` at `t (b,)`, `best - z` given x_t taken as gamma distributed; differentiable."""
        self.items += len(x)
        V, E = self._packing.split(x.cpu())
        mask = V.new_ones(V.shape[:2], dtype=torch.bool)
        answer = self.predictor.predictor.forward_noisy(V, E, mask, t.cpu())  # type: ignore[attr-defined]
        mean, variance = (self._checked(part, "forward_noisy", len(x)) for part in answer)
        z, variance = (mean - self.centre) / self.spread, variance / self.spread**2
        lack = functional.softplus(self.best - z, beta=8) + LEAST_LACK  # a mean is seldom above the best, but can be
        u = (self.scale * variance / lack).clamp_min(0.0)
        small = u < 1e-2  # where rounding would swallow the difference: a series
        v = u.clamp_min(1e-2)
        hope = torch.where(small, u / 2 - u**2 / 3 + u**3 / 4, 1 - v.log1p() / v)
        return (self.scale * (z + lack * hope)).to(x.device)

    def _checked(self, value: Tensor, method: str, b: int) -> Tensor:
        if not isinstance(value, Tensor) or value.shape != (b,) or not torch.isfinite(value).all():
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise PredictorError(f"predictor {self.predictor.name}: {method} must return finite tensors of shape ({b},), got {found}")
        return value


def _best(z: np.ndarray, scale: float) -> float:
    """B such that `log E[exp(S z)]` of the draws `z (m,)`, of mean 0 and spread 1, is that of B minus a gamma law of mean B and spread 1.

    The larger B, the nearer is the law to the normal one, whose log mean is S^2 / 2; a longer tail upwards counts as normal.
    """
    from scipy.optimize import brentq

    wanted = np.log(np.exp(scale * (z - z.max())).mean()) + scale * z.max()

    def excess(best: float) -> float:
        return float(scale * best - best**2 * np.log1p(scale / best) - wanted)

    if scale <= 0 or excess(NORMAL) <= 0:
        return NORMAL
    return float(brentq(excess, 1e-3, NORMAL)) if excess(1e-3) < 0 else 1e-3


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


def particles(
    archs: Sequence[Arch],
    tilt: Tilt,
    renoise: Callable[[Sequence[Arch]], Sequence[Arch | None]],
    *,
    rng: np.random.Generator,
    wanted: Callable[[Arch], bool] = lambda _: True,
    sweeps: int = 2,
    final_sweeps: int = 4,
) -> list[Arch]:
    """Carry samples of `p` over to the law `p exp(S z)` without a gradient, or to what it is among those `wanted`.

    Args:
        archs: samples of `p`, at least one. Where none is wanted they are returned as they are.
        tilt: the tilt; only `z` and `scale` are used.
        renoise: a move that leaves `p` in place, None where it gave no valid architecture.
        sweeps: moves after each rise of the temperature; `final_sweeps` once it has reached S.
    """
    begin = np.array([wanted(arch) for arch in archs], dtype=float)
    if not begin.any():
        return list(archs)
    now = [archs[k] for k in _systematic(begin / begin.sum(), rng)] if not begin.all() else list(archs)
    z, reached = tilt.z(now), 0.0
    while reached < tilt.scale:
        rise = _rise(z, tilt.scale - reached)
        weights = np.exp(rise * (z - z.max()))
        kept = _systematic(weights / weights.sum(), rng)
        now, z, reached = [now[k] for k in kept], z[kept], reached + rise
        for _ in range(final_sweeps if reached >= tilt.scale else sweeps):
            proposed = renoise(now)
            valid = [k for k, arch in enumerate(proposed) if arch is not None and arch != now[k]]
            if not valid:
                continue
            z_new = z.copy()
            z_new[valid] = tilt.z([arch for arch in (proposed[k] for k in valid) if arch is not None])
            accepted = np.log(rng.random(len(now))) < reached * (z_new - z)
            for k in valid:
                arch = proposed[k]
                if accepted[k] and arch is not None and wanted(arch):
                    now[k], z[k] = arch, z_new[k]
    return now


def _rise(z: np.ndarray, most: float) -> float:
    """The largest step in scale, up to `most`, that leaves a share `KEPT` of the particles effective."""

    def effective(step: float) -> float:
        weights = np.exp(step * (z - z.max()))
        return float(weights.sum() ** 2 / (weights**2).sum())

    if effective(most) >= KEPT * len(z):
        return most
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) >= KEPT * len(z) else (low, middle)
    return max(low, 1e-3 * most)  # progress even where equal bests leave no room


def _systematic(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices `(b,)` drawn by systematic resampling."""
    places = (rng.random() + np.arange(len(weights))) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)
