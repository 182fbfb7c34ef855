"""Read labelled uint8 images from an `.npz` file, for commands that make parts of the package. For a user's own images see `images`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffnag.errors import UserError
from diffnag.io.files import read_arrays


def read_labelled(path: Path, *splits: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images `(n, h, w)` or `(n, h, w, 3)` and labels `(n,)` of each split, such as `train`.

    Raises `UserError` unless each split has at least one image, all are uint8 of one shape, and each has a whole number as its label.
    """
    arrays = read_arrays(path, *(f"{letter}_{split}" for split in splits for letter in "xy"))
    parts = list(zip(arrays[::2], arrays[1::2], strict=True))
    for split, (x, y) in zip(splits, parts, strict=True):
        check_images(x, f"x_{split} of {path}")
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or not len(x):
            raise UserError(
                f"{path} has {len(x)} images in x_{split} and {y.dtype} labels of shape {y.shape} in y_{split}; "
                "accepted is one whole number an image, and at least one image"
            )
        if x.shape[1:] != parts[0][0].shape[1:]:
            shape = parts[0][0].shape[1:]
            raise UserError(f"{path} has images of shape {shape} in x_{splits[0]} and of {x.shape[1:]} in x_{split}; accepted is one shape")
    return parts


def check_images(images: np.ndarray, what: str = "the array of images") -> None:
    """Raise `UserError` unless `images` are uint8 `(b, h, w)` or `(b, h, w, 3)` with sides of at least 4 pixels."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise UserError(f"{what} has the type {images.dtype} and the shape {images.shape}; accepted is uint8 of shape (b, h, w) or (b, h, w, 3)")
    if min(images.shape[1:3]) < 4:
        raise UserError(f"{what} has images of {images.shape[1]} x {images.shape[2]} pixels; accepted are sides of at least 4")
