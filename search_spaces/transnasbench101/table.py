"""Reader of the files of TransNAS-Bench-101 (Duan et al., CVPR 2021): the official `.pth`, or a CSV.

Values are those of the benchmark's API in its mode `best`: the best over the epochs of a run, for each split alone. So `test` is the
best test epoch, not the test value at the best validation epoch. Accuracies are in %. `room_layout` has the negative loss, where higher
is better as well. Each value is of a single run; values that are not finite count as missing (NaN).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.io.text_tables import read_csv, reading
from diffnag.search_spaces.shared.table_files import Named, check_file, make_table

if TYPE_CHECKING:
    from diffnag.io.tables import BenchmarkTable

EPOCHS = {"class_scene": 25, "class_object": 25, "jigsaw": 10, "room_layout": 25}
"""Task -> epochs of a run, from the benchmark's configurations."""
SPLITS = {"val": "valid", "test": "test"}
METRICS = {"class_scene": "top1", "class_object": "top1", "jigsaw": "top1", "room_layout": "neg_loss"}
COLUMNS = {
    f"{task}/{split}/{epochs}": (task, f"{SPLITS[split]}_{METRICS[task]}") for task, epochs in EPOCHS.items() for split in SPLITS
}
"""Column of our table -> task and metric, by the benchmark's names."""
Rows = list[tuple[str, list[float]]]
"""Pairs of an architecture and its values, in the order of `COLUMNS`."""


def read(path: Path, space: Named, *, part: str, trust_pickle: bool) -> BenchmarkTable:
    """Read the `part`, `micro` or `macro`, of either file; the file may hold a part of the architectures.

    Raises `UserError` for a damaged file, for one of another kind, and for a pickle that is not trusted.
    """
    check_file(path, trust_pickle=trust_pickle)
    rows = (_read_pickle if path.suffix == ".pth" else _read_csv)(path, part)
    for arch, _ in rows:
        space.from_str(arch)
    data = np.array([values for _, values in rows], dtype=np.float32).reshape(-1, len(COLUMNS)).T
    data[~np.isfinite(data)] = np.nan
    other = [key for key, (task, _) in COLUMNS.items() if METRICS[task] != "top1"]
    columns = dict(zip(COLUMNS, data, strict=True))
    return make_table(path, space, [arch for arch, _ in rows], columns, {}, version="unknown", not_accuracies=other)


def _read_csv(path: Path, part: str) -> Rows:
    """The rows of `part` in a CSV."""
    names = ["|".join(column) for column in COLUMNS.values()]
    with reading(path, "TransNAS-Bench-101 table"):
        columns = read_csv(path, "TransNAS-Bench-101 table", ("arch", "space", *names))
        values = zip(*(columns[name] for name in names), strict=True)
        rows = zip(columns["arch"], columns["space"], values, strict=True)
        return [(arch, [float(value) for value in row]) for arch, space, row in rows if space == part]


def _read_pickle(path: Path, part: str) -> Rows:
    """Read the file as the benchmark's API does: `data`, space, architecture, task, `metrics`, a list over the epochs of each metric."""
    import torch

    with reading(path, "TransNAS-Bench-101 file"):
        archs = torch.load(path, map_location="cpu", weights_only=False)["data"][part]
        return [
            (str(arch), [float(max(tasks[task]["metrics"][metric])) for task, metric in COLUMNS.values()])
            for arch, tasks in archs.items()
        ]
