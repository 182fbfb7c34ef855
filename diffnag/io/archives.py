"""Archives of arrays and compressed texts, with a limit on what they may unfold to: a file of some kilobytes can hold terabytes of zeros."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from diffnag.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 4_000_000_000
"""Largest arrays that are read into memory, together."""
MOST_TEXT = 500_000_000
"""Largest text that is read into memory, in bytes."""
GZIP = b"\x1f\x8b"
"""The first bytes of a gzipped file."""


@contextmanager
def open_npz(path: Path, *, only: Collection[str] | None = None) -> Iterator[np.lib.npyio.NpzFile]:
    """Open an `.npz` file whose arrays, or `only` those of some names, are no larger than `MOST_BYTES`; nothing is unpickled.

    Raises `UserError` where they are larger; numpy and zipfile raise many errors for files that are damaged or something else.
    """
    import numpy as np

    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile) or file.zip is None:
            raise ValueError("it is no .npz file")
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in file.zip.infolist()}
        refuse_large(path, sum(size for name, size in sizes.items() if only is None or name in only))
        yield file


def refuse_large(path: Path, count: int) -> None:
    """Raise `UserError` for a file whose arrays have more bytes than are read."""
    if count > MOST_BYTES:
        raise UserError(
            f"{path} holds arrays of {count / 1e9:.1f} GB; accepted are up to {MOST_BYTES / 1e9:g} GB: take fewer or smaller images, or a "
            f"smaller type"
        )


def read_text(path: Path) -> str:
    """The text of a file, gzipped or plain; raises `UserError` if it is larger than `MOST_TEXT`, `UnicodeDecodeError` if it is no text."""
    with path.open("rb") as raw, gzip.open(raw) if raw.peek(2)[:2] == GZIP else raw as file:
        data = file.read(MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise UserError(f"{path} holds more than {MOST_TEXT / 1e6:g} MB of text; accepted is no more")
    return data.decode()
