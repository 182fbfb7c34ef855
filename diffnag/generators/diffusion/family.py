"""The family `sde`: a score SDE over operator and adjacency matrices (Song et al. 2021; DiffusionNAG, An et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.diffusion import options
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.diffusion.denoiser import Denoiser
    from diffnag.generators.diffusion.generator import Generator
    from diffnag.protocols import SearchSpace


class SDEFamily(NetworkFamily):
    """Trains and loads score networks."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[Denoiser], type[Generator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.diffusion.denoiser import Denoiser
        from diffnag.generators.diffusion.generator import Generator

        return Denoiser, Generator

    def build(self, space: SearchSpace, config: Any, *, seed: int) -> Denoiser:
        """A fresh network, its weights drawn by `seed`; `UserError` for a width that the heads do not divide."""
        from diffnag.generators.diffusion.sde import make_sde
        from diffnag.generators.network import check_width
        from diffnag.networks.build import seeded

        check_width(config.width, config.heads)
        network, _ = self.parts()
        sde = make_sde(config.sde)
        with seeded(seed):
            return network(space, sde, config)

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Denoising loss at one random level for each row, times stratified over the whole batch."""
        import torch

        from diffnag.generators.diffusion.samplers import stratified_times

        x0 = net.packing.pack(batch.V, batch.E)
        t = stratified_times(net.training_times, len(x0), generator=generator)[share].to(x0.device)
        noise = torch.randn(x0.shape, generator=generator)[share].to(x0.device)
        loss = net.diffusion_loss if net.config.sde == "learned" else net.cross_entropy if net.config.cross_entropy else net.loss
        found: Tensor = loss(x0[share], t, noise, condition=None if condition is None else condition[share])
        return found
