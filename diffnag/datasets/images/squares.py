"""Make images of any size and type squares of one size: uint8 RGB."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

LEAST, MOST = 8, 64
"""Limits of a size that is chosen from the data, so that training from scratch on a CPU is feasible."""
LARGEST = 512
"""Largest side in pixels that a user may ask for."""

T = TypeVar("T")
R = TypeVar("R")


def choose_size(shorter: Sequence[int], asked: int | None, most: int) -> int:
    """The side that was `asked` for; if None, the median of the `shorter` sides, rounded down to a multiple of 4, within `LEAST` and `most`."""
    if asked is not None:
        return asked
    return int(np.clip(4 * (int(np.median(shorter)) // 4), LEAST, most))


def size_note(sides: Sequence[tuple[int, int]], size: int) -> list[str]:
    """A list with one sentence about the images of `sides` (width, height) that are resized to `size`, empty if there are none."""
    other = sorted((side for side in sides if side != (size, size)), key=lambda side: (side[0] * side[1], side))
    if not other:
        return []
    span = " to ".join(dict.fromkeys(f"{w} x {h}" for w, h in (other[0], other[-1])))
    cropped = " and centre-cropped" if any(w != h for w, h in other) else ""
    enlarged = sum(min(side) < size for side in other)
    how = f" ({enlarged} of them enlarged)" if enlarged else ""
    return [f"{len(other)} of {len(sides)} images measured {span} pixels, resized{cropped} to {size} x {size}{how}."]


def fit_part(x: np.ndarray, part: slice, *, size: int, scale: float) -> np.ndarray:
    """Convert a part of the images `(n, h, w, 1 or 3)` of any type to uint8 `(len(part), size, size, 3)`; `scale` brings pixels to 0..255."""
    from PIL import Image

    x = x[part]
    if x.dtype != np.uint8 or scale != 1:
        x = np.rint(np.clip(x.astype(np.float32) * np.float32(scale), 0, 255)).astype(np.uint8)
    x = np.broadcast_to(x, (*x.shape[:3], 3))
    if x.shape[1:3] == (size, size):
        return x
    return np.stack([square(Image.fromarray(np.ascontiguousarray(image)), size) for image in x])


def square(image: Image.Image, size: int) -> np.ndarray:
    """Resize the shorter side to `size` and crop the centre: an RGB image -> uint8 `(size, size, 3)`."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`map` in a few threads: Pillow decodes without Python's lock, and each thread may hold a large image."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, items)
