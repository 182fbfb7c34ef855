"""One set of weights for the networks of all cells: the weights from which training may start, and the network that they are trained in.

In a supernet each connection of a cell has both convolutions. The network of a cell takes those that the cell names, and shares the rest of the
network with all others (single-path one-shot training, Guo et al., ECCV 2020).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffnag.errors import UserError
from diffnag.io.checkpoint import load_checkpoint, rebuilding
from diffnag.io.files import PRETRAINED
from diffnag.networks.build import seeded
from diffnag.search_spaces.nasbench201.network import Cell, Network, Reduction
from diffnag.search_spaces.nasbench201.operations import OPERATIONS
from diffnag.search_spaces.shared.connection_cell_network import KERNELS
from diffnag.search_spaces.shared.connection_cells import CONNECTIONS
from diffnag.search_spaces.shared.layers import relu_conv
from diffnag.spaces.supernets import KIND, stored

PATH = PRETRAINED / "nasbench201" / "supernet.safetensors"
CHANNELS = 16
"""Channels of the first stage."""
RESIDUAL = tuple(OPERATIONS.index(name) for name in ("nor_conv_3x3", "none", "nor_conv_3x3", "skip_connect", "none", "skip_connect"))
EMPTY = (OPERATIONS.index("none"),) * len(CONNECTIONS)
RESIDUAL_SHARE = 0.9
"""Share of the training steps that are the residual cell's; the other cells are drawn at random."""


class Supernet(nn.Module):
    """The networks of all cells, with one cell in each stage.

    In training, `forward` draws a cell for each batch; in evaluation it is the residual one.

    Args:
        num_classes: Number of logits.
        seed: Seed of the cells that are drawn.
    """

    def __init__(self, num_classes: int, *, seed: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.rng = np.random.default_rng(seed)
        shared = Network(EMPTY, channels=CHANNELS, cells=1, num_classes=num_classes)
        self.stem, self.last, self.classifier = shared.stem, shared.last, shared.classifier
        self.reductions = nn.ModuleList(part for part in shared.body if isinstance(part, Reduction))
        self.convs = nn.ModuleList(
            nn.ModuleDict({
                _key(i, name): relu_conv(width, width, kernel=kernel) for i in range(len(CONNECTIONS)) for name, kernel in KERNELS.items()
            })
            for width in (CHANNELS, 2 * CHANNELS, 4 * CHANNELS)
        )

    def network(self, operations: tuple[int, ...]) -> Network:
        """The network of a cell, given as indices into `OPERATIONS`; its layers are those of the supernet."""
        with torch.device("meta"):
            network = Network(operations, channels=CHANNELS, cells=1, num_classes=self.num_classes)
        for holder, name, own in self._layers(network):
            setattr(holder, name, own)
        network.classifier = self.classifier
        return network.train(self.training)

    def start(self, network: Network) -> None:
        """Copy the weights that a network shares with the supernet; its classifier is left as it is."""
        for holder, name, own in self._layers(network):
            getattr(holder, name).load_state_dict(own.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """Images `(b, 3, h, w)` -> logits `(b, num_classes)`."""
        logits: Tensor = self.network(self._drawn() if self.training else RESIDUAL)(images)
        return logits

    def get_extra_state(self) -> str:
        """The state of the generator of cells, as a part of `state_dict`: an interrupted training goes on with the same cells."""
        return json.dumps(self.rng.bit_generator.state)

    def set_extra_state(self, state: str) -> None:
        """Go on from such a state."""
        self.rng.bit_generator.state = json.loads(state)

    def _drawn(self) -> tuple[int, ...]:
        if self.rng.random() < RESIDUAL_SHARE:
            return RESIDUAL
        return tuple(int(op) for op in self.rng.integers(len(OPERATIONS), size=len(CONNECTIONS)))

    def _layers(self, network: Network) -> Iterator[tuple[nn.Module, str, nn.Module]]:
        """The layers of a network but its classifier: the module that holds it, its name there, and the supernet's own."""
        yield network, "stem", self.stem
        cells, reductions = iter(self.convs), iter(self.reductions)
        for place, part in enumerate(network.body):
            if isinstance(part, Cell):
                own = next(cells)
                for i in part.convs:
                    yield part.convs, i, own[_key(int(i), part.names[int(i)])]  # type: ignore[index]
            else:
                yield network.body, str(place), next(reductions)
        yield network, "last", self.last


def _key(connection: int, name: str) -> str:
    return f"{connection}-{name}"


@lru_cache(maxsize=1)
def shipped() -> Supernet:
    """The supernet that is shipped; raises `UserError` if its file cannot be used."""
    return load_supernet(PATH)


def load_supernet(path: Path) -> Supernet:
    """Load a file of `python -m diffnag.train_supernet`, in evaluation mode, with an untrained classifier of one class."""
    tensors, _ = load_checkpoint(path, kind=KIND)
    with seeded(0):
        supernet = Supernet(1)
    with rebuilding(path):
        if tensors.keys() != stored(supernet).keys():
            raise UserError(f"{path} holds other tensors than those of a supernet")
        supernet.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    return supernet.eval()
