"""Searches in several processes, one core each."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from diffnag.search_loop.workers import end_with_parent
from experiments.shared.common import one_thread


def in_pool(run: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], *, workers: int) -> Iterator[tuple[int, Any]]:
    """Call `run` with the arguments of each job; yield the number of each job and its result as soon as it ends."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes, which inherit it
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin) as pool:
        places = {pool.submit(run, *job): number for number, job in enumerate(jobs)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _begin() -> None:
    """Set up a process so that Ctrl-C, or the end of its parent, ends it silently; the next run repeats its unfinished search."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    one_thread()


def seeds_argument(text: str) -> range:
    """Argparse type: `0:100`, or one number."""
    first, colon, last = text.partition(":")
    try:
        seeds = range(int(first), int(last) if colon else int(first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of seeds such as 0:100")
    return seeds


def known_names(kind: str, asked: Iterable[str] | None, known: Iterable[str]) -> tuple[str, ...]:
    """The names that are asked for, or all; raises `UserError` for an unknown one."""
    from diffnag.errors import unknown

    known = tuple(known)
    for name in asked or ():
        if name not in known:
            raise unknown(kind, name, known)
    return tuple(dict.fromkeys(asked or known))
