"""The family `discrete`: diffusion over categories of operators and edges (DiGress, Vignac et al. 2023), for directed acyclic graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from diffnag.errors import UserError, unknown
from diffnag.generators.discrete import options
from diffnag.generators.family import NetworkFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.discrete.generator import DiscreteGenerator
    from diffnag.generators.discrete.network import DiscreteNetwork
    from diffnag.protocols import SearchSpace


class DiscreteFamily(NetworkFamily):
    """Trains and loads networks of discrete diffusions."""

    Config: ClassVar[type] = options.Config
    Sampling: ClassVar[type] = options.Sampling

    def parts(self) -> tuple[type[DiscreteNetwork], type[DiscreteGenerator]]:
        """The classes of its networks and of its generators."""
        from diffnag.generators.discrete.generator import DiscreteGenerator
        from diffnag.generators.discrete.network import DiscreteNetwork

        return DiscreteNetwork, DiscreteGenerator

    def build(self, space: SearchSpace, config: Any, *, seed: int) -> Any:
        """A fresh network, its weights drawn by `seed`; `UserError` for an unknown noise and options that do not go together."""
        from diffnag.generators.discrete.noising import NOISES
        from diffnag.generators.network import check_width

        check_width(config.width, config.heads)
        if config.noise not in NOISES:
            raise unknown("noise", config.noise, NOISES)
        if config.noise == "graph" and config.edge_groups:
            raise UserError("noise that depends on the graph knows edges one by one; leave out --edge-groups, or take another --noise")
        return super().build(space, config, seed=seed)

    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Cross-entropy of the entries at one random time for each row, times stratified over the whole batch."""
        import torch

        x = net.numbers(batch)
        t = (torch.randperm(len(x), generator=generator) + torch.rand(len(x), generator=generator)) / len(x)
        u = torch.rand(2, *x.shape, generator=generator)
        x, t, u = x[share], t[share].to(x.device), u[:, share].to(x.device)
        z, abar, weight = net.noising.corrupt(x, t, u)
        log_p = net(z, abar, None if condition is None else condition[share])
        return -(weight * log_p.gather(2, x[..., None])[..., 0]).sum(1)
