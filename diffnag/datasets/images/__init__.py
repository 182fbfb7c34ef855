"""Read a user's own images from a folder or an `.npz` file, or scikit-learn's digits: uint8 arrays of one size in a fixed split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffnag.datasets.images.arrays import as_channels_last
from diffnag.datasets.images.dataset import ImageDataset, Images
from diffnag.datasets.images.digits import read_digits
from diffnag.datasets.images.files import decode
from diffnag.datasets.images.folder import read_folder
from diffnag.datasets.images.npz import read_npz
from diffnag.datasets.images.splits import into_splits
from diffnag.datasets.images.squares import LARGEST, SIDES, fit_part
from diffnag.errors import UserError

__all__ = ["ImageDataset", "Images", "fit_images", "is_image_source", "load_images"]

DIGITS = "digits"
_ACCEPTED = "digits, a folder with one sub-folder of images a class, or an .npz file with x_train and y_train"


def is_image_source(text: str) -> bool:
    """Whether `text` names a user's own images: `digits`, an existing folder, or a text written like a path or an `.npz` file.

    A path that does not exist counts as well, so that `load_images` can report it. A plain word counts only if it is the name
    of a folder. Callers that know datasets by name check those names first, since a folder may have the same name.
    """
    written_as_path = text.lower().endswith(".npz") or "/" in text or os.sep in text or text.startswith(("~", "."))
    return text == DIGITS or written_as_path or os.path.isdir(text)


def load_images(source: str | Path, *, seed: int = 0, size: int | None = None) -> ImageDataset:
    """Read `source`: "digits", a folder with one sub-folder a class, or an `.npz` file with x_train and y_train.

    Images are resized and centre-cropped to squares of `size` pixels. By default `size` is the median of the shorter sides,
    rounded down to a multiple of 4 and within `SIDES`. Splits that the data has (folders or arrays named train, val, test) are
    kept; missing ones are drawn from the training images with `seed`, 20 % of each class for validation and 20 % for the test.
    One of several images with equal pixels is kept. Raises `UserError` for data that cannot be used.
    """
    if size is not None and not SIDES[0] <= size <= LARGEST:
        raise UserError(f"an image size of {size} pixels was asked for; accepted are {SIDES[0]} to {LARGEST}")
    if source == DIGITS:
        return into_splits(DIGITS, read_digits(size), seed=seed)
    path = Path(os.path.expanduser(source))
    try:
        if path.is_dir():
            return into_splits(path.resolve().name, read_folder(path, size), seed=seed)
        if path.suffix.lower() == ".npz" and path.is_file():
            return into_splits(path.stem, read_npz(path, size), seed=seed)
        there = path.exists()
    except PermissionError as error:
        raise UserError(f"cannot read {error.filename or path}: permission denied") from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    raise UserError(f"{path} {'is another kind of file' if there else 'does not exist'}; accepted are {_ACCEPTED}")


def fit_images(images: np.ndarray | Sequence[str | Path], *, size: int) -> np.ndarray:
    """Resize images to classify in the same way as `load_images` does: uint8 `(n, size, size, 3)`.

    `images` are paths of files, or an array `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)` of uint8 or of floats in [0, 1].
    Raises `UserError` for others.
    """
    if isinstance(images, np.ndarray):
        x = as_channels_last("the array of images", images)
        if x.dtype != np.uint8 and (x.dtype.kind != "f" or x.min() < 0 or x.max() > 1):
            raise UserError(f"the images are {x.dtype} from {x.min():g} to {x.max():g}; accepted are uint8, or floats in [0, 1]")
        return fit_part(x, slice(None), size=size, scale=1.0 if x.dtype == np.uint8 else 255.0).copy()  # a view cannot be written
    fitted = np.empty((len(images), size, size, 3), np.uint8)
    for k, path in enumerate(map(Path, images)):
        decoded = decode(path, size)
        if isinstance(decoded, str):
            raise UserError(f"cannot read {path}: {decoded}")
        fitted[k] = decoded[0]
    return fitted
