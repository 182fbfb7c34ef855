"""A glance at a user's data before it is loaded: are these pictures that are large enough for a pretrained network, and are they in colour?"""

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


def picture_channels(source: str, *, least: int) -> int | None:
    """Channels of a source of square arrays, or of mostly such pictures, of `least` pixels a side or more: 3 in colour, 1 in grey.

    None for other data, and for what cannot be read: loading it says why.
    """
    path = Path(os.path.expanduser(source))
    try:
        if path.suffix.lower() == ".npz" and path.is_file():
            return _of_shape(_shape_within(path), least)
        if source.lower().endswith(".npy") or (path / "x.npy").is_file() or (path / "x_train.npy").is_file():
            return None  # arrays in files of their own are seldom photos
        pictures = _of_table(path) if path.suffix.lower() == ".csv" else _of_folder(path)
        seen = [_of_picture(picture, least) for picture in islice(pictures, LOOKED_AT)]
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, csv.Error):
        return None
    return next((channels for channels in (3, 1) if 2 * seen.count(channels) > len(seen)), None)


def _of_folder(path: Path) -> Iterator[Path]:
    return (file for file in walk(path) if file.suffix.lower() in EXTENSIONS)


def _of_table(path: Path) -> Iterator[Path]:
    if not path.is_file():
        return  # to read a pipe may never end
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from (path.parent / row["path"].strip() for row in csv.DictReader(file, skipinitialspace=True) if row.get("path"))


def _of_picture(path: Path, least: int) -> int | None:
    """1 for a picture whose channels are equal, else 3; None if it is smaller than `least` pixels a side."""
    sides, found = read_sides(path), decode(path, THUMBNAIL)
    if isinstance(sides, str) or isinstance(found, str) or min(sides) < least:
        return None
    return 3 if (found[0] != found[0][..., :1]).any() else 1


def _shape_within(path: Path) -> tuple[int, ...]:
    """Shape of the array `x_train` of bytes, read from its header alone; `()` for other arrays."""
    with zipfile.ZipFile(path) as archive, archive.open("x_train.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
    return tuple(shape) if kind == np.uint8 else ()


def _of_shape(shape: tuple[int, ...], least: int) -> int | None:
    """Channels of arrays `(n, h, w)` or `(n, h, w, channels)`; None if they are no large squares of 1 or 3."""
    channels = shape[3] if len(shape) == 4 else 1
    return channels if len(shape) in (3, 4) and shape[1] == shape[2] >= least and channels in (1, 3) else None
