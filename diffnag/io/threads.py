"""Threads of torch for small work, and for the steps of a training.

Operations of some microseconds gain little from a second thread on an idle machine. Where other programs are busy, each of them waits
until the other thread has its turn, and the work takes many times as long.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

FEW = 512
"""Rows up to which work is small."""
SHORT_S = 0.03
"""Seconds of one core: a step that takes less keeps one thread."""
SLOWER, STRIKES = 1.5, 3
"""How much longer than with one thread a step may take with all of them, and how many in a row may take longer."""


@contextmanager
def one_thread() -> Iterator[int]:
    """Use one thread; yields how many there were before, and are afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def threads_for(rows: int) -> AbstractContextManager[object]:
    """Context that gives work on so many rows one thread if they are few, else as many as before."""
    return one_thread() if rows <= FEW else nullcontext()


class StepThreads:
    """Chooses the threads for the steps of a training on processors: all of them where a step is long, and as long as that pays.

    The first steps have one thread, and short steps keep it. Use it as a context around the training, and `step` around each step.
    """

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._open = self._threads > 1
        self._first: list[tuple[float, float]] = []
        self._strikes = 0

    def __enter__(self) -> StepThreads:
        if self._open:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step of the training."""
        wall, own = time.monotonic(), time.thread_time()
        yield
        self.took(time.monotonic() - wall, time.thread_time() - own)

    def took(self, wall_s: float, own_s: float) -> None:
        """Take note of a step: its seconds, and those of this thread, which do not depend on what else the machine does."""
        if not self._open:
            return
        if len(self._first) < 3:  # one that warms up, and two
            self._first.append((wall_s, own_s))
            if len(self._first) == 3:
                self._open = min(own for _, own in self._first[1:]) >= SHORT_S
                torch.set_num_threads(self._threads if self._open else 1)
            return
        alone = max(wall for wall, _ in self._first[1:])
        self._strikes = self._strikes + 1 if wall_s > SLOWER * alone else 0
        if self._strikes == STRIKES:
            self._open = False
            torch.set_num_threads(1)
