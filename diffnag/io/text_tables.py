"""Tables as text: one sentence for a damaged file, and the columns of a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffnag.errors import UserError, in_a_line
from diffnag.io.archives import read_text


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


def read_csv(path: Path, what: str, required: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Columns of a CSV with a header line, gzipped or plain, as text by name; blank lines are left out.

    Raises `UserError` if one of the `required` columns is missing, other exceptions for a damaged file (see `reading`).
    """
    lines = [line for line in csv.reader(io.StringIO(read_text(path)), strict=True) if line]
    head = lines[0] if lines else []
    if missing := [name for name in required if name not in head]:
        raise UserError(f"{path} is no {what}: it lacks the column {missing[0]}")
    columns = list(zip(*lines[1:], strict=True)) or [()] * len(head)
    return dict(zip(head, columns, strict=True))
