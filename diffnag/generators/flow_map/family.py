"""The family `flow-map`: a network that maps noise to architectures in one or two evaluations, distilled from a score network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from diffnag.errors import UserError
from diffnag.generators.family import NetworkFamily
from diffnag.generators.flow_map import options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.flow_map.generator import FlowMapGenerator
    from diffnag.generators.flow_map.network import FlowMap
    from diffnag.protocols import SearchSpace


class FlowMapFamily(NetworkFamily):
    """Trains and loads flow maps."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[FlowMap], type[FlowMapGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.flow_map.generator import FlowMapGenerator
        from diffnag.generators.flow_map.network import FlowMap

        return FlowMap, FlowMapGenerator

    def build(self, space: SearchSpace, config: options.Config, *, seed: int) -> FlowMap:
        """A network that begins as its teacher; `UserError` where there is no teacher for `space`."""
        from diffnag.generators.diffusion.denoiser import load_denoiser

        network, _ = self.parts()
        try:
            teacher = load_denoiser(space, Path(config.teacher) if config.teacher else None)
        except UserError as error:
            raise UserError(f"the family 'flow-map' learns from a score network, which --teacher names: {error}") from error
        return network.of(space, config, teacher, seed=seed)

    def loss(self, net: FlowMap, batch: ArchBatch, condition: None, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Cross-entropy of pairs of the teacher, as many as `batch` has rows; its architectures are not looked at."""
        return net.loss(len(batch), generator=generator, share=share)
