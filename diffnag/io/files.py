"""Read and write files. They are written to a temporary name first and then moved into place. Also: the folders of the package's data."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.errors import UserError, in_a_line

if TYPE_CHECKING:
    import numpy as np

PRETRAINED = Path(__file__).parents[1] / "pretrained"
WRITING = ".diffnag-writing-"
"""Marks the name of a temporary file, which is locked while its writer lives."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of a disk that libraries report as something else."""


def check_writable(path: str | Path) -> None:
    """Raise `UserError` if `written_whole(path)` would raise it; meant for the beginning of long work. Makes no folder."""
    try:
        target = regular_target(path)
        with tempfile.TemporaryFile(dir=next(parent for parent in target.parents if parent.exists())):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def check_weights_place(path: Path) -> None:
    """`check_writable` for a file of weights; raises `UserError` for a name that does not end in .safetensors, which is what it will be."""
    check_writable(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path} is no name of a file of weights; it has to end in .safetensors")


def regular_target(path: str | Path) -> Path:
    """The file that writing to `path` changes, links followed; it need not exist yet.

    Raises `UserError` for a device, a pipe or a socket, and `OSError` for a folder: only regular files are written.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise UserError(f"cannot write {path}: it is a device, a pipe or a socket; accepted is the name of a regular or a new file")
    return target


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises `NotADirectoryError` if a file has its name."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; move it into place when the block ends without an error.

    A reader, or a run that resumes after a kill, sees the old file or the new one, never a part. A link keeps pointing to
    its file, which is replaced. Temporary files that killed writers of the same file have left are deleted. Raises
    `UserError` if the place cannot be written or the disk is full.
    """
    try:
        target = regular_target(path)
        make_folder(target.parent)
        _delete_left_over(target)
        handle, temporary = _new_temporary(target)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are not private
        os.replace(temporary, target)
    except UserError:
        raise
    except Exception as error:
        if (reason := _disk_error(error, temporary)) is None:
            raise
        raise UserError(f"cannot write {path}: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _new_temporary(target: Path) -> tuple[int | None, Path]:
    """A new file beside `target`, and the handle that keeps it locked; without locks there is no handle."""
    while True:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}{WRITING}", suffix=target.suffix)
        if not take_lock(handle):
            os.close(handle)
            return None, Path(name)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another writer found it before it was locked, and deleted it


def take_lock(handle: int, *, wait: bool = True) -> bool:
    """Try to lock an open file; returns whether it is locked. The system releases the lock when the process ends, also by a kill."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows and some file systems have no such lock
        return False
    return True


def _delete_left_over(target: Path) -> None:
    """Delete the temporary files of killed writers of `target`: those that nobody locks."""
    begin = f".{target.name}{WRITING}"
    with os.scandir(target.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(begin) and entry.is_file(follow_symlinks=False)]
    for name in names:
        if re.fullmatch(r"\w{8}", name.removeprefix(begin).removesuffix(target.suffix)) is None:
            continue
        with suppress(OSError):
            handle = os.open(target.parent / name, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if take_lock(handle, wait=False):
                    os.unlink(target.parent / name)
            finally:
                os.close(handle)


def _disk_error(error: BaseException, temporary: Path) -> str | None:
    """The reason why the file could not be written, or None if `error` has another cause.

    The message of safetensors has the number of the system's error. torch hides the error or drops it.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(number[1]))
    hidden: BaseException | None = error
    while hidden is not None:
        if isinstance(hidden, OSError) and hidden.errno in NO_ROOM:
            return hidden.strerror
        hidden = hidden.__cause__ or hidden.__context__
    if not any(part in str(error) for part in ("inline_container", "iostream")):  # the parts of torch that write
        return None
    try:
        with temporary.open("ab", buffering=0) as file:
            file.write(bytes(2**16))
    except OSError as found:
        return found.strerror
    return "the file ended before all was written"


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, whole or not at all; raises `ValueError` for NaN, which JSON does not have."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The arrays of these names in a `.npz` file; raises `UserError` for any other file, and if one is missing or pickled."""
    from diffnag.io.archives import open_npz

    expected = f"{', '.join(names[:-1])} and {names[-1]}"
    if not path.is_file():
        raise UserError(f"there is no file {path}; expected is an .npz file with {expected}")
    try:
        with open_npz(path, only=names) as arrays:
            return [arrays[name] for name in names]
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each fail in their own ways on another or a damaged file
        raise UserError(f"{path} is no .npz file with {expected}: {in_a_line(error)}") from error


def data_folder() -> Path | None:
    """The user's own data folder, `$DIFFNAG_DATA`, or None if it is not set."""
    folder = os.environ.get("DIFFNAG_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise UserError(f"$DIFFNAG_DATA names {folder!r}, which is not a folder")
    return Path(folder)


def cache_folder() -> Path:
    """The user's cache: `$DIFFNAG_CACHE` if set, else the platform's own place."""
    if folder := os.environ.get("DIFFNAG_CACHE"):
        return Path(folder)
    from platformdirs import user_cache_path

    return user_cache_path("diffnag")
