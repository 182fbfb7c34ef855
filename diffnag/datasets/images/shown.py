"""Arrays of any range and number of channels as photos, to be looked at by people and predictors."""

from __future__ import annotations

import numpy as np

SPREAD = 2.5
"""Standard deviations from the mean at which an image is black or white."""
LOW = 8
"""Rows of a shown image, at least: those of flat ones are repeated."""


def as_bytes(x: np.ndarray, *, like: np.ndarray) -> np.ndarray:
    """Images `(n, h, w, c)` as uint8 `(n, h, w, 3)`; photos are returned as they are.

    Each channel is standardised by the images `like`. The first, middle and last of them are red, green and blue.
    """
    if x.dtype == np.uint8:
        return x
    chosen = [0, x.shape[3] // 2, x.shape[3] - 1]
    mean, std = like[..., chosen].mean((0, 1, 2), dtype=np.float64), like[..., chosen].std((0, 1, 2), dtype=np.float64)
    level = (x[..., chosen] - mean) / np.where(std > 0, SPREAD * std, 1)
    shown = np.rint(127.5 + 127.5 * np.clip(level, -1, 1)).astype(np.uint8)
    return np.repeat(shown, -(-LOW // x.shape[1]), axis=1) if x.shape[1] < LOW else shown
