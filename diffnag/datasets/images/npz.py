"""Read a user's arrays of images: an `.npz` file, or `.npy` files of images and labels."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffnag.datasets.images.arrays import from_named
from diffnag.datasets.images.asked import Asked
from diffnag.datasets.images.notes import some
from diffnag.datasets.images.splits import Pool
from diffnag.errors import UserError
from diffnag.io.archives import open_npz, refuse_large

WANTED = [f"{letter}_{split}" for split in ("train", "val", "test") for letter in "xy"]


def read_npz(path: Path, asked: Asked) -> Pool:
    """Read x_train and y_train, and the arrays of val and test if the file has them; nothing is unpickled."""
    arrays, others = _npz_arrays(path)
    return from_named(path, arrays, asked, notes=[f"Arrays of other names were not used: {some(others)}."] if others else [])


def _npz_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays x_train, y_train, ... of a file and the names of other arrays; `x` and `y` without a split are those of the training."""
    arrays, key = {}, "an array"
    with path.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise UserError(f"{path} is no .npz file, or not a whole one; accepted are files that numpy.savez writes")
    try:
        with open_npz(path, only=[*WANTED, "x", "y"]) as file:
            keys = list(file.files)
            chosen = {key: key for key in WANTED if key in keys} or {f"{key}_train": key for key in ("x", "y") if key in keys}
            for name, key in chosen.items():
                arrays[name] = file[key]
    except (OSError, UserError):
        raise
    except Exception as error:  # zipfile, zlib and numpy each fail in their own ways on a damaged file
        if "allow_pickle" in str(error):
            raise UserError(f"{key} of {path} is a pickled object; accepted are plain arrays of numbers or strings") from error
        raise UserError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    _refuse_missing(path, arrays, keys)
    return arrays, [key for key in keys if key not in chosen.values()]


def _refuse_missing(path: Path, arrays: Mapping[str, np.ndarray], keys: list[str]) -> None:
    """Raise `UserError` if an array of the training, or the partner of another array, is not there."""
    missing = [key for key in WANTED[:2] if key not in arrays]
    missing += [f"{other}{key[1:]}" for key in arrays for other in "xy" if f"{other}{key[1:]}" not in {*arrays, *missing}]
    if missing:
        there = ", ".join(keys) or "nothing"
        raise UserError(f"{path} lacks {', '.join(missing)}; it holds {there}; accepted are x_ and y_ of train, val and test, or x and y")


def npy_files(folder: Path) -> dict[str, Path]:
    """The files x_train.npy, y_train.npy, ... of a folder by the names of their arrays, or x.npy and y.npy; empty if it has neither."""
    named = {key: folder / f"{key}.npy" for key in WANTED if (folder / f"{key}.npy").is_file()}
    plain = {f"{key}_train": folder / f"{key}.npy" for key in ("x", "y") if (folder / f"{key}.npy").is_file()}
    return named or plain


def read_npy(where: Path, files: Mapping[str, Path], asked: Asked) -> Pool:
    """Read the arrays of `.npy` files, which are called x_train, y_train, ... here; nothing is unpickled."""
    for path in files.values():
        if not path.is_file():
            raise UserError(f"there is no file {path}; accepted are two files with a comma between them: images.npy,labels.npy")
    mapped = {name: _open_npy(path) for name, path in files.items()}
    _refuse_missing(where, mapped, [path.name for path in files.values()])
    refuse_large(where, sum(array.nbytes for array in mapped.values()))
    return from_named(where, {name: np.array(array) for name, array in mapped.items()}, asked, notes=[])


def _open_npy(path: Path) -> np.ndarray:
    """The array of a file, not yet read."""
    try:
        return np.lib.format.open_memmap(path, mode="r")  # np.load would take an archive or a pickle for what it is
    except OSError:
        raise
    except Exception as error:  # numpy fails in several ways on a damaged file
        if "object" in str(error).lower() or "magic string" in str(error):
            raise UserError(f"{path} is a pickled object, or no .npy file; accepted are plain arrays of numbers or strings") from error
        raise UserError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
