"""The journal file of Optuna, made safe from workers that die while they write."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend

from diffnag.search_loop.study.leases import buried

STALE_S = 30.0
"""Seconds without a change after which a lock counts as that of a dead worker, on whatever machine."""


class JournalFile(JournalFileBackend):
    """A journal whose lock names its holder, so that the lock of a dead worker is released at once.

    With Optuna's own lock every worker would wait 30 s. A line that a dying worker has left unfinished is cut off before the next
    is written: Optuna would write on behind it, and could read neither. Only what begins or ends a trial waits for the disk, together
    with all that was written before: a power cut then costs no finished evaluation. As in Optuna, the lock is a symbolic link, which exists
    on file systems that machines share.

    Args:
        path: The file; it must be a journal or new, see `open_storage`.
        worker: The id of this worker.
    """

    def __init__(self, path: str, *, worker: str) -> None:
        self._lock_path, self._worker = f"{path}.lock", worker
        super().__init__(path)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """See `JournalFileBackend`."""
        with _answering():
            yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """See `JournalFileBackend`."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with _answering(), self._held(), open(self._file_path, "r+b") as file:
            file.truncate(file.seek(_whole(file)))
            file.write(lines.encode())
            file.flush()
            if any("state" in log for log in logs):
                os.fsync(file.fileno())

    @contextmanager
    def _held(self) -> Iterator[None]:
        seen, since, pause = "", time.monotonic(), 0.001
        while True:
            try:
                os.symlink(self._worker, self._lock_path)
                break
            except FileExistsError:
                holder = self._holder()
            if holder == self._worker:
                break  # an interrupt has kept this worker from releasing it
            if holder != seen:
                seen, since = holder, time.monotonic()
            with buried(holder) as dead:
                if dead or time.monotonic() - since > STALE_S:
                    self._release(holder)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        try:
            yield
        finally:
            self._release(self._worker)

    def _holder(self) -> str:
        try:
            return os.readlink(self._lock_path)
        except FileNotFoundError:
            return ""

    def _release(self, holder: str) -> None:
        if self._holder() == holder:
            Path(self._lock_path).unlink(missing_ok=True)


def _whole(file: BinaryIO) -> int:
    """The position behind the last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(end - 4096, 0)
        file.seek(begin)
        if (at := file.read(end - begin).rfind(b"\n")) >= 0:
            return begin + at + 1
        end = begin
    return 0


@contextmanager
def _answering() -> Iterator[None]:
    """Raise what a database raises where a file cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise StorageInternalError(str(error)) from error
