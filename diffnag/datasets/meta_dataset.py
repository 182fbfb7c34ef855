"""The meta-dataset: our own measurements of architectures on many tasks, one line of JSON for each measurement.

Lines are only appended. A reader, or a run that continues, uses every whole line and leaves out a last line that a kill cut short.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diffnag.datasets.drawn_tasks import Change, TaskSpec
from diffnag.errors import UserError
from diffnag.io.files import PRETRAINED, make_folder

FORMAT = "diffnag-meta-dataset-1"
BEGIN = f'{{"format": "{FORMAT}"'.encode()
"""The first bytes of every file."""
LONGEST_HEAD = 100_000
"""Bytes of the first line that are read to recognise a file."""
TRAINING: Mapping[str, tuple[Path, ...]] = {
    "nasbench201": tuple(PRETRAINED / "nasbench201" / name for name in ("meta-dataset.jsonl", "meta-dataset-letters.jsonl")),
    "efficientnet-lite": (PRETRAINED / "efficientnet-lite" / "meta-dataset.jsonl",),
}
CROSSED: Mapping[str, tuple[Path, ...]] = {
    "nasbench201": tuple(
        PRETRAINED / "nasbench201" / name for name in ("crossed-tasks.jsonl", "crossed-digits.jsonl", "crossed-letters.jsonl")
    ),
    "efficientnet-lite": tuple(
        PRETRAINED / "efficientnet-lite" / name for name in ("crossed-tasks.jsonl", "crossed-photos.jsonl", "crossed-long.jsonl")
    ),
}
"""The files that the package ships for each space. Predictors are trained on the first; the others are for tests and have the same
architectures on every task, with held-out classes and sources. The first line of each file has its command."""


@dataclass(frozen=True)
class Effort:
    """Length of each training. A task with few images has the same number of image passes as a large one."""

    image_passes: int = 16_000
    batch_size: int = 128
    learning_rate: float = 0.1


@dataclass(frozen=True)
class Measurement:
    """One trained network: `accuracy` in % and `loss` in nats on images that were not trained on; None if the training diverged."""

    task: int
    arch: str
    seed: int
    accuracy: float | None
    loss: float | None
    epochs: int
    seconds: float
    params: int


@dataclass(frozen=True)
class MetaDataset:
    """Contents of a file. `about` says how it was made: space, effort, sources, `held_out`, seed and command."""

    about: Mapping[str, Any]
    tasks: Mapping[int, TaskSpec]
    measurements: tuple[Measurement, ...]


def read(path: str | Path) -> MetaDataset:
    """Read a file; raises `UserError` if it is no meta-dataset."""
    try:
        lines = Path(path).read_bytes().split(b"\n")[:-1]  # a kill cut short what follows the last newline
        head, *rest = [json.loads(line) for line in lines]
        if head.pop("format") != FORMAT:
            raise ValueError("another format")
        tasks = {row["task"]: _spec(row["spec"]) for row in rest if "spec" in row}
        measurements = tuple(Measurement(*row) for row in rest if isinstance(row, list))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no meta-dataset of python -m diffnag.build_meta_dataset: {error}") from error
    return MetaDataset(head, tasks, measurements)


def read_together(paths: Iterable[str | Path]) -> MetaDataset:
    """Read several files as one. `about` is that of the first; the numbers of the tasks continue from file to file."""
    first, *others = map(read, paths)
    tasks, measurements = dict(first.tasks), list(first.measurements)
    for other in others:
        begin = 1 + max(tasks)
        tasks |= {begin + number: spec for number, spec in other.tasks.items()}
        measurements += [replace(m, task=begin + m.task) for m in other.measurements]
    return MetaDataset(first.about, tasks, tuple(measurements))


def append(path: Path, rows: Iterable[TaskSpec | Measurement | Mapping[str, Any]], *, task: int = 0) -> None:
    """Add whole lines at the end of the file: a mapping is its head, a `TaskSpec` has the number `task`.

    Raises `UserError` if the disk is full, and leaves only whole lines.
    """
    lines = []
    for row in rows:
        if isinstance(row, TaskSpec):
            lines.append(json.dumps({"task": task, "spec": asdict(row)}, separators=(",", ":")))
        elif isinstance(row, Measurement):
            lines.append(json.dumps(list(asdict(row).values()), separators=(",", ":"), allow_nan=False))
        else:
            lines.append(json.dumps({"format": FORMAT, **row}))
    data = memoryview("".join(f"{line}\n" for line in lines).encode())
    try:
        make_folder(path.parent)
        with path.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(whole)
                raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def is_begun(path: Path) -> bool:
    """Whether `path` is a meta-dataset that can be continued; removes a last line that a kill cut short.

    Raises `UserError` for a file of any other kind and does not change it.
    """
    if not path.exists():
        return False
    with path.open("rb") as file:
        head = file.readline(LONGEST_HEAD)
    if not head:
        return False
    if head.startswith(BEGIN) and not head.endswith(b"\n"):
        path.write_bytes(b"")  # a kill cut the head short
        return False
    try:
        ours = json.loads(head)["format"] == FORMAT
    except (ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise UserError(f"{path} is no meta-dataset of python -m diffnag.build_meta_dataset; accepted is one, or a new file")
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
    return True


def _spec(row: Mapping[str, Any]) -> TaskSpec:
    return TaskSpec(**{**row, "classes": tuple(row["classes"]), "change": Change(**row["change"])})
