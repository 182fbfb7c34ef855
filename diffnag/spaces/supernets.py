"""Files of supernets, whose weights a space that `ShipsWeights` gives to its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.io.checkpoint import in_two_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "supernet"


def stored(supernet: nn.Module) -> dict[str, Tensor]:
    """The tensors of a supernet as its file holds them, without its classifier."""
    return {name: in_two_bytes(tensor) for name, tensor in supernet.state_dict().items() if not name.startswith("classifier.")}
