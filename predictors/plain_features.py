"""Plain features: which operator each node has, and which nodes are connected.

They know nothing of what operators do. Two architectures with different matrices always differ in them, so that a predictor with this
group can tell apart all that the space tells apart, even where the roles of the operators mislead it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace


def plain_features(V: np.ndarray, E: np.ndarray) -> np.ndarray:
    """All entries of `V (b, n, f)`, then those of `E (b, n, n)` above the diagonal, as float64 `(b, n f + n (n - 1) / 2)`."""
    i, j = np.triu_indices(E.shape[1], 1)
    return np.concatenate([V.reshape(len(V), -1), E[:, i, j]], axis=1).astype(np.float64)


def varying(space: SearchSpace) -> np.ndarray:
    """Bool mask of the columns of `plain_features` that are not `constant` in the space, `(n f + n (n - 1) / 2,)`."""
    constant_V, constant_E = space.constant
    return plain_features(~constant_V[None], ~constant_E[None])[0] > 0
