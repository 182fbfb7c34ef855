"""Reads the files in which TransNAS-Bench-101 (Duan et al., CVPR 2021) comes: the official `.pth`, or a CSV.

Values are what the benchmark's API gives in its mode `best`, the best over the epochs of a run: of each split by itself, so that
`test` is the best test epoch, not the test value where validation was best. Accuracies are in %; `room_layout` has the negative
loss, also higher for better. A single run each; what is not finite is missing (NaN).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from diffnag.errors import UserError
from diffnag.io.tables import BenchmarkTable, check_accuracies

if TYPE_CHECKING:
    from diffnag.arch import Arch

EPOCHS = {"class_scene": 25, "class_object": 25, "jigsaw": 10, "room_layout": 25}
"""Task -> epochs of a run, from the benchmark's configurations."""
SPLITS = {"val": "valid", "test": "test"}
METRICS = {"class_scene": "top1", "class_object": "top1", "jigsaw": "top1", "room_layout": "neg_loss"}
COLUMNS = {
    f"{task}/{split}/{epochs}": (task, f"{SPLITS[split]}_{METRICS[task]}") for task, epochs in EPOCHS.items() for split in SPLITS
}
"""Of the table -> task and metric, by the benchmark's names."""


class _Named(Protocol):
    name: str

    def from_str(self, text: str) -> Arch: ...


Rows = Iterator[tuple[str, list[float]]]
"""An architecture and its values, in the order of `COLUMNS`."""


def read(path: Path, space: _Named, *, part: str, trust_pickle: bool) -> BenchmarkTable:
    """Read the `part`, micro or macro, of either file; a part of the architectures will do.

    Raises `UserError` where the file is damaged or none of these, and for a pickle that is not trusted.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".pth" and not trust_pickle:
        raise UserError(
            f"{path.name} is a pickle, which can run any code when it is loaded; "
            "if you trust where you have it from, add --trust-pickle"
        )
    rows = dict[str, list[float]]()
    for arch, values in (_read_pickle if path.suffix == ".pth" else _read_csv)(path, part):
        if arch in rows:
            raise UserError(f"{path} has an architecture twice")
        space.from_str(arch)
        rows[arch] = values
    if not rows:
        raise UserError(f"{path} has no architecture of the {part} space")
    data = np.array(list(rows.values()), dtype=np.float32).T
    data[~np.isfinite(data)] = np.nan
    columns = dict(zip(COLUMNS, data, strict=True))
    check_accuracies(path, {key: column for key, column in columns.items() if METRICS[key.split("/")[0]] == "top1"})
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return BenchmarkTable(space=space.name, archs=tuple(rows), values=columns, seconds={}, version="unknown", sha256=checksum)


def _read_csv(path: Path, part: str) -> Rows:
    names = ["|".join(column) for column in COLUMNS.values()]
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
        rows = csv.DictReader(io.StringIO(text), strict=True)
        if missing := [name for name in ("arch", "space", *names) if name not in (rows.fieldnames or ())]:
            raise UserError(f"{path} is no TransNAS-Bench-101 table: it lacks the column {missing[0]}")
        found = [(row["arch"], [float(row[name]) for name in names]) for row in rows if row["space"] == part]
    except (OSError, EOFError, ValueError, TypeError, csv.Error, zlib.error) as error:
        raise UserError(f"{path} is no readable TransNAS-Bench-101 table ({error})") from error
    yield from found


def _read_pickle(path: Path, part: str) -> Rows:
    """`data`, space, architecture, task, `metrics`: a list over the epochs of each metric, as the benchmark's API reads it."""
    import torch

    try:
        archs = torch.load(path, map_location="cpu", weights_only=False)["data"][part]
        found = [
            (str(arch), [float(max(tasks[task]["metrics"][metric])) for task, metric in COLUMNS.values()])
            for arch, tasks in archs.items()
        ]
    except Exception as error:  # a pickle of anything else can fail in any way
        why = " ".join(f"{type(error).__name__}: {error}".split())  # on one line
        raise UserError(f"{path} is no readable TransNAS-Bench-101 file ({why})") from error
    yield from found
