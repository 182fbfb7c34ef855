"""Evaluation of a network in pieces of a batch, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from diffnag.guidance.choice import AFTER_THE_DRAW
from diffnag.io.memory import keep_freed_memory
from diffnag.io.threads import one_thread

PIECE = 256
"""Rows of a piece: on a CPU, activations of so many architectures stay in a core's cache."""


class Pieces:
    """Evaluates functions piece by piece: on a CPU, and without gradients.

    While it has the `cores`, a thread for each takes piece after piece. That is faster than all threads at one small operation after
    the other. The operations in between have one thread then, since waiting threads of theirs would take the cores away.
    """

    _threads = 1

    def __call__(self, evaluate: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`evaluate(x)` for rows `x (b, ...)` that do not depend on each other; `evaluate` gives a tensor with one row for each."""
        if x.device.type != "cpu" or torch.is_grad_enabled() or len(x) <= PIECE:
            return evaluate(x)
        pieces = x.split(PIECE)
        if self._threads == 1:
            return torch.cat([evaluate(piece) for piece in pieces])
        return torch.cat(list(_pool(self._threads).map(torch.no_grad()(evaluate), pieces)))

    @contextmanager
    def cores(self, rows: int, kind: str) -> Iterator[None]:
        """Use the cores for a draw of so many rows.

        A few rows have one thread, and many rows one for each piece, unless a predictor may need them during the draw: `kind` is its
        guidance.
        """
        keep_freed_memory()  # else operation after operation waits for new pages
        if rows > PIECE and kind not in AFTER_THE_DRAW:
            yield
            return
        with one_thread() as threads:
            self._threads = threads if rows > PIECE else 1
            try:
                yield
            finally:
                self._threads = 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "pieces", initializer=torch.set_num_threads, initargs=(1,))


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a forked process
