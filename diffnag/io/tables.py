"""Tables of measured benchmark results: checks for their readers, the compact file, and the places where tables are found."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from diffnag.errors import DataNotFound, UserError, in_a_line
from diffnag.io.archives import open_npz
from diffnag.io.files import cache_folder, data_folder, written_whole
from diffnag.protocols import ReadsTables

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

FORMAT = 2
"""Version of the compact file and of what the readers put into it; with a new number the cache is filled anew."""


@dataclass(frozen=True)
class BenchmarkTable:
    """Measured results of `m` architectures of one space, and where they come from."""

    space: str
    archs: tuple[str, ...]
    """The space's strings, in the order of the benchmark."""
    values: Mapping[str, np.ndarray]
    """`dataset/split/epochs`, such as `cifar10/val/200` -> float32 `(m,)`, NaN for a missing value; accuracies in % or what
    the space `measures` there."""
    seconds: Mapping[str, np.ndarray]
    """`dataset/epochs` -> training time in seconds, float32 `(m,)`, if the benchmark has it."""
    version: str
    """The benchmark's own version, such as `v1_1`; `unknown` if the file does not say."""
    sha256: str
    """Checksum of the file that was read."""
    complete: bool = True
    """Whether every architecture of the space has a row; set by `read_benchmark`."""

    def save(self, path: str | Path) -> None:
        """Write the compact file, a compressed `.npz` without pickles."""
        head = {"format": FORMAT, "space": self.space, "version": self.version, "sha256": self.sha256, "complete": self.complete}
        head |= {"values": list(self.values), "seconds": list(self.seconds)}
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
                archs=np.frombuffer("\n".join(self.archs).encode(), dtype=np.uint8),
                rows=np.stack([*self.values.values(), *self.seconds.values()]).astype(np.float32),
            )

    @classmethod
    def load(cls, path: str | Path) -> BenchmarkTable:
        """Read a compact file; raises `UserError` if it is damaged, of another kind or of another format."""
        try:
            with open_npz(Path(path)) as file:
                head = json.loads(file["head"].tobytes())
                archs = tuple(file["archs"].tobytes().decode().split("\n"))
                rows = file["rows"]
            if head["format"] != FORMAT:
                raise UserError(f"{path} has table format {head['format']}, this version reads {FORMAT}; import the table again")
            values, seconds = head["values"], head["seconds"]
            if rows.dtype != np.float32 or rows.shape != (len(values) + len(seconds), len(archs)):
                raise ValueError(f"its results have shape {rows.shape}")
            return cls(
                space=head["space"], archs=archs, version=head["version"], sha256=head["sha256"], complete=head["complete"],
                values=dict(zip(values, rows, strict=False)), seconds=dict(zip(seconds, rows[len(values) :], strict=True)),
            )
        except UserError:
            raise
        except Exception as error:  # zipfile, zlib, numpy and json each fail in their own ways on a damaged file
            raise UserError(f"{path} is no readable table file ({in_a_line(error)}); import the table again") from error


def check_accuracies(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Raise `UserError` unless the columns that a reader found in `path` are accuracies in %; missing values (NaN) are not checked.

    A column without a value above 1 is taken for fractions. Guessing alone gives 1 % with a hundred classes.
    """
    for name, column in columns.items():
        there = column[~np.isnan(column)]
        if not ((there >= 0) & (there <= 100)).all():
            raise UserError(f"{path} has accuracies that are not within 0 and 100 %, in {name}")
        if there.size and there.max() <= 1:
            raise UserError(f"{path} has accuracies of at most {there.max():g} % in {name}, which look like fractions; expected is 0 to 100 %")


def read_benchmark(space: ReadsTables, path: Path, *, trust_pickle: bool) -> BenchmarkTable:
    """Read a benchmark's own file by the reader of its space, and find out whether it covers the whole space."""
    table = space.read_table(path, trust_pickle=trust_pickle)
    every = cast("SearchSpace", space).enumerate()
    counted = 0 if every is None else sum(1 for _ in islice(every, len(table.archs) + 1))
    return replace(table, complete=counted == len(table.archs))


def imported_file(space: str) -> Path:
    """Path of the table that `python -m diffnag.data import` writes for `space`."""
    return cache_folder() / "tables" / f"{space}.npz"


def kept_oracle_file(name: str) -> Path:
    """Path of the copy of a benchmark's file `name` that `python -m diffnag.data import` keeps for an oracle; see `KeepsOracleFile`."""
    return cache_folder() / "tables" / name


def locate_file(name: str) -> Path | None:
    """The benchmark's file `name` in `$DIFFNAG_DATA`, else its copy in the user cache, or None."""
    folder = data_folder()
    return next((path for path in (*([folder / name] if folder else []), kept_oracle_file(name)) if path.is_file()), None)


def locate(space: ReadsTables, name: str) -> Path | None:
    """The file that holds the table of the space called `name`, or None.

    `$DIFFNAG_DATA` comes first, with the benchmark's own file or a compact file; then the table that was imported.
    """
    folder, imported = data_folder(), imported_file(name)
    places = [folder / space.table_file, folder / imported.name] if folder else []
    return next((path for path in [*places, imported] if path.is_file()), None)


def load_table(space: SearchSpace) -> BenchmarkTable:
    """Load the table of `space`; raises `DataNotFound` if none is found, `UserError` if it cannot be read."""
    if not isinstance(space, ReadsTables):
        raise DataNotFound(f"space {space.name!r} has no benchmark table")
    path = locate(space, space.name)
    if path is None:
        raise DataNotFound(
            f"the {space.name} table is not here: run `python -m diffnag.data import {space.name} --from FILE`, "
            f"or set $DIFFNAG_DATA to a folder with {space.table_file}"
        )
    table = _through_cache(path, space, space.name) if path.name == space.table_file else BenchmarkTable.load(path)
    if table.space != space.name:
        raise UserError(f"{path} is a table of space {table.space!r}, not of {space.name!r}")
    return table


def _through_cache(path: Path, space: ReadsTables, name: str) -> BenchmarkTable:
    """Read the benchmark's own file at `path` once: later calls load a compact file that is kept for its path, size and time.

    The compact file serves only as long as `$DIFFNAG_DATA` names its source. If it is damaged, the source is read again.
    """
    status = path.stat()
    key = hashlib.sha256(f"{FORMAT} {path.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    kept = imported_file(name)
    kept = kept.with_name(f"{name}-{key[:16]}.npz")
    if kept.is_file():
        with contextlib.suppress(UserError):
            return BenchmarkTable.load(kept)
    table = read_benchmark(space, path, trust_pickle=False)
    with contextlib.suppress(UserError):  # a cache that cannot be written costs time at the next use, nothing else
        table.save(kept)
    return table
