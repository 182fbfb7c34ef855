"""Reads the files in which NAS-Bench-201 (Dong & Yang, ICLR 2020) comes: the official pickle, or a CSV.

Splits, in both: `cifar10/val` trains on the train half and is measured on the other half of the training images,
`cifar10/test` trains on both and is measured on the test images; the other datasets halve their test images instead.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import UserError
from diffnag.io.tables import BenchmarkTable, check_accuracies

if TYPE_CHECKING:
    from nas_201_api import ArchResults

    from diffnag.search_spaces.nasbench201.space import NASBench201

SPLITS = {
    "cifar10/val": ("cifar10-valid", "x-valid"),
    "cifar10/test": ("cifar10", "ori-test"),
    "cifar100/val": ("cifar100", "x-valid"),
    "cifar100/test": ("cifar100", "x-test"),
    "ImageNet16-120/val": ("ImageNet16-120", "x-valid"),
    "ImageNet16-120/test": ("ImageNet16-120", "x-test"),
}
"""dataset/split -> the benchmark's name of the training run, and of the images it is measured on."""
RECIPES = {12: "less", 200: "full"}
"""Epochs -> the benchmark's name of the recipe."""
KEYS = tuple(f"{name}/{epochs}" for epochs in (200, 12) for name in SPLITS)
TIME_COLUMN = "cifar10_train_time_12_s"
V1_0 = "11184a95e3dfac42e405387e61e8fc3e2d9bcffa563debac099ae478a90523ae"
"""Checksum of the accuracies of version 1.0, by which a CSV that does not say its version is known."""


def read(path: Path, space: NASBench201, *, trust_pickle: bool) -> BenchmarkTable:
    """Read the official `.pth` (v1_0 or v1_1), or a CSV, gzipped or plain; a part of the architectures will do.

    Raises `UserError` where the file is damaged or none of these, and for a pickle that is not trusted.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".pth":
        if not trust_pickle:
            raise UserError(
                f"{path.name} is a pickle, which can run any code when it is loaded; "
                "if you trust where you have it from, add --trust-pickle"
            )
        archs, values, seconds = _read_pickle(path)
    else:
        archs, values, seconds = _read_csv(path)
    for arch in archs:
        space.from_str(arch)
    if len(set(archs)) < len(archs) or not archs:
        raise UserError(f"{path} has {'an architecture twice' if archs else 'no architecture'}")
    if any(np.isnan(rows).any() for rows in values.values()):
        raise UserError(f"{path} lacks accuracies of some architectures; expected are all")
    check_accuracies(path, values)
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return BenchmarkTable(
        space=space.name, archs=archs, values=values, seconds=seconds, sha256=checksum, version=_version(path, archs, values),
    )


def _version(path: Path, archs: tuple[str, ...], values: dict[str, np.ndarray]) -> str:
    if named := re.search(r"v1_\d", path.name):
        return named[0]
    return "v1_0" if fingerprint(archs, values) == V1_0 else "unknown"


def fingerprint(archs: tuple[str, ...], values: dict[str, np.ndarray]) -> str:
    """Checksum of the accuracies after 200 epochs, in hundredths of a percent, architectures in alphabetical order."""
    order = np.argsort(archs)
    rows = np.stack([values[f"{name}/200"] for name in SPLITS])[:, order]
    return hashlib.sha256(np.rint(rows * 100).astype("<i4").tobytes()).hexdigest()


def _read_csv(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray], dict[str, np.ndarray]]:
    columns = {key: key.replace("/", "_") for key in KEYS}
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
        rows = csv.reader(io.StringIO(text), strict=True)
        head = next(rows, [])
        if missing := [name for name in ("arch_str", *columns.values()) if name not in head]:
            raise UserError(f"{path} is no NAS-Bench-201 table: it lacks the column {missing[0]}")
        by_name = dict(zip(head, list(zip(*rows, strict=True)) or [()] * len(head), strict=True))
        values = {key: np.array(by_name[name], dtype=np.float32) for key, name in columns.items()}
        seconds = {"cifar10/12": np.array(by_name[TIME_COLUMN], dtype=np.float32)} if TIME_COLUMN in by_name else {}
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise UserError(f"{path} is no readable NAS-Bench-201 table ({error})") from error
    return by_name["arch_str"], values, seconds


def _read_pickle(path: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Mean over the seeds trained, of the last epoch. The benchmark's own class would copy all that was loaded."""
    import torch

    try:
        from nas_201_api import ArchResults
    except ImportError as error:
        raise UserError(f"reading {path.name} needs the nas-bench-201 package: pip install diffnag[nasbench201]") from error

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=False)
        strings, infos = loaded["meta_archs"], loaded["arch2infos"]
        del loaded
        archs: list[str] = []
        values: dict[str, list[float]] = {key: [] for key in KEYS}
        times: list[float | None] = []
        for index in sorted(infos):
            entry = infos.pop(index)  # freed when the next one comes
            archs.append(str(strings[index]))
            recipes = {epochs: ArchResults.create_from_state_dict(entry[name]) for epochs, name in RECIPES.items()}
            for key, value in _accuracies(recipes).items():
                values[key].append(value)
            times.append(_seconds(recipes[12]))
    except Exception as error:  # a pickle of anything else can fail in any way
        why = " ".join(f"{type(error).__name__}: {error}".split())  # on one line
        raise UserError(f"{path} is no readable NAS-Bench-201 file ({why})") from error
    known = [] if None in times else [("cifar10/12", np.array(times, dtype=np.float32))]
    return tuple(archs), {key: np.array(rows, dtype=np.float32) for key, rows in values.items()}, dict(known)


def _accuracies(recipes: dict[int, ArchResults]) -> dict[str, float]:
    found = {}
    for epochs, results in recipes.items():
        for name, (run, images) in SPLITS.items():
            trials = results.query(run).values()
            found[f"{name}/{epochs}"] = float(np.mean([trial.eval_acc1es[f"{images}@{trial.epochs - 1}"] for trial in trials]))
    return found


def _seconds(results: ArchResults) -> float | None:
    """Training time on cifar10, of all epochs, mean over the seeds; None where it was not recorded."""
    trials = [trial.train_times for trial in results.query("cifar10").values()]
    return None if None in trials else float(np.mean([sum(times.values()) for times in trials]))
