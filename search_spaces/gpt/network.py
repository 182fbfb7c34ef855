"""The language model of HW-GPT-Bench (Sukthanker et al., NeurIPS 2024), and its size in closed form.

A decoder of pre-normalised blocks, in each of which causal attention and a two-layer perceptron read the same input and are both added
to it. As in the benchmark a head keeps its width whatever the embedding's, half of it is rotated by the position (Su et al., 2021), all
normalisations have scale and shift, the vocabulary is not padded, and the output layer shares the embedding's weights. Position enters
by the rotation alone, so that no weight depends on the length of the context. There is no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffnag.protocols import Size

BASE = 10_000
"""Base of the rotation's wavelengths."""
INITIAL_STD = 0.02
"""Standard deviation of untrained weights; biases begin at zero."""


@dataclass(frozen=True)
class Shape:
    """The shape of a language model."""

    width: int
    """Size of the embedding."""
    bias: bool
    """Whether the linear layers of the blocks have biases."""
    layers: tuple[tuple[int, int], ...]
    """Heads, and the size of the perceptron's hidden layer as a multiple of the width, of each block."""
    head: int
    """Size of a head, a multiple of 4."""
    vocabulary: int


class Attention(nn.Module):
    """Causal self-attention in which each head reads the whole embedding."""

    def __init__(self, width: int, heads: int, head: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * heads * head, bias=bias)
        self.project_out = nn.Linear(heads * head, width, bias=bias)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """`x (b, t, width)` -> `(b, t, width)`; `turn (2, t, r)` are the cosines and sines of the rotation."""
        q, k, v = self.project_in(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, heads, t, head) each
        mixed = functional.scaled_dot_product_attention(_rotated(q, turn), _rotated(k, turn), v, is_causal=True)
        out: Tensor = self.project_out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A decoder block: x + attention(norm(x)) + perceptron(norm'(x))."""

    def __init__(self, width: int, heads: int, ratio: int, head: int, *, bias: bool) -> None:
        super().__init__()
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, head, bias=bias)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width, bias=bias), nn.GELU(), nn.Linear(ratio * width, width, bias=bias))

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """`(b, t, width)` -> `(b, t, width)`."""
        out: Tensor = x + self.attention(self.norm(x), turn) + self.mlp(self.norm_mlp(x))
        return out


class GPT(nn.Module):
    """The whole language model."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.head = shape.head
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, heads, ratio, shape.head, bias=shape.bias) for heads, ratio in shape.layers)
        self.norm = nn.LayerNorm(shape.width)
        self.apply(_initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids `(b, t)` of any length -> logits `(b, t, vocabulary)` of the next token at each place."""
        turn = _turn(tokens.shape[1], self.head // 2, like=self.embedding.weight)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, turn)
        return functional.linear(self.norm(x), self.embedding.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _turn(length: int, size: int, *, like: Tensor) -> Tensor:
    """Cosines and sines `(2, length, size)` by which the first `size` entries of a head turn; entries i and i + size / 2 turn together."""
    speed = BASE ** -(torch.arange(0, size, 2, device=like.device).to(like.dtype) / size)
    angle = torch.outer(torch.arange(length, device=like.device).to(like.dtype), speed).repeat(1, 2)
    return torch.stack([angle.cos(), angle.sin()])


def _rotated(x: Tensor, turn: Tensor) -> Tensor:
    """`x (b, heads, t, head)` with its first r entries turned by `turn (2, t, r)`."""
    turning, still = x[..., : turn.shape[2]], x[..., turn.shape[2] :]
    first, second = turning.chunk(2, dim=3)
    return torch.cat([turning * turn[0] + torch.cat([-second, first], dim=3) * turn[1], still], dim=3)


def size(shape: Shape, *, context: int) -> Size:
    """Size of `GPT` in closed form: multiply-adds of one forward pass over `context` tokens.

    They are those of the matrix products: linear layers without biases, scores and values of attention (over the whole context, as dense
    products), and the output layer.
    """
    width, bias = shape.width, int(shape.bias)
    params = (shape.vocabulary + 2) * width  # embedding, last normalisation
    flops = context * shape.vocabulary * width
    for heads, ratio in shape.layers:
        inner, hidden = heads * shape.head, ratio * width
        weights = 4 * width * inner + 2 * width * hidden
        params += weights + bias * (3 * inner + hidden + 2 * width) + 4 * width
        flops += context * weights + 2 * context**2 * inner
    return Size(params=params, flops=flops)
