"""What is asked of a source of images: their size, and what is learned from them."""

from __future__ import annotations

from dataclasses import dataclass

from diffnag.datasets.images.squares import MOST

CLASSIFICATION, REGRESSION, MULTI_LABEL = TASKS = ("classification", "regression", "multi-label")
"""One class an image; numbers; any number of labels an image."""
MEASURES = {CLASSIFICATION: "accuracy", REGRESSION: "R2", MULTI_LABEL: "mean average precision"}
"""Task -> name of its score, in %."""


@dataclass(frozen=True)
class Asked:
    """How images are read."""

    size: int | None = None
    """Side in pixels; chosen from the data if None."""
    most: int = MOST
    """Largest side that is chosen."""
    square: bool = False
    """Whether photos are cropped to squares, though arrays of photos have one other shape."""
    task: str = CLASSIFICATION
    """One of `TASKS`."""
