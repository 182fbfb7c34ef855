"""The range of pixels that come as arrays of several types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffnag.errors import UserError


def pixel_scales(path: Path, x: Mapping[str, np.ndarray]) -> tuple[dict[str, float], list[str]]:
    """The factor that brings each split to 0..255, and notes on the splits that are converted; all have levels of bytes, whole or in 0..1.

    Splits of whole numbers share one range, so that a dark one is not taken for 0..1. So do splits of floats. Truth values are
    in 0..1. Raises `UserError` if one split of floats is in 0..1 and another is not.
    """
    ranges = {split: (float(part.min()), float(part.max())) for split, part in x.items()}
    unit: dict[str, bool] = {}
    for kinds, slack in (("b", 0.0), ("iu", 0.0), ("f", 1e-3)):
        alike = {split: ranges[split] for split, part in x.items() if part.dtype.kind in kinds}
        if not alike:
            continue
        high = max(high for _, high in alike.values())
        in_unit = high <= 1 + slack
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
