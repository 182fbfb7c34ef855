"""Read a user's CSV file of image paths and labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffnag.datasets.images.asked import CLASSIFICATION, Asked
from diffnag.datasets.images.folder import SPLITS, File, decode_all
from diffnag.datasets.images.labels import columns, numbered, read_labels
from diffnag.datasets.images.notes import some
from diffnag.datasets.images.splits import Pool
from diffnag.errors import UserError

PATH, LABEL, SPLIT = "path", "label", "split"


def read_sheet(path: Path, asked: Asked) -> Pool:
    """Read the images of the column `path`, relative to the file, and their labels; a column `split` names train, val or test.

    The label of a class is in the column `label`. Numbers of a regression, and labels of 0 and 1, are in all other columns.
    """
    header, rows = _table(path)
    plain = LABEL in header or asked.task == CLASSIFICATION
    wanted = [LABEL] if asked.task == CLASSIFICATION else [name for name in header if name not in (PATH, SPLIT)]
    if missing := [name for name in (PATH, *(wanted or [LABEL])) if name not in header]:
        accepted = f"{PATH}, {LABEL} and, if you like, {SPLIT}" if plain else f"{PATH}, a column for each number and, if you like, {SPLIT}"
        raise UserError(f"{path} lacks the column {', '.join(missing)}; it has {', '.join(header) or 'none'}; accepted are {accepted}")
    others = [name for name in header if name not in (PATH, SPLIT, *wanted)]
    splits = [_split(path, row, line) for line, row in enumerate(rows, 2)]
    if "train" not in splits:
        raise UserError(f"{path} has no image for training: {'it has no rows' if not rows else 'each is of another split'}")
    files = [File(path.parent / Path(row[PATH]).expanduser(), row[PATH], k, split) for k, (row, split) in enumerate(zip(rows, splits, strict=True))]
    if absent := [file.name for file in files if not file.path.exists()]:
        raise UserError(f"{len(absent)} of {len(files)} files of {path} do not exist: {some(absent)}")
    what = f"column {wanted[0]} of {path}" if len(wanted) == 1 else f"columns {some(wanted)} of {path}"
    given = _values(what, [[row[name] for name in wanted] for row in rows], task=asked.task)
    of_split = {split: np.array([k for k, found in enumerate(splits) if found == split]) for split in dict.fromkeys(["train", *splits])}
    checked = {split: read_labels(what, given[members], task=asked.task) for split, members in of_split.items()}
    if asked.task == CLASSIFICATION:
        targets, labels, notes = numbered(checked, where=str(path))
    else:
        (targets, labels), notes = columns(checked, wanted, where=str(path)), []
    notes += [f"Columns of other names were not used: {some(others)}."] if others else []
    files = [files[k] for members in of_split.values() for k in members]
    pool = decode_all([replace(file, label=k) for k, file in enumerate(files)], labels, size=asked.size, most=asked.most, notes=notes)
    lost = pool.lost if targets.ndim > 1 else type(pool.lost)(int(targets[k]) for k in pool.lost.elements())
    return replace(pool, y=targets[pool.y], lost=lost)


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns, and the rows; raises `UserError` for a file that is no table of text."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, restval="", restkey="")
            rows = [row for row in reader if any(row.values())]
            return [name.strip() for name in reader.fieldnames or []], [
                {key.strip(): value.strip() for key, value in row.items() if key} for row in rows
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from error


def _split(path: Path, row: dict[str, str], line: int) -> str:
    name = row.get(SPLIT, "").lower() or "train"
    if name not in SPLITS:
        raise UserError(f"line {line} of {path} names the split {name!r}; accepted are train, val and test")
    return SPLITS[name]


def _values(what: str, rows: Sequence[Sequence[str]], *, task: str) -> np.ndarray:
    """The cells `(n, k)`: numbers where all of them are, except for class labels, which are whole numbers or strings, `(n,)`."""
    if empty := sum(not cell for row in rows for cell in row):
        raise UserError(f"{what} has {empty} empty {'cell' if empty == 1 else 'cells'}; accepted is a value for each image")
    try:
        numbers = np.array([[float(cell) for cell in row] for row in rows])
    except ValueError as error:
        if task != CLASSIFICATION:
            raise UserError(f"{what} has a cell that is no number ({error}); accepted with --task {task} are numbers") from error
        return np.array([row[0] for row in rows])
    if task == CLASSIFICATION and all(row[0].lstrip("+-").isdecimal() for row in rows):
        return numbers[:, 0].astype(np.int64)
    return numbers[:, 0] if task == CLASSIFICATION else numbers
