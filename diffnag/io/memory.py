"""Keeps the memory that tensors free, for networks on processors."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt` (malloc.h of the GNU C library)."""
LARGE = 2**30
"""Bytes: smaller blocks come from the heap, and as many free ones may stay there."""


@cache
def keep_freed_memory() -> None:
    """Let the C library reuse the memory of large tensors.

    By default it gives blocks of 32 MB and more back to the system as soon as they are free, and smaller ones once there is twice as much
    as the largest of them. It gets new ones page by page: at 224 pixels a side that takes as long as the arithmetic. Where there is no GNU C
    library this does nothing.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):  # other libraries have the function, and ignore or refuse it
        library.mallopt(MMAP_THRESHOLD, LARGE)
        library.mallopt(TRIM_THRESHOLD, LARGE)
