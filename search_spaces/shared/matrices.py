"""What spaces ask of quantised matrices when they decode: one operator a node, and the wiring that belongs to it."""

from __future__ import annotations

import numpy as np


def operator_fault(V: np.ndarray) -> str | None:
    """Why the rows of `V (n, f)` in {0, 1} do not name one operator a node; None where they do."""
    counts = V.sum(1)
    if (counts == 1).all():
        return None
    node = int((counts != 1).argmax())
    return f"node {node} has {int(counts[node])} operators"


def wiring_fault(E: np.ndarray, expected: np.ndarray) -> str | None:
    """The first entry in which `E (n, n)` in {0, 1} is not the wiring `expected (n, n)`; None where there is none."""
    if not (wrong := expected != E).any():
        return None
    i, j = np.argwhere(wrong)[0]
    return f"edge {i}->{j} is {'missing' if expected[i, j] else 'not in the space'}"
