"""The generator of the family `latent`: one pass of the decoder a sample, and moves and guidance in its latent space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from diffnag.errors import UserError
from diffnag.generators.base import refuse_strangers
from diffnag.generators.latent import options
from diffnag.generators.trained import CHUNK, Matrices, NetworkGenerator, Noise, OwnNoise
from diffnag.protocols import LogProb

if TYPE_CHECKING:
    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.base import Steer
    from diffnag.guidance.tilt import Tilt

DECODINGS = ("argmax", "sample")
MOVE = 0.5
"""Share of the variance of the units that a move draws anew."""
LANGEVIN = 0.7
"""Step of the Langevin dynamics, in units of the prior's standard deviation."""
STEEPEST = 3.0
"""Longest gradient of the tilt that a step follows: a cliff of the relaxed decoder would only make proposals that are rejected."""
DRAWS = 64
"""Draws of the posterior of the importance weighted bound."""
ACTIVE = 0.01
"""A latent is active if its mean under the posterior varies by more than this over architectures (Burda et al. 2016, section 5)."""


class LatentGenerator(NetworkGenerator):
    """Draws architectures by one pass of a decoder from standard normal numbers, the units."""

    Sampling: ClassVar[type] = options.Sampling
    steers: frozenset[str] = frozenset({"denoised", "particles"})

    def log_prob(self, archs: Sequence[Arch], *, seed: int) -> LogProb:
        """Importance weighted lower bound of `DRAWS` draws (Burda et al. 2016), of the law that `decoding="sample"` draws from."""
        refuse_strangers(archs, self.space)
        bounds = [torch.empty(0, dtype=torch.float64)]
        for batch in self._batches(archs, CHUNK // DRAWS):
            b = len(batch)
            with torch.no_grad():
                normal = OwnNoise(seed, batch).normal(b, DRAWS, self.network.size, device=self.network.device).flatten(0, 1)
                weights = self.network.log_weights(batch[torch.arange(b).repeat_interleave(DRAWS)], normal)
            bounds.append(weights.double().unflatten(0, (b, DRAWS)).logsumexp(1).cpu() - math.log(DRAWS))
        return LogProb(torch.cat(bounds).numpy(), "bound")

    def figures(self, batch: ArchBatch) -> Mapping[str, float]:
        """What tells a collapsed posterior, over a batch: bound, its two terms, share reconstructed exactly, active units."""
        noise = torch.randn(len(batch), self.network.size, generator=torch.Generator().manual_seed(0)).to(self.network.device)
        with torch.no_grad():
            found, (reconstruction, divergence) = self.network.encode(batch, noise), self.network.bound(batch, noise)
            exact = self.network.are(batch, *self.network.likeliest(found.logits))
        return {
            "reconstructed": float(exact.float().mean()), "reconstruction_nats": float(reconstruction.mean()),
            "divergence_nats": float(divergence.sum(1).mean()), "latents": float(self.network.size),
            "active_latents": float((found.shift.var(0) > ACTIVE).sum()),
        }  # fmt: skip

    def _checked(self, sampling: options.Sampling) -> options.Sampling:
        checked: options.Sampling = super()._checked(sampling)
        if checked.decoding not in DECODINGS:
            raise UserError(f"unknown decoding {checked.decoding!r}; there are: {', '.join(DECODINGS)}")
        return checked

    def _draw(self, b: int, sampling: options.Sampling, steer: Steer, kind: str, noise: Noise) -> Matrices:
        units = sampling.temperature * noise.normal(b, self.network.size, device=self.network.device)
        if steer.tilt is not None and kind == "denoised":
            units = self._climb(units, steer.tilt, sampling, noise)
        return self._decided(self.network(units), sampling, noise)

    def _near(self, batch: ArchBatch, noise: Noise) -> Matrices:
        """Encode, draw a part of the units anew (pCN, Cotter et al. 2013, which leaves the prior in place) and decode."""
        b, size = len(batch), self.network.size
        units = self.network.encode(batch, noise.normal(b, size, device=self.network.device)).units
        moved = math.sqrt(1 - MOVE) * units + math.sqrt(MOVE) * noise.normal(b, size, device=self.network.device)
        return self._decided(self.network(moved), self.sampling, noise)

    def _climb(self, units: Tensor, tilt: Tilt, sampling: options.Sampling, noise: Noise) -> Tensor:
        """Bring units of the prior to the law `p(z) exp(S z(A))` by Langevin steps, each accepted by Metropolis' rule (pCNL, Cotter et al. 2013).

        The gradient goes through the relaxed decoder and only proposes; the decoded architecture decides, so that the relaxation leaves no bias.
        """
        kept, step = math.sqrt(1 - LANGEVIN**2), LANGEVIN**2 / 2

        def away(to: Tensor, start: Tensor, slope: Tensor) -> Tensor:
            return (to - kept * start - step * slope).square().sum(1) / (2 * LANGEVIN**2)

        value, slope = self._look(units, tilt)
        for _ in range(sampling.langevin):
            proposed = kept * units + step * slope + LANGEVIN * noise.normal(*units.shape, device=units.device)
            value_there, slope_there = self._look(proposed, tilt)
            gain = value_there - value + (units.square().sum(1) - proposed.square().sum(1)) / 2
            gain = gain + away(proposed, units, slope) - away(units, proposed, slope_there)
            accepted = noise.uniform(len(units), device=units.device).log() < gain
            value = torch.where(accepted, value_there, value)
            units, slope = (torch.where(accepted[:, None], new, old) for new, old in ((proposed, units), (slope_there, slope)))
        return units

    def _look(self, units: Tensor, tilt: Tilt) -> tuple[Tensor, Tensor]:
        """`S z (b,)` of the decoded architectures, and a bounded gradient `(b, size)` of that of the relaxed ones."""
        with torch.enable_grad():
            now = units.detach().requires_grad_()
            logits = self.network(now)
            (slope,) = torch.autograd.grad(tilt.relaxed(self._relaxed(logits)).sum(), now)
        V, E = self.network.matrices(*self.network.likeliest(logits.detach()))
        return tilt.relaxed(self.network.packing.pack(V, E)), slope * (STEEPEST / slope.norm(dim=1, keepdim=True).clamp_min(STEEPEST))

    def _relaxed(self, logits: Tensor) -> Tensor:
        """Logits -> the architecture that they estimate, packed, in [-1, 1]."""
        rows, edges = self.network.within_space(logits)
        return 2 * torch.cat([rows.softmax(2).flatten(1), edges.sigmoid()], dim=1) - 1

    def _decided(self, logits: Tensor, sampling: options.Sampling, noise: Noise) -> Matrices:
        if sampling.decoding == "argmax":
            return Matrices.of(*self.network.matrices(*self.network.likeliest(logits)))
        rows, edges = self.network.within_space(logits)
        there = noise.uniform(*edges.shape, device=edges.device) < edges.sigmoid()
        return Matrices.of(*self.network.matrices(noise.choice(F.softmax(rows, dim=2)), there))
