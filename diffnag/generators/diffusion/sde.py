"""Forward diffusions (Song et al., ICLR 2021): frozen numbers, t in [0, 1]. They know no network.

`x_t = alpha(t) x_0 + sigma(t) eps`, the transition kernel of `dx = f(t) x dt + g(t) dw`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from diffnag.errors import unknown


def expand_like(value: Tensor, x: Tensor) -> Tensor:
    """Reshape `value (b,)` to `(b, 1, ..., 1)`, so that it multiplies `x (b, ...)`."""
    return value.reshape(-1, *[1] * (x.ndim - 1))


def denoised(x: Tensor, score: Tensor, *, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[x_0 | x_t] by Tweedie's formula, from the score at `x = x_t` and the marginal's scale and noise level there."""
    return (x + sigma**2 * score) / alpha


@dataclass(frozen=True)
class SDE:
    """A forward process, as samplers need it. All methods take `t (b,)` and return `(b,)` tensors."""

    name: ClassVar[str]

    @property
    def t_min(self) -> float:
        """Time at which the reverse process stops: there the noise is far smaller than half the distance between two operators."""
        return 0.0

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scale `alpha` and noise level `sigma` of p(x_t | x_0)."""
        raise NotImplementedError

    def diffuse(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t from `x0 (b, ...)`, `t (b,)` or `(1,)`, and standard normal `noise (b, ...)`."""
        alpha, sigma = self.marginal(t)
        return expand_like(alpha, x0) * x0 + expand_like(sigma, x0) * noise

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`f` and `g` of `dx = f x dt + g dw` (every drift here is linear in x)."""
        raise NotImplementedError

    def noise_to_signal(self, t: Tensor) -> Tensor:
        """`sigma / alpha`: the noise level once x_t is scaled back to the data."""
        alpha, sigma = self.marginal(t)
        return sigma / alpha

    def prior(self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device) -> Tensor:
        """Draw x_1 as pure noise."""
        noise = torch.randn(shape, generator=generator, device=generator.device).to(device)
        return noise * self.marginal(torch.ones(1, device=device))[1]


@dataclass(frozen=True)
class VESDE(SDE):
    """Variance exploding: alpha = 1, sigma from `sigma_min` to `sigma_max` geometrically.

    `sigma_max` is larger than the 5 of the paper. At 5, x_1 still depends on the operators, and guidance, which starts from pure
    noise, would miss that. At `sigma_min` every entry, -1 or 1, is decided.
    """

    sigma_min: float = 0.2
    sigma_max: float = 20.0
    name: ClassVar[str] = "ve"

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), self.marginal(t)[1] * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class VPSDE(SDE):
    """Variance preserving: beta linear from `beta_min` to `beta_max`."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    name: ClassVar[str] = "vp"

    @property
    def t_min(self) -> float:
        return 0.06  # sigma / alpha = 0.2

    def _integral(self, t: Tensor) -> Tensor:
        """Integral of beta from 0 to t."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(-0.5 * self._integral(t)), torch.sqrt(-torch.expm1(-self._integral(t)))

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -0.5 * self.beta(t), self.beta(t).sqrt()


@dataclass(frozen=True)
class SubVPSDE(VPSDE):
    """Sub-VP: the drift of VP with less noise, `sigma = 1 - alpha^2`."""

    name: ClassVar[str] = "sub-vp"

    @property
    def t_min(self) -> float:
        return 0.135  # sigma / alpha = 0.2

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(-0.5 * self._integral(t)), -torch.expm1(-self._integral(t))

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -0.5 * self.beta(t), torch.sqrt(self.beta(t) * -torch.expm1(-2 * self._integral(t)))


SEGMENTS = 32
"""Segments of a learned level."""


@dataclass(frozen=True)
class LearnedSDE(SDE):
    """Variance preserving, with a learned level: `log(sigma / alpha)` rises through `knots` at even times, in straight lines.

    Any monotone function has the same range and hence the same bound on the log likelihood (Kingma et al. 2021, section 5.1), whose
    estimate has the least variance where `rate` is inverse to the root mean square of the loss.
    """

    knots: tuple[float, ...] = tuple(math.log(0.2) + math.log(100) * k / SEGMENTS for k in range(SEGMENTS + 1))
    name: ClassVar[str] = "learned"

    @classmethod
    def of_squares(cls, squares: Tensor) -> LearnedSDE:
        """The level of least variance, from the mean square `(SEGMENTS,)` of the loss in even steps of the logarithm of the level.

        A tenth of the time is spread evenly over all levels.
        """
        first, last = cls().knots[0], cls().knots[-1]
        wanted = squares.double().clamp_min(1e-12).sqrt()
        share = 0.9 * wanted / wanted.sum() + 0.1 / len(wanted)
        reached = torch.cat([share.new_zeros(1), share.cumsum(0)])
        reached[-1] = 1
        levels = np.interp(np.linspace(0, 1, SEGMENTS + 1), reached.cpu().numpy(), np.linspace(first, last, len(wanted) + 1))
        return cls(tuple(levels.tolist()))

    def _level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`log(sigma / alpha)` and its slope in t."""
        knots = torch.tensor(self.knots, dtype=t.dtype, device=t.device)
        slopes = knots.diff() * (len(knots) - 1)
        place = (t * (len(knots) - 1)).clamp(0, len(knots) - 1)
        segment = place.long().clamp_max(len(knots) - 2)
        return knots[segment] + (place - segment) * knots.diff()[segment], slopes[segment]

    def rate(self, t: Tensor) -> Tensor:
        """Slope of `log(sigma / alpha)`, `(b,)`."""
        return self._level(t)[1]

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_noise, _ = self._level(t)
        return torch.sigmoid(-2 * log_noise).sqrt(), torch.sigmoid(2 * log_noise).sqrt()

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_noise, slope = self._level(t)
        variance = torch.sigmoid(2 * log_noise)
        return -slope * variance, (2 * slope * variance).sqrt()


SDES: dict[str, type[SDE]] = {cls.name: cls for cls in (VESDE, VPSDE, SubVPSDE, LearnedSDE)}


def make_sde(name: str) -> SDE:
    """The SDE of that name with its default numbers."""
    if name not in SDES:
        raise unknown("SDE", name, SDES)
    return SDES[name]()


def to_json(sde: SDE) -> dict[str, Any]:
    """Entries for a checkpoint, such as `{"name": "ve", "sigma_min": 0.2, ...}`."""
    return {"name": sde.name, **asdict(sde)}


def from_json(values: dict[str, Any]) -> SDE:
    """The inverse of `to_json`."""
    rest = {key: tuple(map(float, value)) if isinstance(value, list | tuple) else float(value) for key, value in values.items() if key != "name"}
    return SDES[str(values["name"])](**rest)
