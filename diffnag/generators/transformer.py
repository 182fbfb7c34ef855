"""The transformer over the nodes of an architecture that denoiser and meta-predictors share.

A token is a node: its operator row, its row and column of the adjacency matrix, and a sinusoidal encoding of its place
in the order (DiffusionNAG, section 3.1). A condition enters by adaptive layer norm (Peebles & Xie 2023).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.protocols import Attention


def sinusoidal(values: Tensor, width: int, *, longest: float = 10_000.0) -> Tensor:
    """`(m,)` -> `(m, width)`: sines and cosines at geometric wavelengths (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(-math.log(longest) * torch.arange(width // 2, device=values.device) / (width // 2))
    angles = values[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def noise_embedding(noise: Tensor, width: int) -> Tensor:
    """Noise levels sigma / alpha `(b,)` -> `(b, width)`: sines and cosines of their logarithm, slow enough to be smooth."""
    return sinusoidal(4 * noise.log(), width, longest=64.0)


def attention_mask(kind: Attention, adjacency: Tensor) -> Tensor:
    """`(n, n)` bool, True where node i may attend to node j; every node attends to itself.

    `ancestors` is the reachability of the wiring `adjacency (n, n)`, which must therefore be constant in the space.
    """
    n = len(adjacency)
    if kind == "full":
        return torch.ones(n, n, dtype=torch.bool)
    if kind == "causal":
        return torch.ones(n, n, dtype=torch.bool).tril()
    reach = (torch.eye(n) + adjacency.cpu()).matrix_power(n)  # paths of up to n edges
    return reach.T > 0


class Block(nn.Module):
    """Self-attention and MLP, each behind a layer norm scaled, shifted and gated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)  # every block begins as the identity
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """`h (b, n, width)`, `condition (b, width)`, `allowed (n, n)` or `(b, 1, n, n)` bool -> `(b, n, width)`."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        q, k, v = self.qkv(_norm(h) * (1 + scale1) + shift1).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)
        h = h + gate1 * self.out(attended)
        return h + gate2 * self.mlp(_norm(h) * (1 + scale2) + shift2)


def _norm(h: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:])


class GraphTransformer(nn.Module):
    """(V, E) and a condition -> one vector a node."""

    allowed: Tensor
    places: Tensor

    def __init__(
        self, *, nodes: int, operators: int, width: int, layers: int, heads: int, allowed: Tensor, positional: bool = True
    ) -> None:
        super().__init__()
        self.token = nn.Linear(operators + 2 * nodes, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        places = sinusoidal(torch.arange(nodes, dtype=torch.float32), width)
        self.register_buffer("places", places if positional else torch.zeros_like(places), persistent=False)
        self.register_buffer("allowed", allowed, persistent=False)
        self.modulation = nn.Linear(width, 2 * width)

    def forward(self, V: Tensor, E: Tensor, mask: Tensor | None, condition: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)`, `mask (b, n)` (None: every node is there), `condition (b, width)` -> `(b, n, width)`."""
        allowed = self.allowed
        if mask is not None:
            itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
            allowed = allowed & mask[:, None, None, :] | itself  # a softmax over nothing would be NaN
        h = self.token(torch.cat([V, E, E.transpose(1, 2)], dim=2)) + self.places
        for block in self.blocks:
            h = block(h, condition, allowed)
        scale, shift = self.modulation(condition)[:, None].chunk(2, dim=2)
        return _norm(h) * (1 + scale) + shift
