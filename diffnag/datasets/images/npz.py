"""Read a user's `.npz` file of images."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffnag.datasets.images.arrays import as_channels_last, as_labels, from_arrays
from diffnag.datasets.images.notes import some
from diffnag.datasets.images.splits import Pool
from diffnag.errors import UserError


def read_npz(path: Path, size: int | None, most: int) -> Pool:
    """Read x_train and y_train, and the arrays of val and test if the file has them; nothing is unpickled."""
    arrays, notes = _npz_arrays(path)
    x, y = {}, {}
    for split in ("train", "val", "test"):
        if f"x_{split}" in arrays:
            x[split] = as_channels_last(f"x_{split} of {path}", arrays[f"x_{split}"])
            y[split] = as_labels(f"y_{split} of {path}", arrays[f"y_{split}"])
            if len(x[split]) != len(y[split]):
                raise UserError(f"{path} has {len(x[split])} images in x_{split} and {len(y[split])} labels in y_{split}")
    scales, scaled = _pixel_scales(path, x)
    names = [f"x_{split}[{i}]" for split, part in x.items() for i in range(len(part))]
    return from_arrays(x, y, names=names, size=size, most=most, scales=scales, notes=notes + scaled, path=path)


def _npz_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays x_train, y_train, ... of a file and a note on other arrays; raises `UserError` if an array lacks its partner."""
    wanted = [f"{letter}_{split}" for split in ("train", "val", "test") for letter in "xy"]
    arrays = {}
    with path.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise UserError(f"{path} is no .npz file, or not a whole one; accepted are files that numpy.savez writes")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            keys = list(file.files)
            for key in [key for key in wanted if key in keys]:
                arrays[key] = file[key]
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each fail in their own ways on a damaged file
        if "allow_pickle" in str(error):
            raise UserError(f"{key} of {path} is a pickled object; accepted are plain arrays of numbers or strings") from error
        raise UserError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    missing = [key for key in wanted[:2] if key not in arrays]
    missing += [f"{other}{key[1:]}" for key in arrays for other in "xy" if f"{other}{key[1:]}" not in {*arrays, *missing}]
    if missing:
        there = ", ".join(keys) or "nothing"
        raise UserError(f"{path} lacks {', '.join(missing)}; it holds {there}; accepted are x_ and y_ of train, val and test")
    others = [key for key in keys if key not in wanted]
    return arrays, [f"Arrays of other names were not used: {some(others)}."] if others else []


def _pixel_scales(path: Path, x: Mapping[str, np.ndarray]) -> tuple[dict[str, float], list[str]]:
    """The factor that brings each split to 0..255, and notes on the splits that are converted.

    Splits of whole numbers share one range, so that a dark one is not taken for 0..1. So do splits of floats. Truth values are
    in 0..1. Raises `UserError` for other ranges, and if one split of floats is in 0..1 and another is not.
    """
    ranges = {split: (float(part.min()), float(part.max())) for split, part in x.items()}
    unit: dict[str, bool] = {}
    for kinds, slack in (("b", 0.0), ("iu", 0.0), ("f", 1e-3)):
        alike = {split: ranges[split] for split, part in x.items() if part.dtype.kind in kinds}
        if not alike:
            continue
        low, high = min(low for low, _ in alike.values()), max(high for _, high in alike.values())
        in_unit = high <= 1 + slack
        neither = kinds == "f" and not in_unit and high < 2
        if low < -slack or high > 255 + slack or neither:
            raise UserError(f"{path} has pixels from {low:g} to {high:g}; accepted are 0..1 or 0..255")
        if kinds == "f" and not in_unit and (mixed := [split for split, (_, high) in alike.items() if high <= 1 + slack]):
            found = f"{path} has floats up to {high:g}, but only up to 1 in x_{mixed[0]}"
            raise UserError(f"{found}; accepted is one range, 0..1 or 0..255, in all splits")
        unit |= dict.fromkeys(alike, in_unit)
    return {split: 255.0 if unit[split] else 1.0 for split in x}, _range_notes(x, ranges, unit)


def _range_notes(x: Mapping[str, np.ndarray], ranges: Mapping[str, tuple[float, float]], unit: Mapping[str, bool]) -> list[str]:
    """A sentence for each range that is converted; it names the splits if not all of them are in that range."""
    notes = []
    plain = [split for split in x if not unit[split] and x[split].dtype == np.uint8]
    floats = [split for split in x if not unit[split] and split not in plain]
    units = [split for split in x if unit[split]]
    for splits, what in ((units, "taken as 0..1 and scaled to 0..255"), (floats, "taken as 0..255 and rounded")):
        if splits:
            low, high = min(ranges[split][0] for split in splits), max(ranges[split][1] for split in splits)
            where = "" if len(splits) == len(x) else f" in {' and '.join(f'x_{split}' for split in splits)}"
            notes.append(f"Pixels from {low:g} to {high:g}{where} were {what}.")
    return notes
