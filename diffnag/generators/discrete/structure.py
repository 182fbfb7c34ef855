"""What can be read off a noisy graph: DiGress shows its network such features, as a noisy graph is a graph (Vignac et al. 2023, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor


def structural_size(nodes: int) -> int:
    """Number of features of a node in `structural`."""
    return 2 * (2 * nodes + 7)


def structural(signed: Tensor) -> Tensor:
    """Features of each node `(b, n, structural_size(n))`, from edges `signed (b, n, n)`: 1 there, -1 not there, 0 hidden or lower triangle.

    They are those of two graphs, the one without the hidden edges and the one with all of them, side by side: which nodes are reached
    and reach this one, in and out degree, number of edges of the whole graph, and number of paths (as a logarithm) and length of the
    longest path from the first node and to the last.
    """
    b, n, _ = signed.shape
    upper = torch.ones(n, n, device=signed.device).triu(1)
    A = torch.cat([(signed > 0).float(), (signed >= 0).float() * upper])
    power, paths, longest = A, A, A
    for length in range(2, n):
        power = power @ A
        paths = paths + power
        longest = torch.where(power > 0, length, longest)
    reached = (paths > 0).float()
    features = torch.cat([
        reached, reached.transpose(1, 2),
        torch.stack([
            A.sum(1) / n, A.sum(2) / n, (A.sum((1, 2)) / n)[:, None].expand(-1, n),
            paths[:, 0].log1p(), paths[:, :, -1].log1p(), longest[:, 0] / n, longest[:, :, -1] / n,
        ], dim=2),
    ], dim=2)  # fmt: skip
    return torch.cat([features[:b], features[b:]], dim=2)
