"""Architectures from a file, and predictions into one."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.errors import UserError
from diffnag.io.files import written_whole
from diffnag.io.text_tables import read_csv, reading

if TYPE_CHECKING:
    import numpy as np

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


def read_archs(path: Path, space: SearchSpace) -> list[Arch]:
    """The architectures of a file: a CSV with the column `arch`, such as front.csv, or one `{"arch": ...}` a line.

    Invalid samples, whose `arch` is null, are left out. Raises `UserError` for other content, for an architecture of another space, and
    if nothing is left.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".csv":
        with reading(path, "CSV of architectures"):
            archs = [space.from_str(text) for text in read_csv(path, "CSV of architectures", ("arch",))["arch"]]
    else:
        archs = _of_lines(path, space)
    if not archs:
        raise UserError(f"{path} has no architecture")
    return archs


def _of_lines(path: Path, space: SearchSpace) -> list[Arch]:
    archs = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            text = json.loads(line)["arch"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f'line {number} of {path} is not understood; accepted is {{"arch": "..."}}, as diffnag.generate writes') from None
        if text is None:
            continue
        if not isinstance(text, str):
            raise UserError(f"line {number} of {path} has the architecture {text!r:.60}; accepted is a string")
        archs.append(space.from_str(text))
    return archs


def write_predictions(path: Path, archs: Sequence[str], mean: np.ndarray, std: np.ndarray) -> None:
    """A CSV with the columns `arch,ms,std`."""
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arch", "ms", "std"))
        writer.writerows((arch, f"{ms:.6g}", f"{deviation:.6g}") for arch, ms, deviation in zip(archs, mean, std, strict=True))
