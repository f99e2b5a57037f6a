"""The C library's heap, from which tensors in main memory come: how much of what was freed the process keeps.

glibc raises the two sizes that decide this whenever a larger block than ever before is freed, and holds up to eight heaps for
each core, each with its own free space: so a process that frees everything still grows for hours, a step at a time
(mallopt(3), malloc_trim(3)). Here the sizes are from the beginning the largest that glibc would come to by itself, which costs
no speed; and what is free is given back when there is nothing to do. Where the C library has no such calls nothing happens.
"""

from __future__ import annotations

import ctypes

# mallopt(3): the parameters' numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

LARGEST_IN_HEAP = 32 << 20  # bytes: a larger block is mapped by itself and given back as soon as it is freed
KEPT_ON_TOP = 2 * LARGEST_IN_HEAP  # bytes that stay free at a heap's end
HEAPS = 4  # only one pass runs at a time; signing, previews and the reactor are the others


def settle() -> bool:
    """Set the sizes, once, before the process has many threads. False where the C library does not know them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    sizes = {_M_MMAP_THRESHOLD: LARGEST_IN_HEAP, _M_TRIM_THRESHOLD: KEPT_ON_TOP, _M_ARENA_MAX: HEAPS}
    taken = [mallopt(parameter, size) == 1 for parameter, size in sizes.items()]
    return all(taken)


def give_back() -> bool:
    """Give the heap's free pages back to the system. Whoever wants a block of the heap that is looked through waits: 10 to 30 ms
    for 150 MB that were free. Whether any was given back; False where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) == 1
