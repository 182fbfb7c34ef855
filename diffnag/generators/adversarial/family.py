"""The family `adversarial`: a Wasserstein GAN, as a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.adversarial import options
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.adversarial.generator import AdversarialGenerator
    from diffnag.generators.adversarial.network import AdversarialNetwork


class AdversarialFamily(NetworkFamily):
    """Trains and loads Wasserstein GANs."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[AdversarialNetwork], type[AdversarialGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.adversarial.generator import AdversarialGenerator
        from diffnag.generators.adversarial.network import AdversarialNetwork

        return AdversarialNetwork, AdversarialGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any = None, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Loss of critic, generator and reader `(b,)`, each batch with samples of its own."""
        import torch

        del condition
        latents = torch.randn(len(batch), net.size, generator=generator)[share].to(batch.V.device)
        u = torch.rand(len(batch), net.packing.size, generator=generator)[share].to(batch.V.device)
        mix = torch.rand(len(batch), generator=generator)[share].to(batch.V.device)
        found: Tensor = net.losses(batch[torch.arange(len(batch))[share]], latents, u, mix)
        return found
