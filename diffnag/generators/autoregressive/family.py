"""The family `autoregressive`: node after node, its operator and then its incoming edges, with exact probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.command.options import option
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.autoregressive.generator import AutoregressiveGenerator
    from diffnag.generators.autoregressive.network import AutoregressiveNetwork


@dataclass(frozen=True)
class Config:
    """Everything, beside the space, that decides the network."""

    width: int = option(96, most=4096, help="size of the state that the symbols drawn so far add up to")
    layers: int = option(3, least=0, most=64, help="residual layers that read the state")
    together: int = option(6, most=10, help="edges into a node that are drawn at once, as one of 2 ** TOGETHER patterns")


@dataclass(frozen=True)
class Sampling:
    """There is nothing to choose: a draw takes one step a symbol."""


class AutoregressiveFamily(NetworkFamily):
    """Trains and loads networks that draw one symbol after the other."""

    Config: ClassVar[type] = Config
    Sampling: ClassVar[type] = Sampling

    def parts(self) -> tuple[type[AutoregressiveNetwork], type[AutoregressiveGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.autoregressive.generator import AutoregressiveGenerator
        from diffnag.generators.autoregressive.network import AutoregressiveNetwork

        return AutoregressiveNetwork, AutoregressiveGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """The exact negative log-likelihood, in nats."""
        del condition, generator
        return -net.log_likelihood(net.read(batch)[share]).sum(1)
