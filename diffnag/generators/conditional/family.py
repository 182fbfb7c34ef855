"""The family `conditional`: the discrete diffusion with several conditions (Graph-DiT, Liu et al. 2024) and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.errors import unknown
from diffnag.generators.conditional import options
from diffnag.generators.discrete.family import DiscreteFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import Arch, ArchBatch
    from diffnag.generators.conditional.generator import ConditionalGenerator
    from diffnag.generators.conditional.network import ConditionalNetwork
    from diffnag.protocols import SearchSpace


class ConditionalFamily(DiscreteFamily):
    """Trains and loads networks with conditions."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[ConditionalNetwork], type[ConditionalGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.conditional.generator import ConditionalGenerator
        from diffnag.generators.conditional.network import ConditionalNetwork

        return ConditionalNetwork, ConditionalGenerator

    def build(self, space: SearchSpace, config: Any, *, seed: int) -> Any:
        """A fresh network; see `DiscreteFamily.build`. `UserError` for an unknown encoder as well."""
        from diffnag.generators.conditional.network import ENCODERS

        if config.encoder not in ENCODERS:
            raise unknown("encoder", config.encoder, ENCODERS)
        return super().build(space, config, seed=seed)

    def conditions_of(self, net: ConditionalNetwork, archs: Sequence[Arch], space: SearchSpace) -> Tensor:
        """Standardised values of the conditions `(m, c)` of the training set, whose laws the network keeps."""
        from diffnag.generators.conditional.conditions import Measures

        measures = Measures(net.names, space)
        net.units = measures.units
        net.learn_laws(values := measures(archs))
        return net.laws.standard(values)

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """The loss of `discrete` under the condition, of which each part is left open, or only named, in a share of the rows."""
        import torch

        config, chance = net.config, torch.rand(2, *condition.shape, generator=generator).to(condition.device)
        named = chance[1] < config.named
        words = torch.where(named, net.laws.thirds(condition), -1)
        open_ = chance[0] < config.dropped
        asked = torch.cat([condition.masked_fill(open_ | named, torch.nan), words.masked_fill(open_, -1).float()], dim=1)
        return super().loss(net, batch, asked, generator=generator, share=share)
