"""What may be chosen of a language model at each scale of HW-GPT-Bench."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

HEAD = 64
"""Size of a head in the benchmark, whatever the embedding width."""
RATIOS = (2, 3, 4)
"""MLP ratios of a layer."""
FEWER = 2
"""Layers by which the shallowest models differ from the deepest."""
BIASES = ("bias", "nobias")
BENCHMARK_FILE = "hw_gpt_bench.npz"
"""Name of the file of the benchmark's surrogates."""


@dataclass(frozen=True)
class Scale:
    """What may be chosen at one scale."""

    letter: str
    widths: tuple[int, int, int]
    heads: tuple[int, int, int]
    depth: int
    """Most layers."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Numbers of layers."""
        return tuple(range(self.depth - FEWER, self.depth + 1))

    @property
    def embeddings(self) -> tuple[tuple[int, str], ...]:
        """Width, and biases or none, in the order of the operators of node 0."""
        return tuple(itertools.product(self.widths, BIASES))

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Heads and MLP ratio, in the order of the operators that are layers."""
        return tuple(itertools.product(self.heads, RATIOS))
