"""Strings of NAS-Bench-101: for each vertex its operation and the vertices that it reads, such as `conv3x3@0/output@1`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from diffnag.search_spaces.nasbench101.graphs import Edge

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""The operations in the order of the benchmark's configuration, on which its hash depends."""
NAMES = ("conv3x3", "conv1x1", "maxpool3x3")
"""The operations as they are written in strings."""


def text_of(labels: Sequence[int], edges: tuple[Edge, ...]) -> str:
    """The string of the cell whose interior vertices have the operations `labels`, indices into `OPERATIONS`."""
    return _template(len(labels) + 2, edges).format(*[NAMES[label] for label in labels])


@lru_cache(maxsize=4096)
def _template(vertices: int, edges: tuple[Edge, ...]) -> str:
    """The string of a wiring with a placeholder `{}` for the operation of each interior vertex."""
    sources = [",".join(str(i) for i, j in edges if j == vertex) for vertex in range(1, vertices)]
    return "/".join([*[f"{{}}@{listed}" for listed in sources[:-1]], f"output@{sources[-1]}"])
