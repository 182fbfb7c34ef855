"""The family `autoregressive`: node after node, its operator and then its incoming edges, with exact probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.autoregressive import options
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.autoregressive.generator import AutoregressiveGenerator
    from diffnag.generators.autoregressive.network import AutoregressiveNetwork


class AutoregressiveFamily(NetworkFamily):
    """Trains and loads networks that draw one symbol after the other."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[AutoregressiveNetwork], type[AutoregressiveGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.autoregressive.generator import AutoregressiveGenerator
        from diffnag.generators.autoregressive.network import AutoregressiveNetwork

        return AutoregressiveNetwork, AutoregressiveGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """The exact negative log-likelihood, in nats."""
        del condition, generator
        return -net.log_likelihood(net.read(batch)[share]).sum(1)
