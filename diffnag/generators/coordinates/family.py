"""The family `coordinates`: architectures as clouds of points, drawn by an equivariant diffusion (SyCo, Ketata et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.coordinates import options
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.coordinates.generator import CoordinateGenerator
    from diffnag.generators.coordinates.network import CoordinateNetwork


class CoordinatesFamily(NetworkFamily):
    """Trains and loads equivariant denoisers of lifted architectures."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[CoordinateNetwork], type[CoordinateGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.coordinates.generator import CoordinateGenerator
        from diffnag.generators.coordinates.network import CoordinateNetwork

        return CoordinateNetwork, CoordinateGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any = None, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Denoising loss `(b,)` at one random level a row, the levels stratified over the whole batch."""
        import torch

        del condition
        b, device = len(batch), batch.V.device
        level = net.level((torch.arange(b) + torch.rand(b, generator=generator)) / b)[share].to(device)
        noise = torch.randn(b, net.packing.nodes, net.channels, generator=generator)[share].to(device)
        return net.loss(batch[torch.arange(b)[share]], level, noise)
