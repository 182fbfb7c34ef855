"""The families `conditional` and `conditional-sde`: the discrete diffusion (Graph-DiT, Liu et al. 2024) and the score SDE with several
conditions and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.errors import unknown
from diffnag.generators.conditional import options
from diffnag.generators.diffusion.family import SDEFamily
from diffnag.generators.discrete.family import DiscreteFamily
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.conditional.generator import ConditionalGenerator, ConditionalScoreGenerator
    from diffnag.generators.conditional.network import ConditionalDenoiser, ConditionalNetwork, Conditioned
    from diffnag.protocols import SearchSpace


class ConditionedFamily(NetworkFamily):
    """Trains and loads networks with conditions."""

    def build(self, space: SearchSpace, config: Any, *, seed: int) -> Any:
        """A fresh network, as the family without conditions builds it. `UserError` for an unknown encoder as well."""
        from diffnag.generators.conditional.encoders import ENCODERS

        if config.encoder not in ENCODERS:
            raise unknown("encoder", config.encoder, ENCODERS)
        return super().build(space, config, seed=seed)

    def conditions_of(self, net: Conditioned, archs: Sequence[Arch], space: SearchSpace) -> Tensor:
        """Standardised values of the conditions `(m, c)` of the training set, whose laws the network keeps."""
        return net.learn_conditions(archs, space)


class ConditionalFamily(ConditionedFamily, DiscreteFamily):
    """Trains and loads networks of discrete diffusions with conditions."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[ConditionalNetwork], type[ConditionalGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.conditional.generator import ConditionalGenerator
        from diffnag.generators.conditional.network import ConditionalNetwork

        return ConditionalNetwork, ConditionalGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """The loss of `discrete` under the condition, of which each part is left open, or only named, in a share of the rows."""
        return super().loss(net, batch, partly_open(net, condition, generator), generator=generator, share=share)


class ConditionalSDEFamily(ConditionedFamily, SDEFamily):
    """Trains and loads score networks with conditions."""

    Config: ClassVar[type] = options.ScoreConfig
    Sampling: ClassVar[type] = options.ScoreSampling

    def parts(self) -> tuple[type[ConditionalDenoiser], type[ConditionalScoreGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.conditional.generator import ConditionalScoreGenerator
        from diffnag.generators.conditional.network import ConditionalDenoiser

        return ConditionalDenoiser, ConditionalScoreGenerator

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """The loss of `sde` under the condition, of which each part is left open, or only named, in a share of the rows."""
        return super().loss(net, batch, partly_open(net, condition, generator), generator=generator, share=share)


def partly_open(net: Conditioned, condition: Tensor, generator: torch.Generator) -> Tensor:
    """Standardised values `(b, c)` as a training shows them to the network, `(b, 2 c)`: some as numbers, some as words, some not at all."""
    import torch

    chance = torch.rand(2, *condition.shape, generator=generator).to(condition.device)
    named, open_ = chance[1] < net.config.named, chance[0] < net.config.dropped
    words = torch.where(named, net.laws.thirds(condition), -1)
    return torch.cat([condition.masked_fill(open_ | named, torch.nan), words.masked_fill(open_, -1).float()], dim=1)
