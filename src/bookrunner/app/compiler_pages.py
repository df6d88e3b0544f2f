"""The compiler's pages, given back to the system once every kernel is loaded.

numba brings LLVM, of which loading cached kernels touches some fifty megabytes of machine code that never run
again. They count as resident memory of this process for as long as it lives. They are a file's pages, never
written to, so dropping them loses nothing: should LLVM run again, they are read again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path

import structlog

LIBRARY = "libllvmlite"
CODE = "r-xp"
"""Private, executable, not writable: such pages are the file's own. Others may hold relocated addresses."""
MAPS = Path("/proc/self/maps")

log = structlog.get_logger(__name__)


def give_back_compiler() -> int:
    """Drop the compiler's code from this process's memory; a few milliseconds, best off the loop.

    Returns:
        How many bytes are mapped that were dropped; 0 where the system cannot.
    """
    if sys.platform != "linux":
        return 0
    advise = ctypes.CDLL(None, use_errno=True).madvise
    given_bytes = 0
    for start, end in _code_of(MAPS.read_text(encoding="utf-8"), LIBRARY):
        if advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED):
            log.warning("compiler_pages_kept", reason=os.strerror(ctypes.get_errno()))
        else:
            given_bytes += end - start
    return given_bytes


def _code_of(maps: str, library: str) -> list[tuple[int, int]]:
    """Return the address ranges of a library's code; ``maps`` is as in proc_pid_maps(5)."""
    ranges = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) > 5 and fields[1] == CODE and library in Path(fields[5]).name:  # noqa: PLR2004 - the path
            start, _, end = fields[0].partition("-")
            ranges.append((int(start, 16), int(end, 16)))
    return ranges
