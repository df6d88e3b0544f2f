"""Large buffers stay out of the heap, whatever was freed before."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from bookrunner.app.heap import MMAP_BYTES

SCRIPT = """
import ctypes, sys
import numpy as np
from bookrunner.app.heap import MMAP_BYTES, keep_heap_flat

class Usage(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                ("arena", "ordblks", "smblks", "hblks", "mapped", "e", "f", "g", "h", "i")]

usage = ctypes.CDLL(None).mallinfo2
usage.restype = Usage
if sys.argv[1] == "flat":
    assert keep_heap_flat()
freed = np.empty(16 * 2**20, np.uint8)
del freed
before = usage().mapped
kept = np.empty(2 * MMAP_BYTES, np.uint8)
print(usage().mapped - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc"
)
@pytest.mark.parametrize(("how", "by_itself"), [("flat", True), ("as it comes", False)])
def test_a_large_buffer_is_mapped_by_itself(how: str, *, by_itself: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) >= 2 * MMAP_BYTES) == by_itself
