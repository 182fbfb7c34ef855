"""Reader of the files of NAS-Bench-101 (Ying et al., ICML 2019): the official `.tfrecord`, or an `.npz`.

`test` is the mean over the trained seeds, three in the benchmark. In the official file `val` is such a mean too. In the `.npz` it is a
single run, and only some cells have it (the others have NaN). Official records are read without TensorFlow: a record is a length, a
JSON list and a protocol buffer of a few numbers.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from diffnag.errors import UserError
from diffnag.io.archives import open_npz
from diffnag.io.text_tables import reading
from diffnag.search_spaces.nasbench101 import graphs
from diffnag.search_spaces.nasbench101.notation import OPERATIONS, text_of
from diffnag.search_spaces.shared.table_files import check_file, make_table

if TYPE_CHECKING:
    from diffnag.io.tables import BenchmarkTable
    from diffnag.search_spaces.nasbench101.space import NASBench101

EPOCHS = (4, 12, 36, 108)
COLUMNS = {"cifar10/test/108": "test_acc_mean108"} | {f"cifar10/val/{epochs}": f"val_acc_{epochs}" for epochs in EPOCHS}
"""Column of our table -> column of the `.npz`, whose accuracies are fractions."""
SECONDS = {"cifar10/108": "train_time_108"}
"""The same for training times in seconds."""
LABELS = {1: 1, 2: 0, 3: 2}
"""Number of an operation in the `.npz` -> its label in the benchmark's configuration."""
TRAINING_TIME, VALIDATION, TEST = 2, 4, 5
"""Numbers of the fields of the benchmark's message `EvaluationData`."""
FINAL = 2
"""Index of the last evaluation of a run; the others are at its start and half-way."""
Cells = list[tuple[list[int], int]]
"""Pairs of labels of the interior vertices and wiring (see `graphs`)."""
Columns = dict[str, np.ndarray]


def read(path: Path, space: NASBench101) -> BenchmarkTable:
    """Read either file, which may hold a part of the cells. Raises `UserError` for a damaged file or one of another kind."""
    check_file(path, trust_pickle=True)  # neither file is a pickle
    with reading(path, "NAS-Bench-101 table"):
        cells, values, seconds = (_read_records if path.suffix == ".tfrecord" else _read_npz)(path)
        archs = [text_of(*graphs.normalised(labels, code)) for labels, code in cells]
    return make_table(path, space, archs, values, seconds, version=path.stem)


def _read_npz(path: Path) -> tuple[Cells, Columns, Columns]:
    """Cells, accuracies in % and training times in seconds."""
    wanted = ("num_vertices", "adjacency", "ops", *COLUMNS.values(), *SECONDS.values())
    with open_npz(path) as file:
        if missing := [name for name in wanted if name not in file]:
            raise UserError(f"{path} is no NAS-Bench-101 table: it lacks the column {missing[0]}")
        data = {name: file[name] for name in wanted}
    sizes = {len(column) for column in data.values()}
    if len(sizes) != 1 or data["adjacency"].shape[1:] != (7, 7) or data["ops"].shape[1:] != (7,):
        raise ValueError("its columns do not fit together")
    i, j = zip(*graphs.PAIRS, strict=True)
    codes = data["adjacency"][:, i, j].astype(np.int64) @ [graphs.BITS[pair] for pair in graphs.PAIRS]
    rows = zip(data["num_vertices"].tolist(), data["ops"].tolist(), codes.tolist(), strict=True)
    cells = [([LABELS[op] for op in ops[1 : n - 1]], code) for n, ops, code in rows]
    values = {key: (100 * data[name]).astype(np.float32) for key, name in COLUMNS.items()}
    return cells, values, {key: data[name].astype(np.float32) for key, name in SECONDS.items()}


def _read_records(path: Path) -> tuple[Cells, Columns, Columns]:
    """As `_read_npz`, from the official file; each value is the mean over the runs of a cell."""
    cells: dict[str, tuple[list[int], int]] = {}
    sums: dict[int, dict[str, list[float]]] = {}  # epochs -> cell -> number of runs, validation, test, seconds
    with path.open("rb") as file:
        for record in _records(file):
            key, epochs, adjacency, operations, metrics = json.loads(record)
            if key not in cells:
                n = round(len(adjacency) ** 0.5)
                code = graphs.wiring(divmod(k, n) for k, entry in enumerate(adjacency) if entry == "1")
                cells[key] = ([OPERATIONS.index(name) for name in operations.split(",")[1:-1]], code)
            final = [_message(data) for field, data in _fields(base64.b64decode(metrics)) if field == 1][FINAL]
            total = sums.setdefault(int(epochs), {}).setdefault(key, [0.0, 0.0, 0.0, 0.0])
            for k, value in enumerate((1.0, final[VALIDATION], final[TEST], final[TRAINING_TIME])):
                total[k] += value
    values: Columns = {}
    seconds: Columns = {}
    for epochs in sorted(sums, reverse=True):
        rows = np.array([sums[epochs].get(key, [np.nan] * 4) for key in cells])
        validation, test, seconds[f"cifar10/{epochs}"] = (rows[:, 1:] / rows[:, :1]).astype(np.float32).T
        values |= {f"cifar10/test/{epochs}": 100 * test, f"cifar10/val/{epochs}": 100 * validation}
    return list(cells.values()), values, seconds


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Data of each record of a TFRecord file, which is a length with its checksum, then the data with its checksum."""
    while head := file.read(12):
        (length,) = struct.unpack("<Q", head[:8])
        data = file.read(length + 4) if length < 1 << 24 else b""
        if len(data) != length + 4:
            raise EOFError("a record is cut off")
        yield data[:-4]


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field of a protocol buffer message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            start, (_, at) = at, _varint(data, at)
        else:
            length, start = _varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            at = start + length
        yield tag >> 3, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at this place (seven bits in each byte, the lowest first), and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _message(data: bytes) -> dict[int, float]:
    """Field -> number, for the fields of a message that hold doubles."""
    return {field: struct.unpack("<d", value)[0] for field, value in _fields(data) if len(value) == 8}
