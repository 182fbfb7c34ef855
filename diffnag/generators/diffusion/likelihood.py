"""The variational bound of a diffusion on the log probability of architectures (Kingma et al. 2021, "Variational diffusion models")."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffnag.arch import ArchBatch
from diffnag.generators.diffusion.sde import expand_like
from diffnag.spaces.draws import random_archs

if TYPE_CHECKING:
    from diffnag.generators.diffusion.denoiser import Denoiser
    from diffnag.generators.trained import Noise
    from diffnag.protocols import SearchSpace

LEVELS = 256
"""Noise levels at which the diffusion loss of an architecture is measured."""
DRAWS = 4096
"""Random architectures whose mean and variance centre the law of the noisiest state."""
DENSE = 4001


class Prior(NamedTuple):
    """Normal law of the clean entries, each alone: what the bound knows of a state before it sees anything."""

    mean: Tensor
    """`(d,)`"""
    variance: Tensor
    """`(d,)`"""

    @classmethod
    def of(cls, denoiser: Denoiser, space: SearchSpace) -> Prior:
        """Moments over random architectures. Any values would give a bound; these give a tight one."""
        batch = ArchBatch.of(random_archs(space, DRAWS, seed=0), space)
        x0 = denoiser.packing.pack(batch.V, batch.E).to(denoiser.device)
        return cls(x0.mean(0), x0.var(0, unbiased=False))

    def divergence(self, x0: Tensor, level: Tensor) -> Tensor:
        """`KL(N(x0, s^2) || N(mean, s^2 + variance))` in nats, `(b,)`, at the noise s = sigma / alpha of the noisiest state."""
        wide = level**2 + self.variance
        return 0.5 * (level**2 / wide - 1 + (x0 - self.mean) ** 2 / wide - (level**2 / wide).log()).sum(1)


def log_bound(denoiser: Denoiser, x0: Tensor, prior: Prior, *, noise: Noise, levels: int = LEVELS) -> Tensor:
    """An unbiased estimate of the lower bound on `log p(A)` in nats, `(b,)`, for clean states `x0 (b, d)` in {-1, 1}.

    It is minus the sum of three terms: the divergence of the noisiest state from the prior; the diffusion loss
    `1/2 int v |x_0 - D|^2 d log v` over the signal-to-noise ratio v (eqs. 15 and 17); and the cross-entropy of the architecture given the
    state of least noise. The loss is measured at levels stratified in log v, each with noise of its own. Only the last term is a
    probability of matrices, so that the sum is one, too.
    """
    sde, b = denoiser.sde, len(x0)
    dense = torch.linspace(sde.t_min, 1, DENSE, dtype=torch.float64)
    log_noise = sde.noise_to_signal(dense).log()
    low, high = log_noise[0].item(), log_noise[-1].item()
    loss = x0.new_zeros(b)
    for k in range(levels):
        where = low + (high - low) * (k + noise.uniform(b).double()) / levels
        t = torch.from_numpy(np.interp(where.numpy(), log_noise.numpy(), dense.numpy())).float().to(x0.device)
        estimate = denoiser(sde.diffuse(x0, t, noise.normal(*x0.shape, device=x0.device)), t)
        loss += expand_like(sde.noise_to_signal(t), x0)[:, 0] ** -2 * (x0 - estimate).square().sum(1)
    diffusion = (high - low) * loss / levels  # d log v = -2 d log s
    ends = torch.tensor([sde.t_min, 1.0], device=x0.device)
    last = ends[:1].expand(b)
    rest = denoiser.surprise(sde.diffuse(x0, last, noise.normal(*x0.shape, device=x0.device)), last, x0)
    return -(prior.divergence(x0, sde.noise_to_signal(ends)[1]) + diffusion + rest)
