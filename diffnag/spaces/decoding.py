"""Decoding of batches of quantised matrices, for every space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffnag.protocols import Decoded, DecodesBatches

if TYPE_CHECKING:
    import numpy as np

    from diffnag.protocols import SearchSpace


def decode_all(space: SearchSpace, V: np.ndarray, E: np.ndarray) -> list[Decoded]:
    """What `space.decode` returns for each row of `V (b, n, f)`, `E (b, n, n)`; in one go where the space can."""
    if isinstance(space, DecodesBatches):
        return space.decode_batch(V, E)
    return [space.decode(v, e) for v, e in zip(V, E, strict=True)]
