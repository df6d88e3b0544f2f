"""The compiler's pages leave the process, and come back when it is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import numba
import pytest

from bookrunner.app.compiler_pages import CODE, LIBRARY, _code_of, give_back_compiler

MAPS = """\
5600-5700 r-xp 00000000 fe:01 11   /usr/bin/python3
7f00-7f10 r--p 00000000 fe:01 12   /a path/libllvmlite.so
7f10-7f80 r-xp 00010000 fe:01 12   /a path/libllvmlite.so
7f80-7f90 rw-p 00080000 fe:01 12   /a path/libllvmlite.so
7fa0-7fb0 r-xp 00000000 fe:01 13   /libllvmlite/other.so
7fb0-7fc0 r-xp 00000000 00:00 0
7fff-8000 r-xp 00000000 00:00 0    [vdso]
"""


def test_only_the_code_of_the_library_is_meant() -> None:
    assert _code_of(MAPS, LIBRARY) == [(0x7F10, 0x7F80)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's map")
def test_the_pages_go_and_the_compiler_still_works() -> None:
    before_kb = resident_kb()
    assert before_kb > 0
    assert give_back_compiler() >= before_kb * 1024
    assert resident_kb() < before_kb / 2  # another thread of the compiler may have touched some again

    assert numba.njit(lambda number: 2 * number)(21) == 42


def resident_kb() -> int:
    """Of the compiler's code."""
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            counted = CODE in values and LIBRARY in line
        elif counted and name == "Rss:":
            total += int(values[0])
    return total
