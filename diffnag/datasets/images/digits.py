"""The digits of scikit-learn."""

from __future__ import annotations

import numpy as np

from diffnag.datasets.images.arrays import from_arrays
from diffnag.datasets.images.asked import Asked
from diffnag.datasets.images.labels import read_labels
from diffnag.datasets.images.splits import Pool


def read_digits(asked: Asked) -> Pool:
    """Read all 1,797 digits; their pixels of 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = [f"digit {i}" for i in range(len(x))]
    notes = [f"{len(x):,} digits of scikit-learn; their pixels of 0..16 were scaled to 0..255."]
    y = read_labels("the digits", digits.target, task=asked.task)
    return from_arrays({"train": x[..., None]}, {"train": y}, names=names, asked=asked, scales={"train": 1.0}, notes=notes)
