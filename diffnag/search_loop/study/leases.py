"""Which workers are alive.

Optuna's heartbeat covers neither ask and tell nor journal files. So an attempt carries leases of our own, in attributes. A worker that
wants an attempt bids for it by a lease, and while it holds the attempt it counts the lease up every `RENEWED` seconds. Other workers only
compare what they have seen: leases that did not change for `PATIENCE` seconds of their own monotonic clock are those of a dead
worker. So the clocks of machines need not agree. The assumption is that a living worker reaches the storage once in `PATIENCE`
seconds. A worker that does not loses its attempt, and learns so when it is back.

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

from diffnag.io.files import take_lock

RENEWED = 10.0
"""Seconds between two renewals of a lease."""
PATIENCE = 60.0
"""Seconds without a change after which a lease counts as that of a dead worker."""
SWEPT = 24 * 3600.0
"""Age in seconds at which the file of a dead worker is deleted."""
PREFIX = "lease "
"""Begins the attribute that holds a worker's lease."""


class Worker:
    """This process as a worker; `close` it at the end. With `known`, other processes of this machine can see whether it lives."""

    def __init__(self, *, known: bool) -> None:
        self.id = uuid.uuid4().hex
        self._handle = _hold(_file_of(self.id)) if known else None

    @property
    def lease(self) -> str:
        """The attribute of an attempt that holds this worker's lease."""
        return PREFIX + self.id

    def close(self, *, forgotten: bool = True) -> None:
        """Show the others that this worker has ended; `forgotten`: it has left no attempt that they must find abandoned."""
        if self._handle is not None:
            if forgotten:
                _file_of(self.id).unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


@contextmanager
def buried(worker: str) -> Iterator[bool]:
    """Yield whether the worker with this id ran on this machine and has died; False if that cannot be known.

    Within the block no other process finds it dead.
    """
    try:
        handle = os.open(_file_of(worker), os.O_RDWR)
    except OSError:
        yield False  # it is of another machine, or ended long ago
        return
    try:
        yield take_lock(handle, wait=False)
    finally:
        os.close(handle)


def is_dead(worker: str) -> bool:
    """Whether the worker with this id ran on this machine and has died."""
    with buried(worker) as dead:
        return dead


def leases(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Worker id -> count of its lease; a bid that was withdrawn is left out."""
    return {key.removeprefix(PREFIX): count for key, count in attributes.items() if key.startswith(PREFIX) and count is not None}


class Watch:
    """What this worker has seen of other workers' leases."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[dict[str, int], float]] = {}

    def abandoned(self, trial: int, held: dict[str, int]) -> bool:
        """Whether no worker that holds a lease on the trial is alive."""
        now = time.monotonic()
        before, since = self._seen.get(trial, (None, now))
        if before != held:
            self._seen[trial] = held, now
            since = now
        return now - since > PATIENCE or (bool(held) and all(map(is_dead, held)))


class Renewal:
    """A thread that renews the lease on the attempt that is held, by `renew(trial, count)`."""

    def __init__(self, renew: Callable[[int, int], object]) -> None:
        self._renew = renew
        self._trial: int | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, trial: int) -> None:
        """Renew the lease on this attempt from now on."""
        self._trial = trial
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """Renew no lease."""
        self._trial = None

    def close(self) -> None:
        """End the thread. A storage that does not answer is not waited for."""
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
                except Exception:  # finished meanwhile, taken away, or out of reach for now: `tell` will find out
                    continue


def _file_of(worker: str) -> Path:
    """The worker's file, in a folder of this machine and user: on a disk that machines share, a lock may not reach from one to another."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # a container's user may have a number and no name
    return Path(tempfile.gettempdir()) / f"diffnag-{user}" / f"{worker}.lock"


def _hold(path: Path) -> int | None:
    """Make the file and lock it; None if this machine has no such locks."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    if not take_lock(handle, wait=False):
        os.close(handle)
        path.unlink(missing_ok=True)
        return None
    return handle


def _sweep(folder: Path) -> None:
    """Delete the old files of dead workers."""
    for file in folder.glob("*.lock"):
        with suppress(FileNotFoundError):  # its worker has ended meanwhile
            if time.time() - file.stat().st_mtime > SWEPT and is_dead(file.stem):
                file.unlink()

