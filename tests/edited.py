"""Matrices of an architecture with some entries changed, for tests of what a space says of invalid graphs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from diffnag.protocols import SearchSpace

Change = tuple[str, int, int | slice, int]
"""Matrix (`V` or `E`), row, column and new value."""


def edited(space: SearchSpace, text: str, changes: Iterable[Change]) -> tuple[np.ndarray, np.ndarray]:
    """`V` and `E` of the architecture `text`, uint8, with the changes made one after the other."""
    V, E = space.encode(space.from_str(text))
    for matrix, i, j, value in changes:
        (V if matrix == "V" else E)[i, j] = value
    return V.astype(np.uint8), E.astype(np.uint8)
