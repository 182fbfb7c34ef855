"""Read a user's own images from files of many kinds, or scikit-learn's digits: arrays of one size in a fixed split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION, TASKS, Asked
from diffnag.datasets.images.dataset import ImageDataset, Images
from diffnag.datasets.images.digits import read_digits
from diffnag.datasets.images.files import decode, decode_picture
from diffnag.datasets.images.folder import read_folder
from diffnag.datasets.images.kept import as_channels_last, fit_arrays
from diffnag.datasets.images.npz import npy_files, read_npy, read_npz
from diffnag.datasets.images.sheet import read_sheet
from diffnag.datasets.images.splits import Pool, into_splits
from diffnag.datasets.images.squares import LARGEST, LEAST, MOST, fit_part
from diffnag.errors import UserError, unknown

__all__ = ["CLASSIFICATION", "MOST", "TASKS", "ImageDataset", "Images", "fit_arrays", "fit_images", "is_image_source", "load_images"]

DIGITS = "digits"
_IMAGES = "files, Pillow images, arrays (h, w[, 3]), sequences of these, and arrays (n, h, w[, 3])"
_ACCEPTED = (
    "digits, a folder with one sub-folder of images a class or with x.npy and y.npy, an .npz file with x_train and y_train, two .npy files "
    "with a comma between them, or a .csv file with the columns path and label"
)
_ENDINGS = (".npz", ".npy", ".csv")


def is_image_source(text: str) -> bool:
    """Whether `text` names a user's own images: `digits`, an existing folder, or a text written like a path or such a file.

    A path that does not exist counts as well, so that `load_images` can report it. A plain word counts only if it is the name
    of a folder. Callers that know datasets by name check those names first, since a folder may have the same name.
    """
    written_as_path = text.lower().endswith(_ENDINGS) or "/" in text or os.sep in text or text.startswith(("~", "."))
    return text == DIGITS or written_as_path or os.path.isdir(text)


def load_images(
    source: str | Path, *, seed: int = 0, size: int | None = None, most: int = MOST, square: bool = False, task: str = CLASSIFICATION
) -> ImageDataset:
    """Read `source`: "digits", a folder with one sub-folder a class, an `.npz` file with x_train and y_train, `.npy` files, or a CSV file.

    Photos are resized and centre-cropped to squares of `size` pixels. By default `size` is the median of the shorter sides,
    rounded down to a multiple of 4, at least 8 and at `most` so much. Photos are files, and arrays of 1 or 3 channels whose pixels are levels
    of bytes and whose shape is square (with `square`, of any shape). All other arrays are kept as they are, unless a size is asked for. Splits
    that the data has (folders or arrays named train, val, test) are kept; missing ones are drawn from the training images with `seed`, 20 % of
    each class for validation and 20 % for the test. One of several images with equal pixels is kept. `task` is one of `TASKS`. Raises `UserError`
    for data that cannot be used.
    """
    if size is not None and not LEAST <= size <= LARGEST:
        raise UserError(f"an image size of {size} pixels was asked for; accepted are {LEAST} to {LARGEST}")
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    asked = Asked(size, most, square, task)
    try:
        name, pool = _read(source, asked)
    except PermissionError as error:
        raise UserError(f"cannot read {error.filename or source}: permission denied") from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or source}: {error.strerror or error}") from error
    return into_splits(name, pool, seed=seed, task=task)


def _read(source: str | Path, asked: Asked) -> tuple[str, Pool]:
    """Name of the dataset and its images before they are split."""
    if source == DIGITS:
        return DIGITS, read_digits(asked)
    if isinstance(source, str) and source.lower().endswith(".npy"):
        parts = source.split(",")
        if len(parts) != 2:
            raise UserError(f"{source} is {'one file' if len(parts) == 1 else f'{len(parts)} files'}; accepted are two: images.npy,labels.npy")
        paths = [Path(os.path.expanduser(part.strip())) for part in parts]
        return paths[0].stem, read_npy(paths[0].parent, dict(zip(("x_train", "y_train"), paths, strict=True)), asked)
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        if files := npy_files(path):
            return path.resolve().name, read_npy(path, files, asked)
        if asked.task != CLASSIFICATION:
            raise UserError(f"{path} is a folder, whose sub-folders are classes; accepted with --task {asked.task} are arrays or a .csv file")
        return path.resolve().name, read_folder(path, asked.size, asked.most)
    readers = {".npz": read_npz, ".csv": read_sheet}
    if (read := readers.get(path.suffix.lower())) and path.is_file():
        return path.stem, read(path, asked)
    raise UserError(f"{path} {'is another kind of file' if path.exists() else 'does not exist'}; accepted are {_ACCEPTED}")


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
    x = as_channels_last("the array of images", images, signals=False)
    if x.shape[3] not in (1, 3):
        raise UserError(f"the array of images has the shape {images.shape}; accepted are (n, h, w), (n, h, w, 1) and (n, h, w, 3)")
    if x.dtype != np.uint8 and (x.dtype.kind != "f" or x.min() < 0 or x.max() > 1):
        low, high = float(x.min()), float(x.max())
        raise UserError(f"the images are {x.dtype} from {low:g} to {high:g}; accepted are uint8, or floats in [0, 1]")
    return fit_part(x, slice(None), size=size, scale=1.0 if x.dtype == np.uint8 else 255.0).copy()  # a view cannot be written
