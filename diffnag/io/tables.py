"""Tables of measured benchmark results: the compact file, where it lies, and how it is found."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import DataNotFound, UserError
from diffnag.io.files import cache_folder, data_folder, written_whole
from diffnag.protocols import ReadsTables

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

FORMAT = 1
"""Of the compact file, and of what the readers put into it; a new number makes the cache be filled anew."""


@dataclass(frozen=True)
class BenchmarkTable:
    """Measured results of `m` architectures of one space, and where they come from."""

    space: str
    archs: tuple[str, ...]
    """The space's strings, in the order of the benchmark."""
    values: Mapping[str, np.ndarray]
    """`dataset/split/epochs`, such as `cifar10/val/200` -> float32 `(m,)`, NaN where there is none; accuracies in % or what the space
    `measures` there."""
    seconds: Mapping[str, np.ndarray]
    """`dataset/epochs` -> training time in seconds, float32 `(m,)`, where the benchmark tells it."""
    version: str
    """The benchmark's own, `v1_0` or `v1_1`; `unknown` where the file does not tell."""
    sha256: str
    """Checksum of the file that was read."""

    def save(self, path: str | Path) -> None:
        """Write the compact file, a compressed `.npz` that holds no pickle."""
        head = {"format": FORMAT, "space": self.space, "version": self.version, "sha256": self.sha256}
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
        """Read a compact file; raises `UserError` where it is damaged, of another kind or of another format."""
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                head = json.loads(file["head"].tobytes())
                archs = tuple(file["archs"].tobytes().decode().split("\n"))
                rows = file["rows"]
            if head["format"] != FORMAT:
                raise UserError(f"{path} has table format {head['format']}, this version reads {FORMAT}; import the table again")
            values, seconds = head["values"], head["seconds"]
            if rows.dtype != np.float32 or rows.shape != (len(values) + len(seconds), len(archs)):
                raise ValueError(f"its results have shape {rows.shape}")
            return cls(
                space=head["space"], archs=archs, version=head["version"], sha256=head["sha256"],
                values=dict(zip(values, rows, strict=False)), seconds=dict(zip(seconds, rows[len(values) :], strict=True)),
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} is no readable table file ({error}); import the table again") from error


def imported_file(space: str) -> Path:
    """Where `python -m diffnag.data import` puts the table of `space`."""
    return cache_folder() / "tables" / f"{space}.npz"


def locate(space: ReadsTables, name: str) -> Path | None:
    """The file that holds the table of the space called `name`, or None.

    `$DIFFNAG_DATA` comes first: the benchmark's table as such, then a compact file; then the user cache: what was
    imported, then what the last use of a `$DIFFNAG_DATA` has left there.
    """
    folder, kept = data_folder(), imported_file(name)
    places = [folder / space.table_file, folder / kept.name] if folder else []
    left = sorted(kept.parent.glob(f"{name}-*.npz"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((path for path in [*places, kept, *left] if path.is_file()), None)


def load_table(space: SearchSpace) -> BenchmarkTable:
    """The table of `space`; raises `DataNotFound` where there is none, `UserError` where it cannot be read."""
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
    """Read the benchmark's own file at `path`, once: later calls load the compact file kept for its size and time."""
    status = path.stat()
    key = hashlib.sha256(f"{FORMAT} {path.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
    kept = imported_file(name)
    kept = kept.with_name(f"{name}-{key[:16]}.npz")
    if kept.is_file():
        return BenchmarkTable.load(kept)
    table = space.read_table(path, trust_pickle=False)
    with contextlib.suppress(UserError):  # a cache that cannot be written costs time at the next use, nothing else
        table.save(kept)
    return table
