"""What the C library's allocator does with memory that is freed: kept within a phase, given back after it.

Every step of a training frees what the next one asks for again. By default glibc returns the larger pieces to the
system at once and gets them back page by page, zeroed: a fifth of the time of a small model's step on a CPU.
"""

import ctypes
import gc
import sys
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # <malloc.h>
LARGE = 32 << 20
"""Bytes from which on a piece is mapped, and unmapped, by itself: the most that glibc allows."""


def keep_freed_memory() -> None:
    """Let the process keep what it frees, up to pieces of 32 MiB each. Without glibc: nothing."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, LARGE)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give what has been freed back to the system; left alone, the allocator of Linux would keep it, in pieces."""
    gc.collect()
    trim = getattr(_libc(), "malloc_trim", None)
    if trim:
        trim(0)


def _libc() -> Any:
    """The C library, None where it is not Linux's; others than glibc (musl) lack the two functions."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None
