"""Checks of quantised matrices that several spaces share in `decode`."""

from __future__ import annotations

import numpy as np


def operator_fault(V: np.ndarray) -> str | None:
    """The first node whose row in `V (n, f)` in {0, 1} does not have exactly one operator, as a reason; None if all rows do."""
    counts = V.sum(1)
    if (counts == 1).all():
        return None
    node = int((counts != 1).argmax())
    return f"node {node} has {int(counts[node])} operators"


def wiring_fault(E: np.ndarray, expected: np.ndarray) -> str | None:
    """The first edge in which `E (n, n)` in {0, 1} differs from `expected (n, n)`, as a reason; None if none differs."""
    if not (wrong := expected != E).any():
        return None
    i, j = np.argwhere(wrong)[0]
    return f"edge {i}->{j} is {'missing' if expected[i, j] else 'not in the space'}"
