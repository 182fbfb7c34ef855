"""The family `latent`: a variational autoencoder, flat or hierarchical (Kingma & Welling 2014; NVAE, Vahdat & Kautz 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.family import NetworkFamily
from diffnag.generators.latent import options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.latent.generator import LatentGenerator
    from diffnag.generators.latent.network import LatentNetwork


class LatentFamily(NetworkFamily):
    """Trains and loads variational autoencoders."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[LatentNetwork], type[LatentGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.latent.generator import LatentGenerator
        from diffnag.generators.latent.network import LatentNetwork

        return LatentNetwork, LatentGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any = None, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Negative evidence lower bound `(b,)`, its KL divergence weighted; a call in training counts as one step of the warm-up."""
        import torch

        del condition
        noise = torch.randn(len(batch), net.size, generator=generator)[share].to(batch.V.device)
        rows = batch[torch.arange(len(batch))[share]]
        weight = net.config.weight * (net.steps.float() / net.config.warm_up).clamp_max(1.0)
        if net.training:
            net.steps += 1
        reconstruction, divergence = net.bound(rows, noise)
        return reconstruction + weight * divergence.sum(1)
