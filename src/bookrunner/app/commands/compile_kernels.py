"""Compiles kernels into the disk cache, a line for each.

Without names, everything that is missing, by two processes of its own; with names, those, in this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys

from bookrunner.app.kernel_cache import compile_missing

_PR_SET_PDEATHSIG = 1


def main(names: list[str]) -> None:
    """Compile what is not in the cache yet."""
    if names:
        _end_with_parent()
        from bookrunner.kernels.warmup import warm_up

        warm_up(_say, only=set(names))
    else:
        asyncio.run(compile_missing(_say))


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
