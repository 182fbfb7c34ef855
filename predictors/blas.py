"""Number of threads of the linear algebra of numpy and scipy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Context in which the BLAS of numpy and scipy uses one thread; torch keeps its threads.

    It is meant for the small matrices of few labels: there, several threads mostly wait for each other, and when they are done they
    spin for a while on cores that torch's threads need.
    """
    return _libraries().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """Controller of the thread pools, found once."""
    import scipy.linalg  # noqa: F401 - numpy and scipy each bring a BLAS, and only libraries that are loaded are found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
