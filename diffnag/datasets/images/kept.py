"""Arrays of images and signals that are kept as they are: any range, any number of channels, any shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffnag.datasets.images.asked import Asked
from diffnag.datasets.images.notes import some
from diffnag.errors import UserError

FLAT = 4
"""An array `(n, a, b)` with b so many times a, or with less than `LOW` rows, holds signals of a channels, and no images."""
LOW = 8
MOST_CHANNELS = 1_024
GRID, COARSE_GRID = 0.01, 0.1
"""Distance of a float from a whole number of 0..255 at which it is still one; that of floats of 16 bits."""
_LAYOUTS = "(n, h, w), (n, h, w, channels), (n, channels, h, w), signals (n, channels, length)"


def as_channels_last(what: str, x: np.ndarray, *, signals: bool = True) -> np.ndarray:
    """A view `(n, h, w, c)` of images or signals; raises `UserError` unless they are real finite numbers in a known shape.

    Of four axes, the last or the second holds the channels, whichever has 1 or 3, else the shorter one. Signals have the height 1; without
    `signals` there are images only.
    """
    shape = x.shape
    if x.ndim not in (3, 4) or 0 in shape:
        raise UserError(f"{what} has the shape {shape}; accepted are {_LAYOUTS}, with each of at least 1")
    if x.dtype.kind not in "buif":
        raise UserError(f"{what} has the type {x.dtype}; accepted are numbers")
    if x.ndim == 3:
        x = x.transpose(0, 2, 1)[:, None] if signals and _are_signals(x) else x[..., None]
    elif x.shape[3] not in (1, 3) and (x.shape[1] in (1, 3) or x.shape[2] == 1 or x.shape[1] <= x.shape[3]):
        x = x.transpose(0, 2, 3, 1)
    if signals and x.shape[2] == 1 < x.shape[1]:
        x = x.transpose(0, 2, 1, 3)
    if x.shape[3] > MOST_CHANNELS:
        raise UserError(f"{what} has the shape {shape}, which is {x.shape[3]:,} channels; accepted are up to {MOST_CHANNELS:,}")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            (bad,) = np.nonzero([not np.isfinite(image.astype(np.float32)).all() for image in x])  # what float32 cannot hold is infinite
        if len(bad):
            raise UserError(f"{what} has NaN or infinite pixels in {len(bad)} images: {some([str(i) for i in bad])}")
    return x


def _are_signals(x: np.ndarray) -> bool:
    """Whether an array `(n, a, b)` holds signals: bytes are images, and so is what is square."""
    _, a, b = x.shape
    return x.dtype != np.uint8 and a != b and (b >= FLAT * a or a < LOW)


def are_photos(path: Path, x: Mapping[str, np.ndarray], asked: Asked) -> bool:
    """Whether the arrays `(n, h, w, c)` of all splits hold photos: 1 or 3 channels, square, whole numbers of 0..255, as they are or in 0..1.

    Raises `UserError` if one split could be photos and another not.
    """
    found = {split: part.shape[3] in (1, 3) and _on_grid(part) for split, part in x.items()}
    if len(set(found.values())) > 1:
        odd = next(split for split in x if not found[split])
        low, high = float(x[odd].min()), float(x[odd].max())
        found_here = f"x_{odd} of {path} has pixels from {low:g} to {high:g}"
        raise UserError(f"{found_here}, and other splits have whole numbers of 0..255; accepted is one range in all splits")
    square = all(part.shape[1] == part.shape[2] for part in x.values()) or len({part.shape[1:3] for part in x.values()}) > 1
    return all(found.values()) and (square or (asked.square and min(next(iter(x.values())).shape[1:3]) > 1))


def _on_grid(x: np.ndarray) -> bool:
    """Whether all values are levels of bytes."""
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind in "biu":
        return low >= 0 and high <= 255
    slack = GRID if x.dtype.itemsize > 2 else COARSE_GRID
    if low < -slack / 255 or high > 255 + slack:
        return False
    scale = 255 if high <= 1 + slack / 255 else 1
    return all(bool((np.abs(image - np.rint(image)) <= slack).all()) for image in (part.astype(np.float32) * scale for part in x))


def fitted_arrays(x: Mapping[str, np.ndarray], asked: Asked, path: Path | None) -> tuple[np.ndarray, list[str]]:
    """All arrays in one, float32 `(n, h, w, c)`, and a note on them; raises `UserError` for several shapes.

    Images are resized if a size was asked for, and bytes to `asked.most` if they are larger, in their proportions.
    """
    shapes = {part.shape[1:] for part in x.values()}
    if len(shapes) > 1:
        raise UserError(f"the splits of {path} have images of several shapes, {some([str(shape) for shape in sorted(shapes)])}; accepted is one")
    h, w, c = next(iter(shapes))
    named = f"{c} {'channel' if c == 1 else 'channels'}"
    if h == 1:
        if asked.size is not None:
            raise UserError(f"an image size was asked for, and {path} holds signals of {named} and length {w:,}, which keep their length")
        found = f"Signals of {named} and length {w:,} were kept as they are."
    else:
        found = f"Arrays of {named}, {w} x {h} pixels, were kept as they are."
    longer, own = asked.size, max(h, w)
    if longer is None and own > asked.most and c in (1, 3) and all(_on_grid(part) for part in x.values()):
        longer = asked.most
    if longer is not None and longer != own:
        h, w = (max(1, round(side * longer / own)) for side in (h, w))
        found = f"Arrays of {named} were resized to {w} x {h} pixels."
    return np.concatenate([resize(part, h, w) for part in x.values()]), [found]


def resize(x: np.ndarray, h: int, w: int) -> np.ndarray:
    """Images `(n, h', w', c)` -> float32 `(n, h, w, c)`: area averaging to make them smaller, linear interpolation to make them larger."""
    x = x.astype(np.float32)
    if x.shape[1:3] == (h, w):
        return x
    rows, columns = resampling(x.shape[1], h), resampling(x.shape[2], w)
    return np.einsum("yh,nhwc->nywc", rows, np.einsum("xw,nhwc->nhxc", columns, x)).astype(np.float32)


def resampling(length: int, side: int) -> np.ndarray:
    """Matrix `(side, length)` that resizes one axis: overlaps of pixels to make it shorter, hat functions to make it longer."""
    scale = length / side
    out, given = np.arange(side)[:, None], np.arange(length)[None]
    if length >= side:
        return np.maximum(np.minimum((out + 1) * scale, given + 1) - np.maximum(out * scale, given), 0) / scale
    centres = np.clip((out + 0.5) * scale - 0.5, 0, length - 1)
    return np.maximum(1 - np.abs(centres - given), 0)


def fit_arrays(images: object, *, inputs: tuple[int, int, int]) -> np.ndarray:
    """One or several arrays as float32 `(n, h, w, c)`, where `inputs` are `(c, h, w)`.

    An array is `(c, h, w)` or `(h, w, c)`, or `(h, w)` of one channel, or `(c, length)` or `(length,)` where h is 1; several may be one
    array with one axis more. Images of another height and width are resized, and signals must have the length. Raises `UserError` for others.
    """
    c, h, w = inputs
    accepted = f"(channels, length) = ({c}, {w})" if h == 1 else f"(channels, h, w) or (h, w, channels) with {c} channels"
    several = images if isinstance(images, list | tuple) else [images]
    found: list[np.ndarray] = []
    for given in several:
        array = np.asarray(given)
        if array.dtype.kind not in "buif":
            raise UserError(f"images of type {array.dtype} were given; accepted are arrays of numbers, {accepted}")
        one = [last for last in (_laid_out(array[None], inputs), _laid_out(array, inputs)) if last is not None]
        if not one:
            raise UserError(f"an image of the shape {array.shape} was given; accepted are {accepted}")
        if not np.isfinite(one[0]).all():
            raise UserError("an image has NaN or infinite values; accepted are finite numbers")
        found.append(resize(one[0], h, w))
    return np.concatenate(found) if found else np.empty((0, h, w, c), np.float32)


def _laid_out(x: np.ndarray, inputs: tuple[int, int, int]) -> np.ndarray | None:
    """Images `x`, the first axis counts them, as `(n, h, w, c)`; None if they do not fit."""
    c, h, w = inputs
    if h == 1:
        if x.ndim == 2 and c == 1:
            x = x[:, None]
        if x.ndim == 4 and 1 in x.shape[1:3]:
            x = x[:, :, 0] if x.shape[2] == 1 and x.shape[1] == c else x[:, 0].transpose(0, 2, 1)
        return x.transpose(0, 2, 1)[:, None] if x.ndim == 3 and x.shape[1:] == (c, w) else None
    if x.ndim == 3 and c == 1:
        return x[..., None]
    if x.ndim != 4:
        return None
    if x.shape[1:] == (c, h, w) or (x.shape[1] == c and x.shape[3] != c):
        return x.transpose(0, 2, 3, 1)
    return x if x.shape[3] == c else None
