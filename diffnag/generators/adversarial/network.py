"""The networks of the family `adversarial`: a generator, its critic, and a reader that finds the latents of a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.generators.adversarial.options import Config
from diffnag.generators.network import GraphNetwork, Residual

if TYPE_CHECKING:
    from diffnag.arch import ArchBatch
    from diffnag.protocols import SearchSpace


class AdversarialNetwork(GraphNetwork):
    """A Wasserstein GAN with gradient penalty (Gulrajani et al. 2017) over packed architectures.

    The generator maps normal latents `(b, latents)` to logits, and Gumbel noise on these draws a sample, of which the entries are
    independent given the latents. The gradient goes straight through to the probabilities (Jang et al. 2017). The critic's loss
    reaches the generator with its sign reversed (Ganin & Lempitsky 2015), so that one step of one optimiser trains both.
    """

    family: ClassVar[str] = "adversarial"
    config_type: ClassVar[type] = Config

    def __init__(self, space: SearchSpace, config: Config) -> None:
        super().__init__(space, config)
        self.size, d = config.latents, self.packing.size
        self.generator = _mlp(self.size, config.width, config.blocks, d)
        self.critic = _mlp(d, config.width, config.blocks, 1)
        self.reader = _mlp(d, config.width, config.blocks, self.size)

    def forward(self, latents: Tensor) -> Tensor:
        """Logits `(b, d)`, packed, of `latents (b, size)`."""
        made: Tensor = self.generator(latents)
        return made

    def drawn(self, latents: Tensor, u: Tensor) -> Tensor:
        """Logits `(b, d)` of `latents (b, size)` whose likeliest architecture is a sample, by uniform numbers `u (b, d)` in [0, 1)."""
        u = u.clamp(1e-6, 1 - 1e-6)
        cut = self.packing.nodes * self.packing.operators
        return self(latents) + torch.cat([-(-u[:, :cut].log()).log(), u[:, cut:].logit()], dim=1)

    def sampled(self, logits: Tensor) -> Tensor:
        """The likeliest architectures `(b, d)` in {-1, 1}; their gradient is that of the probabilities."""
        rows, edges = self.within_space(logits)
        soft = 2 * torch.cat([rows.softmax(2).flatten(1), edges.sigmoid()], dim=1) - 1
        hard = self.packing.pack(*self.matrices(*self.likeliest(logits)))
        return hard + soft - soft.detach()

    def losses(self, batch: ArchBatch, latents: Tensor, u: Tensor, mix: Tensor) -> Tensor:
        """Loss of critic and, reversed, generator, and of the reader, `(b,)`.

        `latents (b, size)` and `u (b, d)` draw the samples; the penalty is taken a share `mix (b,)` of the way to them.
        """
        real = self.packing.pack(batch.V, batch.E)
        fake = self.sampled(self.drawn(latents, u))
        found = self.critic(_Reversed.apply(fake)).squeeze(1) - self.critic(real).squeeze(1)
        between = torch.lerp(real, fake.detach(), mix[:, None]).requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=self.training)
        penalty = (slope.square().sum(1).add(1e-12).sqrt() - 1).square()
        reading = F.mse_loss(self.reader(fake.detach()), latents, reduction="none").mean(1)
        return found + self.config.penalty * penalty + reading


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient has the other sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return -slopes[0]


def _mlp(inputs: int, width: int, blocks: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), *(Residual(width) for _ in range(blocks)), nn.LayerNorm(width), nn.Linear(width, outputs))
