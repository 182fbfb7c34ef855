"""The network of the family `latent`: an encoder, and a decoder that draws its latents level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.generators.latent.options import Config
from diffnag.generators.network import GraphNetwork, Residual

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.protocols import SearchSpace

LOG_SCALE = 4.0
"""Bound of the logarithm of the prior's standard deviation, relative to 1."""
NARROWER = (-6.0, 2.0)
"""Range of the logarithm of the posterior's standard deviation, relative to the prior's."""


class Encoded(NamedTuple):
    """A draw of the posterior, in units of the prior: the prior's draw of these `units` has the same latents."""

    logits: Tensor
    """One for each entry, `(b, d)`."""
    units: Tensor
    """`(b, size)`"""
    shift: Tensor
    """Mean of the units `(b, size)`, which is 0 under the prior."""
    log_scale: Tensor
    """Logarithm of their standard deviation `(b, size)`, which is 0 under the prior."""


class LatentNetwork(GraphNetwork):
    """A hierarchical variational autoencoder over (V, E).

    The decoder carries one state of the whole graph. At each level a residual block changes it, the prior `N(mu, sigma)` of the level's
    latents is read off it, and the latents are added to it. The posterior reads the encoder as well and is relative to the prior,
    `N(mu + sigma dmu, sigma dsigma)` (Vahdat & Kautz 2020, section 3.2), so that its KL divergence needs dmu and dsigma alone. All levels but
    the last belong to the whole graph; the last has one latent for each node. Given all latents, entries are independent.

    A draw of the prior is a function of standard normal numbers, the *units* `(b, size)`.
    """

    family: ClassVar[str] = "latent"
    config_type: ClassVar[type] = Config
    steps: Tensor

    def __init__(self, space: SearchSpace, config: Config) -> None:
        super().__init__(space, config)
        width, d = config.width, self.packing.size
        self.sizes = [config.latents] * config.levels
        if config.levels > 1:
            self.sizes[-1] = self.packing.nodes
        self.size = sum(self.sizes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # of the training: the warm-up goes on where it was
        self.encoder = nn.Sequential(nn.Linear(d, width), *(Residual(width) for _ in range(config.blocks)), nn.LayerNorm(width))
        self.start = nn.Parameter(0.1 * torch.randn(width))
        self.blocks = nn.ModuleList(Residual(width) for _ in self.sizes)
        self.priors = nn.ModuleList(nn.Linear(width, 2 * m) for m in self.sizes)
        self.posteriors = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * width, width // 2), nn.SiLU(), nn.Linear(width // 2, 2 * m)) for m in self.sizes
        )
        self.inputs = nn.ModuleList(nn.Linear(m, width) for m in self.sizes)
        self.last = nn.Sequential(*(Residual(width) for _ in range(config.blocks)), nn.LayerNorm(width), nn.Linear(width, d))
        for weights in self.priors.parameters():  # all levels begin as standard normal
            nn.init.zeros_(weights)

    def forward(self, units: Tensor) -> Tensor:
        """Logits `(b, d)`, packed, of the latents that standard normal `units (b, size)` stand for."""
        state = self.start.expand(len(units), -1)
        for level, part in enumerate(units.split(self.sizes, dim=1)):
            state, read = self._step(level, state)
            state = self._add(level, state, read, part)
        return self.last(state)

    def encode(self, batch: ArchBatch, noise: Tensor) -> Encoded:
        """A draw of the posterior of a batch, by standard normal `noise (b, size)`."""
        seen = self.encoder(self.packing.pack(batch.V, batch.E))
        state = self.start.expand(len(seen), -1)
        units, shifts, scales = [], [], []
        for level, part in enumerate(noise.split(self.sizes, dim=1)):
            state, read = self._step(level, state)
            shift, log_scale = self.posteriors[level](torch.cat([read, seen], dim=1)).chunk(2, dim=1)
            log_scale = (log_scale - 1).clamp(*NARROWER)
            shifts.append(shift)
            scales.append(log_scale)
            units.append(shift + log_scale.exp() * part)
            state = self._add(level, state, read, units[-1])
        return Encoded(self.last(state), torch.cat(units, 1), torch.cat(shifts, 1), torch.cat(scales, 1))

    def bound(self, batch: ArchBatch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction `-log p(A | z) (b,)` and the KL divergence of each latent from its prior, `(b, size)`, in nats."""
        found = self.encode(batch, noise)
        divergence = (found.shift.square() + (2 * found.log_scale).exp() - 1) / 2 - found.log_scale
        return -self.log_likelihood(found.logits, batch), divergence

    def log_weights(self, batch: ArchBatch, noise: Tensor) -> Tensor:
        """`log p(A | z) + log p(z) - log q(z | A) (b,)` at one draw of the posterior (Burda et al. 2016)."""
        found = self.encode(batch, noise)
        return self.log_likelihood(found.logits, batch) + ((noise.square() - found.units.square()) / 2 + found.log_scale).sum(1)

    def log_likelihood(self, logits: Tensor, batch: ArchBatch) -> Tensor:
        """Log probability `(b,)` of a batch, entries independent, given `logits (b, d)`."""
        rows, edges = self.within_space(logits)
        operators, there = self.codes(batch)
        chosen = rows.log_softmax(2).gather(2, operators[..., None]).sum((1, 2))
        return chosen - F.binary_cross_entropy_with_logits(edges, there.float(), reduction="none").sum(1)

    def _step(self, level: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """The state behind the block of a level, and the same normalised, which prior and posterior read."""
        state = self.blocks[level](state)
        return state, F.layer_norm(state, state.shape[-1:])

    def _add(self, level: int, state: Tensor, read: Tensor, units: Tensor) -> Tensor:
        """Add the latents `mu + sigma units` of a level to the state."""
        mu, log_sigma = self.priors[level](read).chunk(2, dim=1)
        return state + self.inputs[level](mu + log_sigma.clamp(-LOG_SCALE, LOG_SCALE).exp() * units)
