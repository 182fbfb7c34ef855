"""Files of supernets, whose weights a space that `ShipsWeights` gives to its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from diffnag.io.checkpoint import in_two_bytes

if TYPE_CHECKING:
    from torch import nn

KIND = "supernet"


def stored(supernet: nn.Module) -> dict[str, Tensor]:
    """The tensors of a supernet as its file holds them, without its classifier."""
    tensors = {name: value for name, value in supernet.state_dict().items() if isinstance(value, Tensor)}
    return {name: in_two_bytes(tensor) for name, tensor in tensors.items() if not name.startswith("classifier.")}
