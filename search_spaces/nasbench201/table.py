"""Reader of the files of NAS-Bench-201 (Dong & Yang, ICLR 2020): the official pickle, or a CSV.

Splits, in both: `cifar10/val` trains on half of the training images and is measured on the other half. `cifar10/test` trains on all of
them and is measured on the test images. The other datasets train on all training images; their `val` and `test` are the two halves of
the test images.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.io.text_tables import read_csv, reading
from diffnag.search_spaces.shared.table_files import check_file, make_table

if TYPE_CHECKING:
    from nas_201_api import ArchResults

    from diffnag.io.tables import BenchmarkTable
    from diffnag.search_spaces.nasbench201.space import NASBench201

SPLITS = {
    "cifar10/val": ("cifar10-valid", "x-valid"),
    "cifar10/test": ("cifar10", "ori-test"),
    "cifar100/val": ("cifar100", "x-valid"),
    "cifar100/test": ("cifar100", "x-test"),
    "ImageNet16-120/val": ("ImageNet16-120", "x-valid"),
    "ImageNet16-120/test": ("ImageNet16-120", "x-test"),
}
"""dataset/split -> the benchmark's name for the training run, and for the images on which it is measured."""
RECIPES = {12: "less", 200: "full"}
"""Epochs -> the benchmark's name for the training recipe."""
KEYS = tuple(f"{name}/{epochs}" for epochs in (200, 12) for name in SPLITS)
TIME_COLUMN = "cifar10_train_time_12_s"
V1_0 = "11184a95e3dfac42e405387e61e8fc3e2d9bcffa563debac099ae478a90523ae"
"""`fingerprint` of version 1.0: a CSV does not name its version."""
Columns = dict[str, np.ndarray]


def read(path: Path, space: NASBench201, *, trust_pickle: bool) -> BenchmarkTable:
    """Read the official `.pth` (v1_0 or v1_1), or a CSV, gzipped or plain; the file may hold a part of the architectures.

    Raises `UserError` for a damaged file, for one of another kind, and for a pickle that is not trusted.
    """
    check_file(path, trust_pickle=trust_pickle)
    archs, values, seconds = (_read_pickle if path.suffix == ".pth" else _read_csv)(path)
    for arch in archs:
        space.from_str(arch)
    if any(np.isnan(rows).any() for rows in values.values()):
        raise UserError(f"{path} lacks accuracies of some architectures; expected are all")
    return make_table(path, space, archs, values, seconds, version=_version(path, archs, values))


def _version(path: Path, archs: tuple[str, ...], values: Columns) -> str:
    """The version that the file's name shows, else the one that the accuracies show."""
    if not archs:
        return "unknown"
    if named := re.search(r"v1_\d", path.name):
        return named[0]
    return "v1_0" if fingerprint(archs, values) == V1_0 else "unknown"


def fingerprint(archs: tuple[str, ...], values: Columns) -> str:
    """Checksum of the accuracies after 200 epochs, in hundredths of a percent, architectures in alphabetical order."""
    order = np.argsort(archs)
    rows = np.stack([values[f"{name}/200"] for name in SPLITS])[:, order]
    return hashlib.sha256(np.rint(rows * 100).astype("<i4").tobytes()).hexdigest()


def _read_csv(path: Path) -> tuple[tuple[str, ...], Columns, Columns]:
    """Architectures, accuracies in % and training times."""
    names = {key: key.replace("/", "_") for key in KEYS}
    with reading(path, "NAS-Bench-201 table"):
        columns = read_csv(path, "NAS-Bench-201 table", ("arch_str", *names.values()))
        values = {key: np.array(columns[name], dtype=np.float32) for key, name in names.items()}
        seconds = {"cifar10/12": np.array(columns[TIME_COLUMN], dtype=np.float32)} if TIME_COLUMN in columns else {}
    return columns["arch_str"], values, seconds


def _read_pickle(path: Path) -> tuple[tuple[str, ...], Columns, Columns]:
    """As `_read_csv`, from the official file: accuracies after the last epoch, each the mean over the trained seeds.

    The benchmark's own class is not used, as it copies everything it has loaded.
    """
    import torch

    try:
        from nas_201_api import ArchResults
    except ImportError as error:
        raise UserError(f"reading {path.name} needs the nas-bench-201 package: pip install diffnag[nasbench201]") from error

    archs: list[str] = []
    values: dict[str, list[float]] = {key: [] for key in KEYS}
    times: list[float | None] = []
    with reading(path, "NAS-Bench-201 file"):
        loaded = torch.load(path, map_location="cpu", weights_only=False)
        strings, infos = loaded["meta_archs"], loaded["arch2infos"]
        del loaded
        for index in sorted(infos):
            entry = infos.pop(index)  # its memory is free before the next entry is converted
            archs.append(str(strings[index]))
            recipes = {epochs: ArchResults.create_from_state_dict(entry[name]) for epochs, name in RECIPES.items()}
            for key, value in _accuracies(recipes).items():
                values[key].append(value)
            times.append(_seconds(recipes[12]))
    seconds = {} if None in times else {"cifar10/12": np.array(times, dtype=np.float32)}
    return tuple(archs), {key: np.array(rows, dtype=np.float32) for key, rows in values.items()}, seconds


def _accuracies(recipes: dict[int, ArchResults]) -> dict[str, float]:
    """`KEYS` -> accuracy of one architecture in %, from its results by number of epochs."""
    found = {}
    for epochs, results in recipes.items():
        for name, (run, images) in SPLITS.items():
            trials = results.query(run).values()
            found[f"{name}/{epochs}"] = float(np.mean([trial.eval_acc1es[f"{images}@{trial.epochs - 1}"] for trial in trials]))
    return found


def _seconds(results: ArchResults) -> float | None:
    """Seconds of a whole training on cifar10, mean over the trained seeds; None if they were not recorded."""
    trials = [trial.train_times for trial in results.query("cifar10").values()]
    return None if None in trials else float(np.mean([sum(times.values()) for times in trials]))
