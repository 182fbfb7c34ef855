"""The family `pointers`: node after node, its operator and then its inputs among the nodes before, for graphs of a hundred nodes and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.family import NetworkFamily
from diffnag.generators.pointers import options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.pointers.generator import PointerGenerator
    from diffnag.generators.pointers.network import PointerNetwork


class PointerFamily(NetworkFamily):
    """Trains and loads networks that point to the inputs of each node."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[PointerNetwork], type[PointerGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.pointers.generator import PointerGenerator
        from diffnag.generators.pointers.network import PointerNetwork

        return PointerNetwork, PointerGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """The exact negative log-likelihood, in nats, of graphs of which entries are left out as they are read."""
        import torch

        del condition
        dropped, rows = net.config.dropout, torch.arange(len(batch))[share]
        there = torch.rand(len(batch), net.packing.nodes, net.config.width, generator=generator)[rows] >= dropped
        return -net.log_likelihood(batch[rows], there.to(net.device) / (1 - dropped))
