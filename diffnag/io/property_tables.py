"""Tables of what was measured of a benchmark's architectures beside their accuracy, such as latencies: read, kept and found.

A space names such files in `more_tables`. Their rows have an architecture each, by a column `arch`, or in the order of the benchmark,
which the table of accuracies knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnag.errors import DataNotFound, UserError, in_a_line
from diffnag.io.archives import open_npz
from diffnag.io.files import cache_folder, data_folder, written_whole
from diffnag.io.tables import load_table
from diffnag.io.text_tables import read_csv, reading
from diffnag.protocols import HasMoreTables

if TYPE_CHECKING:
    from diffnag.protocols import SearchSpace

FORMAT = 1
"""Version of the compact file."""


@dataclass(frozen=True)
class PropertyTable:
    """Properties of `m` architectures of one space."""

    space: str
    kind: str
    """What the table is about, a key of `more_tables`."""
    archs: tuple[str, ...]
    """The space's strings."""
    columns: Mapping[str, np.ndarray]
    """Name -> values `(m,)`, or `(m, levels)` for a property at several levels."""
    sha256: str
    """Checksum of the file that was read."""

    def save(self, path: Path) -> None:
        """Write the compact file, a compressed `.npz` without pickles."""
        head = {"format": FORMAT, "space": self.space, "kind": self.kind, "sha256": self.sha256, "columns": list(self.columns)}
        arrays = {f"column{number}": column for number, column in enumerate(self.columns.values())}
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, head=_bytes(json.dumps(head)), archs=_bytes("\n".join(self.archs)), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> PropertyTable:
        """Read a compact file; raises `UserError` if it is damaged or of another format."""
        try:
            with open_npz(path) as file:
                head = json.loads(file["head"].tobytes())
                if head["format"] != FORMAT:
                    raise ValueError(f"its format is {head['format']}, not {FORMAT}")
                archs = tuple(file["archs"].tobytes().decode().split("\n"))
                columns = {name: file[f"column{number}"] for number, name in enumerate(head["columns"])}
            return _checked(cls(head["space"], head["kind"], archs, columns, head["sha256"]), path)
        except UserError:
            raise
        except Exception as error:  # zipfile, zlib, numpy and json each fail in their own ways on a damaged file
            raise UserError(f"{path} is no readable table file ({in_a_line(error)}); import the table again") from error


def kept_file(space: str, kind: str) -> Path:
    """Path of the table that `python -m diffnag.data import` writes."""
    return cache_folder() / "tables" / f"{space}-{kind}.npz"


def locate_properties(space: SearchSpace, kind: str) -> Path | None:
    """The file of a table, or None: `$DIFFNAG_DATA` comes first, then the table that was imported."""
    if not isinstance(space, HasMoreTables) or kind not in space.more_tables:
        return None
    folder, imported = data_folder(), kept_file(space.name, kind)
    places = [folder / space.more_tables[kind], folder / imported.name] if folder else []
    return next((path for path in [*places, imported] if path.is_file()), None)


def load_properties(space: SearchSpace, kind: str) -> PropertyTable:
    """The table of a `kind`, such as `latency`. Raises `DataNotFound` if there is none, `UserError` if it cannot be read."""
    if not isinstance(space, HasMoreTables) or kind not in space.more_tables:
        raise DataNotFound(f"space {space.name!r} has no table of {kind}")
    if (path := locate_properties(space, kind)) is None:
        raise DataNotFound(
            f"the {space.name} table of {kind} is not here: run `python -m diffnag.data import {space.name} --{kind} FILE`, "
            f"or set $DIFFNAG_DATA to a folder with {space.more_tables[kind]}"
        )
    table = read_properties(space, kind, path) if path.name == space.more_tables[kind] else PropertyTable.load(path)
    if (table.space, table.kind) != (space.name, kind):
        raise UserError(f"{path} is a table of {table.kind} in space {table.space!r}, not of {kind} in {space.name!r}")
    return table


def read_properties(space: SearchSpace, kind: str, path: Path) -> PropertyTable:
    """Read a published file: a CSV, gzipped or plain, whose columns of numbers are kept, or an `.npz` whose arrays are.

    A CSV has a column `arch`, or `index`: the place in the order of the benchmark. The rows of an `.npz` have that order. It is the
    order of the table of accuracies, which has to be there as well. Raises `UserError` for other files.
    """
    from diffnag.io.checkpoint import checksum

    if not path.is_file():
        raise UserError(f"there is no file {path}")
    with reading(path, f"table of {kind}"):
        names, columns = _read_arrays(path) if path.suffix == ".npz" else _read_csv(path, kind)
    archs = names if isinstance(names, tuple) else _in_order(space, path, names)
    for arch in archs:
        space.from_str(arch)
    return _checked(PropertyTable(space.name, kind, archs, columns, checksum(path)), path)


def _read_csv(path: Path, kind: str) -> tuple[tuple[str, ...] | np.ndarray, dict[str, np.ndarray]]:
    """Architectures, or their places, and the other columns."""
    columns = read_csv(path, f"table of {kind}", ())
    index, archs = columns.pop("index", None), columns.pop("arch", None)
    if archs is None and index is None:
        raise UserError(f"{path} is no table of {kind}: it has neither a column arch nor a column index")
    values = {name: np.array(column, dtype=np.float64) for name, column in columns.items()}
    return (archs if archs is not None else np.array(index, dtype=np.int64)), values


def _read_arrays(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with open_npz(path) as file:
        columns = {name: file[name] for name in file.files}
    return np.arange(min(map(len, columns.values()))), columns


def _in_order(space: SearchSpace, path: Path, index: np.ndarray) -> tuple[str, ...]:
    """The architectures at these places in the order of the benchmark."""
    try:
        known: Sequence[str] = load_table(space).archs
    except DataNotFound as error:
        raise DataNotFound(f"{path} names architectures by their place in the benchmark, which its table of accuracies knows: {error}") from error
    if any(not 0 <= place < len(known) for place in (index.min(initial=0), index.max(initial=0))):
        raise UserError(f"{path} has places from {index.min()} to {index.max()}; the benchmark has {len(known):,} architectures")
    return tuple(known[place] for place in index)


def _checked(table: PropertyTable, path: Path) -> PropertyTable:
    """The table; raises `UserError` where it has no rows, an architecture twice, or a column of another length or without numbers."""
    if not table.archs or len(set(table.archs)) < len(table.archs):
        raise UserError(f"{path} has {'an architecture twice' if table.archs else 'no architecture'}")
    for name, column in table.columns.items():
        if len(column) != len(table.archs) or column.ndim > 2 or column.dtype.kind not in "fiu":
            raise UserError(f"{path} has a column {name} that is no number for each of its {len(table.archs):,} architectures")
    return table


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)
