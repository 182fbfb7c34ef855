"""Read a user's own images from a folder or an `.npz` file, or scikit-learn's digits: uint8 arrays of one size in a fixed split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from diffnag.datasets.images.arrays import as_channels_last
from diffnag.datasets.images.dataset import ImageDataset, Images
from diffnag.datasets.images.digits import read_digits
from diffnag.datasets.images.files import decode, decode_picture
from diffnag.datasets.images.folder import read_folder
from diffnag.datasets.images.npz import read_npz
from diffnag.datasets.images.splits import into_splits
from diffnag.datasets.images.squares import LARGEST, LEAST, MOST, fit_part
from diffnag.errors import UserError

__all__ = ["MOST", "ImageDataset", "Images", "fit_images", "is_image_source", "load_images"]

DIGITS = "digits"
_IMAGES = "files, Pillow images, arrays (h, w[, 3]), sequences of these, and arrays (n, h, w[, 3])"
_ACCEPTED = "digits, a folder with one sub-folder of images a class, or an .npz file with x_train and y_train"


def is_image_source(text: str) -> bool:
    """Whether `text` names a user's own images: `digits`, an existing folder, or a text written like a path or an `.npz` file.

    A path that does not exist counts as well, so that `load_images` can report it. A plain word counts only if it is the name
    of a folder. Callers that know datasets by name check those names first, since a folder may have the same name.
    """
    written_as_path = text.lower().endswith(".npz") or "/" in text or os.sep in text or text.startswith(("~", "."))
    return text == DIGITS or written_as_path or os.path.isdir(text)


def load_images(source: str | Path, *, seed: int = 0, size: int | None = None, most: int = MOST) -> ImageDataset:
    """Read `source`: "digits", a folder with one sub-folder a class, or an `.npz` file with x_train and y_train.

    Images are resized and centre-cropped to squares of `size` pixels. By default `size` is the median of the shorter sides,
    rounded down to a multiple of 4, at least 8 and at `most` so much. Splits that the data has (folders or arrays named train, val, test) are
    kept; missing ones are drawn from the training images with `seed`, 20 % of each class for validation and 20 % for the test.
    One of several images with equal pixels is kept. Raises `UserError` for data that cannot be used.
    """
    if size is not None and not LEAST <= size <= LARGEST:
        raise UserError(f"an image size of {size} pixels was asked for; accepted are {LEAST} to {LARGEST}")
    if source == DIGITS:
        return into_splits(DIGITS, read_digits(size), seed=seed)
    path = Path(os.path.expanduser(source))
    try:
        if path.is_dir():
            return into_splits(path.resolve().name, read_folder(path, size, most), seed=seed)
        if path.suffix.lower() == ".npz" and path.is_file():
            return into_splits(path.stem, read_npz(path, size, most), seed=seed)
        there = path.exists()
    except PermissionError as error:
        raise UserError(f"cannot read {error.filename or path}: permission denied") from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    raise UserError(f"{path} {'is another kind of file' if there else 'does not exist'}; accepted are {_ACCEPTED}")


def fit_images(images: Any, *, size: int) -> np.ndarray:
    """Resize images to classify in the same way as `load_images` does: uint8 `(n, size, size, 3)`.

    `images` is one image or a sequence of images, of any sizes: files, Pillow images, or arrays `(h, w)`, `(h, w, 1)` or `(h, w, 3)`.
    Several of one size may be one array `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`. Arrays are uint8, or floats in [0, 1].
    Raises `UserError` for anything else.
    """
    if isinstance(images, np.ndarray):
        single = images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3))
        return _fit_array(images[None] if single else images, size=size)
    if _is_image(images):
        images = [images]
    try:
        several = list(images)
    except TypeError as error:
        raise UserError(f"images of type {type(images).__name__} were given; accepted are {_IMAGES}") from error
    fitted = np.empty((len(several), size, size, 3), np.uint8)
    for k, image in enumerate(several):
        fitted[k] = _fit_image(image, size=size)
    return fitted


def _is_image(image: object) -> bool:
    from PIL import Image

    return isinstance(image, str | os.PathLike | Image.Image)


def _fit_image(image: object, *, size: int) -> np.ndarray:
    """Resize a file, a Pillow image or an array to uint8 `(size, size, 3)`; raises `UserError` for others."""
    from PIL import Image

    if isinstance(image, np.ndarray):
        return _fit_array(image[None], size=size)[0]
    if isinstance(image, Image.Image):
        fitted = decode_picture(image, size)
    elif isinstance(image, str | os.PathLike):
        fitted = decode(Path(image), size)
    else:
        raise UserError(f"an image of type {type(image).__name__} was given; accepted are {_IMAGES}")
    if isinstance(fitted, str):
        raise UserError(f"cannot read {'the Pillow image' if isinstance(image, Image.Image) else image}: {fitted}")
    return fitted[0]


def _fit_array(images: np.ndarray, *, size: int) -> np.ndarray:
    x = as_channels_last("the array of images", images)
    if x.dtype != np.uint8 and (x.dtype.kind != "f" or x.min() < 0 or x.max() > 1):
        low, high = float(x.min()), float(x.max())
        raise UserError(f"the images are {x.dtype} from {low:g} to {high:g}; accepted are uint8, or floats in [0, 1]")
    return fit_part(x, slice(None), size=size, scale=1.0 if x.dtype == np.uint8 else 255.0).copy()  # a view cannot be written
