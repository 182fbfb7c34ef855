"""Steps that the readers of benchmark tables share: checks of the file, one sentence for a damaged one, CSV columns, the result."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diffnag.errors import UserError, in_a_line
from diffnag.io.checkpoint import checksum
from diffnag.io.tables import BenchmarkTable, check_accuracies

if TYPE_CHECKING:
    import numpy as np

    from diffnag.arch import Arch

GZIP = b"\x1f\x8b"
"""The first bytes of a gzipped file."""


class Named(Protocol):
    """The part of a search space that readers need."""

    name: str

    def from_str(self, text: str) -> Arch: ...


def check_file(path: Path, *, trust_pickle: bool) -> None:
    """Raise `UserError` if there is no file at `path`, or if it is a pickle (`.pth`) that the user does not trust."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".pth" and not trust_pickle:
        raise UserError(f"{path.name} is a pickle, which can run any code when it is loaded; if you trust its source, add --trust-pickle")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Context in which any error of a damaged file becomes one `UserError`: `path` is no readable `kind`.

    All exceptions count, as pickles, archives and records of other content can fail in any way. A `UserError` passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is no readable {kind} ({in_a_line(error)})") from error


def read_csv(path: Path, benchmark: str, required: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Columns of a CSV with a header line, gzipped or plain, as text by name; blank lines are left out.

    Raises `UserError` if one of the `required` columns is missing, other exceptions for a damaged file (see `reading`).
    """
    data = path.read_bytes()
    text = (gzip.decompress(data) if data.startswith(GZIP) else data).decode()
    lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    head = lines[0] if lines else []
    if missing := [name for name in required if name not in head]:
        raise UserError(f"{path} is no {benchmark} table: it lacks the column {missing[0]}")
    columns = list(zip(*lines[1:], strict=True)) or [()] * len(head)
    return dict(zip(head, columns, strict=True))


def make_table(
    path: Path, space: Named, archs: Sequence[str], values: Mapping[str, np.ndarray], seconds: Mapping[str, np.ndarray], *,
    version: str, not_accuracies: Collection[str] = (),
) -> BenchmarkTable:  # fmt: skip
    """The table of `space` that was read from `path`; see `BenchmarkTable` for its parts.

    Raises `UserError` if there is no architecture, if one occurs twice, and for accuracies that are not in %. The columns `not_accuracies`
    hold other measures and are not checked.
    """
    if len(set(archs)) < len(archs) or not archs:
        raise UserError(f"{path} has {'an architecture twice' if archs else f'no architecture of space {space.name!r}'}")
    check_accuracies(path, {key: column for key, column in values.items() if key not in not_accuracies})
    return BenchmarkTable(space=space.name, archs=tuple(archs), values=values, seconds=seconds, version=version, sha256=checksum(path))
