"""Threads of torch for small work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW = 512
"""Rows up to which work is small."""


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Give work on so many rows one thread if they are few, else as many as before.

    Operations of some microseconds gain little from a second thread on an idle machine. Where other programs are busy, each of them
    waits until the other thread has its turn, and the work takes several times as long.
    """
    threads = torch.get_num_threads()
    if rows <= FEW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
