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
        """The exact negative log-likelihood, in nats."""
        import torch

        del condition, generator
        rows = torch.arange(len(batch))[share]
        return -net.log_likelihood(batch[rows])
