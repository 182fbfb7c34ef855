"""The family `coordinates`: architectures as clouds of points, drawn by an equivariant diffusion (SyCo, Ketata et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.command.options import option
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.coordinates.generator import CoordinateGenerator
    from diffnag.generators.coordinates.network import CoordinateNetwork


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network and its loss."""

    dimensions: int = option(3, most=64, help="dimensions of the points; the fewer, the more wirings look alike")
    width: int = option(64, help="size of a node's features")
    layers: int = option(3, help="equivariant layers")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn."""

    steps: int = option(40, most=10_000, help="steps of the sampler, each one evaluation; one more reads the edges")


class CoordinatesFamily(NetworkFamily):
    """Trains and loads equivariant denoisers of lifted architectures."""

    Config: ClassVar[type] = Config
    Sampling: ClassVar[type] = Sampling

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
