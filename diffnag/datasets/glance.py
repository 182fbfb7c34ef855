"""A glance at a user's data before it is loaded: are these pictures that are large enough for a pretrained network, and have they colours?"""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from diffnag.datasets.images.files import EXTENSIONS, decode, read_sides
from diffnag.datasets.images.folder import walk

LOOKED_AT = 32
"""Pictures of a folder or of a table that are looked at."""
THUMBNAIL = 16
"""Pixels a side at which colours are looked for."""


def are_colour_pictures(source: str, *, least: int) -> bool:
    """Whether a source has square colour arrays, or mostly colour pictures, of `least` pixels a side or more.

    False for what cannot be read: loading it says why.
    """
    return _are_mostly(source, least, colour=True)


def are_grey_pictures(source: str, *, least: int) -> bool:
    """As `are_colour_pictures`, for grey ones."""
    return _are_mostly(source, least, colour=False)


def _are_mostly(source: str, least: int, *, colour: bool) -> bool:
    path = Path(os.path.expanduser(source))
    try:
        if path.suffix.lower() == ".npz" and path.is_file():
            return _is_large(_shape_within(path), least, colour=colour)
        if source.lower().endswith(".npy") or (path / "x.npy").is_file() or (path / "x_train.npy").is_file():
            return False  # arrays in files of their own are seldom photos
        pictures = _of_table(path) if path.suffix.lower() == ".csv" else _of_folder(path)
        seen = [_is_one(picture, least, colour=colour) for picture in islice(pictures, LOOKED_AT)]
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, csv.Error):
        return False
    return 2 * sum(seen) > len(seen)


def _of_folder(path: Path) -> Iterator[Path]:
    return (file for file in walk(path) if file.suffix.lower() in EXTENSIONS)


def _of_table(path: Path) -> Iterator[Path]:
    if not path.is_file():
        return  # to read a pipe may never end
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from (path.parent / row["path"].strip() for row in csv.DictReader(file, skipinitialspace=True) if row.get("path"))


def _is_one(path: Path, least: int, *, colour: bool) -> bool:
    """Whether a picture has `least` pixels a side, and channels that differ, or with `colour` false do not."""
    sides, found = read_sides(path), decode(path, THUMBNAIL)
    if isinstance(sides, str) or isinstance(found, str):
        return False
    return min(sides) >= least and bool((found[0] != found[0][..., :1]).any()) == colour


def _shape_within(path: Path) -> tuple[int, ...]:
    """Shape of the array `x_train` of bytes, read from its header alone; `()` for other arrays."""
    with zipfile.ZipFile(path) as archive, archive.open("x_train.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
    return tuple(shape) if kind == np.uint8 else ()


def _is_large(shape: tuple[int, ...], least: int, *, colour: bool) -> bool:
    channels = shape[3:] if len(shape) == 4 else (1,) if len(shape) == 3 else ()
    return channels == ((3,) if colour else (1,)) and shape[1] == shape[2] >= least
