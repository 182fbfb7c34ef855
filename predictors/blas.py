"""How many threads numpy's linear algebra takes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Within it numpy's and scipy's BLAS has one thread, torch as many as before.

    For the small matrices of few labels: more threads wait for each other, and when done spin for a while in the way of torch's.
    """
    return _libraries().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - numpy and scipy each bring a BLAS, and only what is loaded is found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
