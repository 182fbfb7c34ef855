"""Who works on a study, and whether it still does.

Optuna's heartbeat covers neither ask and tell nor journal files, so a trial under evaluation carries leases of our own, in
attributes: a worker that wants the trial bids for it by one, and while it holds it counts the lease up every `RENEWED`
seconds. The others compare nothing but what they have seen: leases that none of them saw change for `PATIENCE` seconds of
its own monotonic clock are those of a dead worker. So machines' clocks need not agree; what is assumed is that a living
worker reaches the storage once in `PATIENCE`. One that does not loses its trial and is told so when it is back.

On one machine nobody waits: every worker holds a lock on a file, and the kernel releases it whatever the worker dies of.
"""

from __future__ import annotations

import getpass
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

RENEWED = 10.0
PATIENCE = 60.0
SWEPT = 24 * 3600.0
"""Age in seconds at which the file of a dead worker is cleared away."""
PREFIX = "lease "


class Worker:
    """This process among those that work on a study, `known` to the others of this machine; `close` it at the end."""

    def __init__(self, *, known: bool) -> None:
        self.id = uuid.uuid4().hex
        self._handle = _hold(_file_of(self.id)) if known else None

    @property
    def lease(self) -> str:
        """The attribute of a trial in which this worker's lease stands."""
        return PREFIX + self.id

    def close(self, *, forgotten: bool = True) -> None:
        """Let the others know that this worker has ended; `forgotten` where it has left no trial of which they must know."""
        if self._handle is not None:
            if forgotten:
                _file_of(self.id).unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


@contextmanager
def buried(worker: str) -> Iterator[bool]:
    """Whether the worker of this id ran on this machine and has died; False where that cannot be known.

    In the block that may be acted upon: no other process finds it dead at the same time.
    """
    try:
        handle = os.open(_file_of(worker), os.O_RDWR)
    except OSError:
        yield False  # of another machine, or long gone
        return
    try:
        yield _locked(handle)
    finally:
        os.close(handle)


def is_dead(worker: str) -> bool:
    """As `buried`, to be told only."""
    with buried(worker) as dead:
        return dead


def leases(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Count by worker id; a bid that was withdrawn is none."""
    return {key.removeprefix(PREFIX): count for key, count in attributes.items() if key.startswith(PREFIX) and count is not None}


class Watch:
    """What this worker has seen of the others' leases."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[dict[str, int], float]] = {}

    def abandoned(self, trial: int, held: dict[str, int]) -> bool:
        """Whether nobody who has a lease on the trial lives."""
        now = time.monotonic()
        before, since = self._seen.get(trial, (None, now))
        if before != held:
            self._seen[trial] = held, now
            since = now
        return now - since > PATIENCE or (bool(held) and all(map(is_dead, held)))


class Renewal:
    """A thread that counts up the lease on the trial which is held, by `renew(trial, count)`."""

    def __init__(self, renew: Callable[[int, int], object]) -> None:
        self._renew = renew
        self._trial: int | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, trial: int) -> None:
        """Renew the lease on this trial from now on."""
        self._trial = trial
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """Renew nothing."""
        self._trial = None

    def close(self) -> None:
        """End the thread, without waiting for a storage that does not answer."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        count = 0
        while not self._over.wait(RENEWED):
            if (trial := self._trial) is not None:
                count += 1
                try:
                    self._renew(trial, count)
                except Exception:  # finished meanwhile, taken away, or out of reach for now: whoever tells the outcome learns of it
                    continue


def _file_of(worker: str) -> Path:
    """Of this machine and user: on a disk that machines share, a lock may not reach from one to the other."""
    return Path(tempfile.gettempdir()) / f"diffnag-{getpass.getuser()}" / f"{worker}.lock"


def _hold(path: Path) -> int | None:
    """Make the file and lock it; None where this machine offers no such thing."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    if not _locked(handle):
        os.close(handle)
        path.unlink(missing_ok=True)
        return None
    return handle


def _sweep(folder: Path) -> None:
    """Clear away the old files of the dead."""
    for file in folder.glob("*.lock"):
        with suppress(FileNotFoundError):  # its worker has ended meanwhile
            if time.time() - file.stat().st_mtime > SWEPT and is_dead(file.stem):
                file.unlink()


def _locked(handle: int) -> bool:
    """Take the lock of a file, without waiting."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows has no such lock
        return False
    return True
