"""More workers on this machine: processes that work on the study of the one that starts them, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from diffnag.command.interrupts import interrupt, none_lost
from diffnag.errors import UserError
from diffnag.search_loop.options import SearchOptions

STOP_S = 1.0
"""Seconds that a worker which is told to stop has to give back what it evaluates."""


class Helpers:
    """`count` processes which search by `options` in the study `name` of `storage`. Use it in a `with` statement.

    They say nothing; their labels are in the study. At the end of the block those that are left are stopped.
    """

    def __init__(self, count: int, options: SearchOptions, *, storage: str, name: str, threads: int) -> None:
        self._count, self._about = count, (options, storage, name, threads)
        self._processes: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        with _deaf_to_ctrl_c():
            for _ in range(self._count):
                told, telling = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(*self._about, telling), daemon=True)
                self._processes.append((process, told))
                process.start()
                telling.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process, _ in self._processes:
            process.terminate()  # which those at work take as Ctrl-C, and others as their end
        for process, told in self._processes:
            process.join(STOP_S)
            process.kill()
            process.join()
            told.close()

    def wait(self, *, at_work: bool, on_note: Callable[[str], object]) -> None:
        """Until those that are `at_work` have found that nothing is left to do; `on_note` is told of those that failed.

        Where nobody is, nobody is waited for: one that has just started would load all there is to find that it came too late.
        """
        for process, told in self._processes:
            if at_work:
                process.join()
            if process.exitcode is None:
                continue
            try:
                on_note(f"a worker has ended: {told.recv()}")
            except EOFError:  # it has said nothing
                if process.exitcode:
                    on_note(f"a worker has ended with exit code {process.exitcode}; what it evaluated was given to another")


def threads_each(workers: int) -> int:
    """Threads of each of so many workers, which share the cores of this machine, or those that the user left to one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores // workers))


def use_threads(threads: int) -> None:
    """Of this process, for networks and linear algebra."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started in here never hear of it: a terminal tells all at once, and it is for the first to stop its workers.

    They inherit that it is blocked. Here it waits until the end of the block.
    """
    resource_tracker.ensure_running()  # which the first process would start, and that unblocks
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(options: SearchOptions, storage: str, name: str, threads: int, told: Connection) -> None:
    """The life of one worker. Before it has loaded what it needs and when all is done it holds nothing, and a signal just ends it."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        from diffnag.search_loop.loop import Search

        with Search(options, storage=storage, name=name) as search:
            signal.signal(signal.SIGTERM, interrupt)
            use_threads(threads)
            with none_lost(signal.SIGTERM):
                search.work()
    except KeyboardInterrupt:
        pass
    except UserError as error:
        told.send(str(error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_with_parent() -> None:
    """In a thread of a worker: who is killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
