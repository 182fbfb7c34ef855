"""Make a pool of images and labels that come as arrays, of many shapes, types and ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION, Asked
from diffnag.datasets.images.kept import are_photos, as_channels_last, fitted_arrays
from diffnag.datasets.images.labels import columns, numbered, read_labels
from diffnag.datasets.images.pixels import pixel_scales
from diffnag.datasets.images.splits import Pool
from diffnag.datasets.images.squares import choose_size, fit_part, in_threads, size_note
from diffnag.errors import UserError

_CHUNK = 256


def from_named(path: Path, arrays: Mapping[str, np.ndarray], asked: Asked, *, notes: list[str]) -> Pool:
    """The pool of the arrays x_train, y_train, and of those of val and test if they are there; raises `UserError` for others."""
    x, y = {}, {}
    for split in ("train", "val", "test"):
        if f"x_{split}" in arrays:
            x[split] = as_channels_last(f"x_{split} of {path}", arrays[f"x_{split}"])
            y[split] = read_labels(f"y_{split} of {path}", arrays[f"y_{split}"], task=asked.task)
            if len(x[split]) != len(y[split]):
                raise UserError(f"{path} has {len(x[split])} images in x_{split} and {len(y[split])} labels in y_{split}")
    names = [f"x_{split}[{i}]" for split, part in x.items() for i in range(len(part))]
    scales = None
    if are_photos(path, x, asked):
        scales, scaled = pixel_scales(path, x)
        notes = notes + scaled
    return from_arrays(x, y, names=names, asked=asked, scales=scales, notes=notes, path=path)


def from_arrays(
    x: Mapping[str, np.ndarray],
    y: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    asked: Asked,
    scales: Mapping[str, float] | None,
    notes: list[str],
    path: Path | None = None,
) -> Pool:
    """Make a pool of images `x (n, h, w, c)` and labels `y`, each by split. The labels of "train" are the classes.

    `names` of the images are for notes. `scales` are the factors that bring the pixels of each split to 0..255, for photos, which become
    squares; without them, arrays are kept as they are.
    """
    if asked.task == CLASSIFICATION:
        targets, labels, about = numbered(y, where=str(path))
    else:
        (targets, labels), about = columns(y, None, where=str(path)), []
    fitted, sized = fitted_arrays(x, asked, path) if scales is None else _photos(x, asked, scales)
    return Pool(
        fitted,
        targets,
        np.repeat([*x], [len(part) for part in x.values()]),
        tuple(split for split in x if split != "train"),
        names,
        labels,
        Counter(),
        notes + about + sized,
    )


def _photos(x: Mapping[str, np.ndarray], asked: Asked, scales: Mapping[str, float]) -> tuple[np.ndarray, list[str]]:
    """All images as uint8 `(n, side, side, 3)`, and a note if they were resized."""
    sides = [(part.shape[2], part.shape[1]) for part in x.values() for _ in range(len(part))]
    side = choose_size([min(pair) for pair in sides], asked.size, asked.most)
    fitted = np.empty((len(sides), side, side, 3), np.uint8)
    done = 0
    for split, part in x.items():
        chunks = [slice(k, min(k + _CHUNK, len(part))) for k in range(0, len(part), _CHUNK)]
        small = in_threads(partial(fit_part, part, size=side, scale=scales[split]), chunks)
        for chunk, images in zip(chunks, small, strict=True):
            fitted[done + chunk.start : done + chunk.stop] = images
        done += len(part)
    return fitted, size_note(sides, side)
