"""The meta-dataset: architectures trained on many tasks, measured by ourselves, one line of JSON a measurement.

Lines are only ever appended: a reader, or a run that goes on, takes every whole line and leaves out one that a kill cut short.
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
"""How the file begins."""
LONGEST_HEAD = 100_000
"""Bytes of the first line of a file that are looked at."""
TRAINING, CROSSED = (
    tuple(PRETRAINED / "nasbench201" / name for name in names)
    for names in (("meta-dataset.jsonl", "meta-dataset-letters.jsonl"), ("crossed-tasks.jsonl", "crossed-digits.jsonl", "crossed-letters.jsonl"))
)
"""Our own measurements: those that predictors learn from, and, for tests, the same architectures on tasks of held-out classes and
sources. Each file's first line has its command."""


@dataclass(frozen=True)
class Effort:
    """How long each network is trained: as many image passes on every task, however small."""

    image_passes: int = 16_000
    batch_size: int = 128
    learning_rate: float = 0.1


@dataclass(frozen=True)
class Measurement:
    """One trained network: `accuracy` in % and `loss` in nats over the images not trained on, None where it diverged."""

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
    """What a file holds. `about` says how it was made: space, effort, sources, whether `held_out`, seed."""

    about: Mapping[str, Any]
    tasks: Mapping[int, TaskSpec]
    measurements: tuple[Measurement, ...]


def read(path: str | Path) -> MetaDataset:
    """The file's contents; raises `UserError` for any other file."""
    try:
        lines = Path(path).read_bytes().split(b"\n")[:-1]  # what follows the last newline was cut short
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
    """The contents of several files as one, `about` that of the first; tasks are numbered on from file to file."""
    first, *others = map(read, paths)
    tasks, measurements = dict(first.tasks), list(first.measurements)
    for other in others:
        begin = 1 + max(tasks)
        tasks |= {begin + number: spec for number, spec in other.tasks.items()}
        measurements += [replace(m, task=begin + m.task) for m in other.measurements]
    return MetaDataset(first.about, tasks, tuple(measurements))


def append(path: Path, rows: Iterable[TaskSpec | Measurement | Mapping[str, Any]], *, task: int = 0) -> None:
    """Write whole lines at the end, at once on the disk; `task` numbers a `TaskSpec`, a mapping is the file's head."""
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
    """Whether `path` is a meta-dataset to go on with; a last line that a kill cut short is removed from it.

    Raises `UserError` for a file of any other kind, and leaves it as it is.
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
