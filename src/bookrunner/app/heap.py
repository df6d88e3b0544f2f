"""The C library's heap, kept from creeping."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
TRIM_BYTES = 1_048_576
"""Free memory at the end of the heap beyond this is given back at once."""
MMAP_BYTES = 262_144
"""From this size on a buffer is mapped by itself, and gone when it is freed."""


def keep_heap_flat() -> bool:
    """Fix the sizes from which freed memory is given back to the system.

    glibc raises them to the size of whatever was freed last, up to 32 MB. Buffers of megabytes (a segment
    that is compressed, a table that is encoded) then come from the heap, small things settle in the holes
    that they leave, and the heap creeps up by a megabyte with every segment.

    Returns:
        Whether the C library took them; others than glibc have no such parameters, or no such habit.
    """
    if sys.platform != "linux":
        return False
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is None:
        return False
    return bool(set_parameter(M_TRIM_THRESHOLD, TRIM_BYTES) and set_parameter(M_MMAP_THRESHOLD, MMAP_BYTES))
