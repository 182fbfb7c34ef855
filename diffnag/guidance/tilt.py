"""The tilt: what a predictor adds to the log probability of an architecture, `S z`.

All kinds of guidance aim at one law, the exponential tilt `p(A) exp(S z(A))`: `p` is what the generator draws unguided, `z` the
predictor's mean, standardised over the space, and `S` the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from diffnag.arch import Packing
from diffnag.errors import UserError
from diffnag.guidance.checked import CheckedPredictor
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

REFERENCE_DRAWS = 1024
LEAST_LACK, NORMAL = 0.02, 1e3
"""Bounds of the distance from z to the best value: the least that is assumed, and the distance from which on its law counts as normal."""


class Tilt:
    """The log tilt `S z` of one predictor in one space, on architectures, relaxed matrices and noisy ones.

    `z = (mean - centre) / spread`, where centre and spread are those of the predictor's means over `REFERENCE_DRAWS`
    fixed random architectures. `items` counts the architectures that the predictor was asked about since.
    """

    def __init__(self, predictor: CheckedPredictor, space: SearchSpace, scale: float) -> None:
        if not (np.isfinite(scale) and scale >= 0):
            raise UserError(f"the scale of the guidance is {scale}; accepted is a finite number of at least 0")
        self.predictor, self.scale, self.items = predictor, scale, 0
        self._packing = Packing.of(space)
        means, _ = predictor.predict(random_archs(space, REFERENCE_DRAWS, seed=0))
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
        mean = self.predictor.forward(V, E, V.new_ones(V.shape[:2], dtype=torch.bool))
        return self.scale * (mean - self.centre).to(x0.device) / self.spread

    def noisy(self, y: Tensor, noise: Tensor) -> Tensor:
        """`log E[exp(S z) | y] (b,)` for noisy architectures in the data's scale, `y (b, d)` = x_t / alpha, differentiable.

        `noise (b,)` is their level sigma / alpha. Given y, `best - z` is taken as gamma distributed.
        """
        self.items += len(y)
        V, E = self._packing.split(y.cpu())
        mask = V.new_ones(V.shape[:2], dtype=torch.bool)
        mean, variance = self.predictor.forward_noisy(V, E, mask, noise.cpu())
        z, variance = (mean - self.centre) / self.spread, variance / self.spread**2
        lack = functional.softplus(self.best - z, beta=8) + LEAST_LACK  # a mean is seldom above the best, but can be
        u = (self.scale * variance / lack).clamp_min(0.0)
        small = u < 1e-2  # where rounding would swallow the difference: a series
        v = u.clamp_min(1e-2)
        hope = torch.where(small, u / 2 - u**2 / 3 + u**3 / 4, 1 - v.log1p() / v)
        return (self.scale * (z + lack * hope)).to(y.device)


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
