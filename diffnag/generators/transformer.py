"""The transformer over the nodes of an architecture that denoiser and meta-predictors share.

A token is a node: its operator row, its row and column of the adjacency matrix, and a sinusoidal encoding of its place
in the order (DiffusionNAG, section 3.1). A condition enters by adaptive layer norm (Peebles & Xie 2023).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffnag.generators.linear import Linear
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


class GELU(nn.Module):
    """`nn.GELU(approximate="tanh")` by the sigmoid, `1 + tanh(y) = 2 sigmoid(2 y)`, which a CPU computes faster."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape; the same values up to rounding."""
        if torch.is_grad_enabled():
            return F.gelu(x, approximate="tanh")
        y = x.square().mul_(2 * 0.044715 * math.sqrt(2 / math.pi)).add_(2 * math.sqrt(2 / math.pi))
        return y.mul_(x).sigmoid_().mul_(x)


class Block(nn.Module):
    """Self-attention and MLP, each behind a layer norm scaled, shifted and gated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.mlp = nn.Sequential(Linear(width, 2 * width), GELU(), Linear(2 * width, width))
        self.modulation = Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)  # every block begins as the identity
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """`h (b, n, width)`, `condition (b, width)` or `(1, width)`, `allowed` bool, `(b, 1, n, n)` or `(g n, g n)` -> `(b, n, width)`.

        With `(g n, g n)`, the tokens of g rows form one sequence.
        """
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition).chunk(6, dim=1)
        q, k, v = self.qkv(_norm(h, scale1, shift1)).reshape(-1, allowed.shape[-1], 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).reshape(h.shape)
        h = torch.addcmul(h, gate1[:, None], self.out(attended))
        return torch.addcmul(h, gate2[:, None], self.mlp(_norm(h, scale2, shift2)))


def _norm(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The layer norm of `h (b, n, width)`, scaled by `1 + scale (b, width)` and shifted by `shift (b, width)`; one row serves for all."""
    if len(scale) == 1:
        return F.layer_norm(h, h.shape[-1:], 1 + scale[0], shift[0])
    return torch.addcmul(shift[:, None], F.layer_norm(h, h.shape[-1:]), 1 + scale[:, None])


SEQUENCE = 16
"""Tokens up to which the sequence is filled with those of further rows: on a CPU attention over 16 tokens is faster than twice over 8."""


class GraphTransformer(nn.Module):
    """(V, E) and a condition -> one vector a node."""

    allowed: Tensor
    places: Tensor

    def __init__(
        self, *, nodes: int, operators: int, width: int, layers: int, heads: int, allowed: Tensor, positional: bool = True
    ) -> None:
        super().__init__()
        self.token = Linear(operators + 2 * nodes, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        places = sinusoidal(torch.arange(nodes, dtype=torch.float32), width)
        self.register_buffer("places", places if positional else torch.zeros_like(places), persistent=False)
        self.register_buffer("allowed", allowed, persistent=False)
        self.modulation = Linear(width, 2 * width)

    def forward(self, V: Tensor, E: Tensor, mask: Tensor | None, condition: Tensor) -> Tensor:
        """`V (b, n, f)`, `E (b, n, n)`, `mask (b, n)` (None: every node is there), `condition (b, width)` -> `(b, n, width)`.

        A condition `(1, width)` is that of all rows, and is faster.
        """
        allowed, together = self.allowed, max(SEQUENCE // V.shape[1], 1)
        if mask is not None:
            itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
            allowed = allowed & mask[:, None, None, :] | itself  # a softmax over nothing would be NaN
        elif len(V) % together == 0:
            allowed = torch.block_diag(*[allowed] * together)
        h = self.token(torch.cat([V, E, E.transpose(1, 2)], dim=2)) + self.places
        for block in self.blocks:
            h = block(h, condition, allowed)
        return _norm(h, *self.modulation(condition).chunk(2, dim=1))
