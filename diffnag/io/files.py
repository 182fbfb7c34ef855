"""Where files live, and how they are written: to a temporary name first, then moved into place."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError

if TYPE_CHECKING:
    import numpy as np

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def check_writable(path: str | Path) -> None:
    """Raise `UserError` where `written_whole(path)` would: asked before long work, not after it. No folder is made yet."""
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=next(parent for parent in path.absolute().parents if parent.exists())):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def make_folder(path: Path) -> None:
    """With those above it; NotADirectoryError where a file of its name is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well.

    A reader, or a run that resumes after a kill, sees the old file or the new one, never a part.
    Raises `UserError` where the place cannot be written.
    """
    path = Path(path)
    try:
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp is private, results are not
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused, as JSON has none."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The arrays of these names in a `.npz` file; raises `UserError` where it is none, or lacks one."""
    import zipfile

    import numpy as np

    try:
        with np.load(path) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        told = f"{', '.join(names[:-1])} and {names[-1]}"
        raise UserError(f"{path} is no .npz file with {told}: {error}") from error


def data_folder() -> Path | None:
    """The user's own data folder, `$DIFFNAG_DATA`, or None where it is not set."""
    folder = os.environ.get("DIFFNAG_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise UserError(f"$DIFFNAG_DATA names {folder!r}, which is not a folder")
    return Path(folder)


def cache_folder() -> Path:
    """The user cache: `$DIFFNAG_CACHE` where set, else the platform's own place."""
    if folder := os.environ.get("DIFFNAG_CACHE"):
        return Path(folder)
    from platformdirs import user_cache_path

    return user_cache_path("diffnag")
