"""The family of a trained network: what is left to each is its parts, its options and its loss. Importing it loads no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diffnag.arch import ArchBatch
    from diffnag.generators.network import GraphNetwork
    from diffnag.generators.trained import NetworkGenerator
    from diffnag.protocols import SearchSpace


class NetworkFamily(ABC):
    """Trains and loads the networks of one family. Modules that need torch are imported by the methods, not by the module of a family."""

    Config: ClassVar[type]
    Sampling: ClassVar[type]

    @abstractmethod
    def parts(self) -> tuple[type[GraphNetwork], type[NetworkGenerator]]:
        """The classes of its networks and of its generators."""

    @abstractmethod
    def loss(self, net: Any, batch: ArchBatch, condition: Any, *, generator: torch.Generator, share: slice = slice(None)) -> Tensor:
        """Unreduced loss of the rows `share` of `batch`; randomness is drawn for the whole batch."""

    def build(self, space: SearchSpace, config: Any, *, seed: int) -> Any:
        """A fresh network, its weights drawn by `seed`."""
        from diffnag.networks.build import seeded

        network, _ = self.parts()
        with seeded(seed):
            return network(space, config)

    def load(self, space: SearchSpace, path: Path | None = None, *, device: str | torch.device = "cpu") -> NetworkGenerator:
        """The generator in `path`, by default the shipped one; see `load_network` for the errors."""
        from diffnag.generators.network import load_network

        network, generator = self.parts()
        return generator(space, load_network(network, space, path, device=device))

    def generator(self, space: SearchSpace, net: Any, *, split: str = "") -> NetworkGenerator:
        """A network as a generator."""
        _, generator = self.parts()
        net.split = split or net.split
        return generator(space, net)

    def save(self, path: Path, net: Any, meta: Mapping[str, Any]) -> None:
        """Write the weights and everything that `load` needs."""
        net.save(path, meta)
