"""Features of an architecture graph for small models: entries of V and E, and counts. They are differentiable in V and E."""

from __future__ import annotations

import torch
from torch import Tensor


def graph_features(V: Tensor, E: Tensor, mask: Tensor) -> Tensor:
    """`V (b, n, f)`, `E (b, n, n)` in [0, 1], `mask (b, n)` -> `(b, n f + n (n - 1) / 2 + f + f f)`.

    In this order: V, the upper triangle of E, the number of nodes with each operator, and the number of edges between each pair of
    operators (V^T E V). The last two do not depend on the order of the nodes. Absent nodes count as zero.
    """
    V = V * mask[..., None]
    E = E * (mask[:, :, None] & mask[:, None, :])
    i, j = torch.triu_indices(V.shape[1], V.shape[1], 1, device=V.device)
    pairs = torch.einsum("bnf,bnm,bmg->bfg", V, E, V)
    return torch.cat([V.flatten(1), E[:, i, j], V.sum(1), pairs.flatten(1)], dim=1)
