"""Files of supernets, whose weights a space that `ShipsWeights` gives to its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "supernet"


def stored(supernet: nn.Module) -> dict[str, Tensor]:
    """The tensors of a supernet as its file holds them: weights in two bytes each, vectors of normalisation in four, no classifier."""
    tensors = supernet.state_dict().items()
    return {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in tensors if not name.startswith("classifier.")}
