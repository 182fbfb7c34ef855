"""More workers on this machine: processes that work on the same study as the process that starts them, and end with it."""

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
"""Seconds that a worker has to give back what it evaluates after it was asked to stop."""


class Helpers:
    """Processes that work on one study. Use it in a `with` statement, at whose end those that are left are stopped.

    They print nothing; their labels are in the study.

    Args:
        count: Number of processes.
        options: What is searched for, and how.
        storage: Where the study is kept.
        name: The name of the study.
        threads: Threads of each process.
    """

    def __init__(self, count: int, options: SearchOptions, *, storage: str, name: str, threads: int) -> None:
        self._count, self._about = count, (options, storage, name, threads)
        self._processes: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        with _deaf_to_ctrl_c():
            for _ in range(self._count):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(*self._about, sender), daemon=True)
                self._processes.append((process, receiver))
                process.start()
                sender.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process, _ in self._processes:
            process.terminate()  # for those at work it is Ctrl-C, for others the end
        for process, receiver in self._processes:
            process.join(STOP_S)
            process.kill()
            process.join()
            receiver.close()

    def wait(self, *, at_work: bool, on_note: Callable[[str], object]) -> None:
        """Wait until the processes have found that nothing is left to do; `on_note` is called for each that failed.

        If nobody is `at_work`, nobody is waited for: a process that has just started would load everything only to find that it is too late.
        """
        for process, receiver in self._processes:
            if at_work:
                process.join()
            if process.exitcode is None:
                continue
            try:
                on_note(f"a worker has ended: {receiver.recv()}")
            except EOFError:  # it has sent nothing
                if process.exitcode:
                    on_note(f"a worker has ended with exit code {process.exitcode}; what it evaluated was given to another")


def threads_each(workers: int) -> int:
    """Threads of each worker if so many share the cores of this machine, or the threads that the user has allowed."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores // workers))


def use_threads(threads: int) -> None:
    """Set the threads of this process, for networks and linear algebra."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Block Ctrl-C for the processes that are started within: a terminal sends it to all, and the first process stops its workers.

    They inherit that it is blocked. In this process it waits until the end of the block.
    """
    resource_tracker.ensure_running()  # the start of the first process would start it, and unblock
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(options: SearchOptions, storage: str, name: str, threads: int, sender: Connection) -> None:
    """The life of one worker. A signal ends it at once before everything is loaded and after all is done, when it holds nothing."""
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
        sender.send(str(error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_with_parent() -> None:
    """Wait, in a thread of a worker, for the end of the parent, and end the worker: a killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
