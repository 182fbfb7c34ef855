"""Check and convert images and labels that come as arrays, of many shapes, types and ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from diffnag.datasets.images.notes import some
from diffnag.datasets.images.splits import FEWEST, Pool
from diffnag.datasets.images.squares import MOST, choose_size, fit_part, in_threads, size_note
from diffnag.errors import UserError

_CHUNK = 256


def as_channels_last(what: str, x: np.ndarray) -> np.ndarray:
    """A view `(n, h, w, 1)` or `(n, h, w, 3)` of images `x`; raises `UserError` unless they are real finite numbers in a known shape."""
    accepted = "(n, h, w), (n, h, w, 1), (n, h, w, 3), (n, 1, h, w) or (n, 3, h, w)"
    shape = x.shape
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4 and x.shape[3] not in (1, 3):
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        raise UserError(f"{what} has the shape {shape}; accepted are {accepted}, with n, h and w of at least 1")
    if x.dtype.kind not in "buif":
        raise UserError(f"{what} has the type {x.dtype}; accepted are uint8, or numbers in 0..1 or 0..255")
    if x.dtype.kind == "f":
        (bad,) = np.nonzero([not np.isfinite(image).all() for image in x])
        if len(bad):
            raise UserError(f"{what} has NaN or infinite pixels in {len(bad)} images: {some([str(i) for i in bad])}")
    return x


def as_labels(what: str, y: np.ndarray) -> np.ndarray:
    """Labels `(n,)` as int64 or strings; raises `UserError` for others. `(n, 1)` is accepted."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise UserError(f"{what} has the shape {y.shape}; accepted is one label an image, (n,)")
    if y.dtype.kind == "f":
        wrong = y[~(np.isfinite(y) & (y == np.rint(y)))]
        if len(wrong):
            raise UserError(f"{what} holds {wrong[0]:g}, which is no class label; accepted are whole numbers or strings")
    elif y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    elif y.dtype.kind not in "biuU":
        raise UserError(f"{what} has the type {y.dtype}; accepted are whole numbers or strings")
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def from_arrays(
    x: Mapping[str, np.ndarray],
    y: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    size: int | None,
    most: int = MOST,
    scales: Mapping[str, float],
    notes: list[str],
    path: Path | None = None,
) -> Pool:
    """Make a pool of images `x (n, h, w, 1 or 3)` and labels `y (n,)`, each by split. The labels of "train" are the classes.

    `names` of the images are for notes. `size` is the side in pixels, chosen from the data, and at `most` so much, if None. `scales` are the factors
    that bring the pixels of each split to 0..255.
    """
    own = y["train"]
    labels = np.unique(own)
    if 2 * len(labels) > len(own) and len(own) > 2:
        raise UserError(
            f"y_train of {path} has {len(labels)} different values for {len(own)} images; accepted are class labels, "
            f"each with at least {FEWEST} images"
        )
    for split, part in y.items():
        strangers = sorted({*part.tolist()} - {*labels.tolist()}, key=str)
        if strangers:
            raise UserError(f"y_{split} of {path} has labels that y_train does not have: {some([*map(repr, strangers)])}")
    if own.dtype.kind == "U":
        notes = [*notes, f"Labels that are strings were numbered in sorted order: {some(labels.tolist())}."]
    elif labels.tolist() != list(range(len(labels))):
        notes = [*notes, f"Labels {some([str(k) for k in labels])} were numbered 0 .. {len(labels) - 1}."]
    sides = [(part.shape[2], part.shape[1]) for part in x.values() for _ in range(len(part))]
    side = choose_size([min(pair) for pair in sides], size, most)
    fitted = np.empty((len(sides), side, side, 3), np.uint8)
    done = 0
    for split, part in x.items():
        chunks = [slice(k, min(k + _CHUNK, len(part))) for k in range(0, len(part), _CHUNK)]
        small = in_threads(partial(fit_part, part, size=side, scale=scales[split]), chunks)
        for chunk, images in zip(chunks, small, strict=True):
            fitted[done + chunk.start : done + chunk.stop] = images
        done += len(part)
    return Pool(
        fitted,
        np.concatenate([np.searchsorted(labels, part) for part in y.values()]).astype(np.int64),
        np.repeat([*x], [len(part) for part in x.values()]),
        tuple(split for split in x if split != "train"),
        names,
        tuple(labels.tolist()),
        Counter(),
        notes + size_note(sides, side),
    )
