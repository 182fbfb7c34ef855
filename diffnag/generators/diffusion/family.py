"""The family `sde`: a score SDE over operator and adjacency matrices (Song et al. 2021; DiffusionNAG, An et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.generators.diffusion import options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.diffusion.denoiser import Denoiser
    from diffnag.generators.diffusion.generator import Generator
    from diffnag.protocols import SearchSpace


class SDEFamily:
    """Trains and loads score networks. Importing it loads no torch."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def load(self, space: SearchSpace, path: Path | None = None, *, device: str | torch.device = "cpu") -> Generator:
        """The generator in `path`, by default the shipped one; see `load_denoiser` for the errors."""
        from diffnag.generators.diffusion.denoiser import load_denoiser
        from diffnag.generators.diffusion.generator import Generator

        return Generator(space, load_denoiser(space, path, device=device))

    def build(self, space: SearchSpace, config: options.Config, *, seed: int) -> Denoiser:
        """A fresh network, its weights drawn by `seed`; `UserError` for a width that the heads do not divide."""
        from diffnag.generators.diffusion.denoiser import Denoiser
        from diffnag.generators.diffusion.sde import make_sde
        from diffnag.generators.network import check_width
        from diffnag.networks.build import seeded

        check_width(config.width, config.heads)
        sde = make_sde(config.sde)
        with seeded(seed):
            return Denoiser(space, sde, config)

    def loss(self, net: Denoiser, batch: ArchBatch, condition: None = None, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Denoising loss at one random level for each row, times stratified over the whole batch."""
        import torch

        from diffnag.generators.diffusion.samplers import stratified_times

        x0 = net.packing.pack(batch.V, batch.E)
        t = stratified_times(net.training_times, len(x0), generator=generator)[share].to(x0.device)
        noise = torch.randn(x0.shape, generator=generator)[share].to(x0.device)
        loss = net.diffusion_loss if net.config.sde == "learned" else net.cross_entropy if net.config.cross_entropy else net.loss
        return loss(x0[share], t, noise)

    def generator(self, space: SearchSpace, net: Denoiser, *, split: str = "") -> Generator:
        """A network as a generator."""
        from diffnag.generators.diffusion.generator import Generator

        net.split = split or net.split
        return Generator(space, net)

    def save(self, path: Path, net: Denoiser, meta: Mapping[str, Any]) -> None:
        """Write the weights and everything that `load` needs."""
        net.save(path, meta)
