"""Compiles kernels into the disk cache, a line for each.

Without names, everything that is missing, by two processes of its own; with names, those, in this process.
"""

from __future__ import annotations

import asyncio
import sys

from bookrunner.app.kernel_cache import compile_missing


def main(names: list[str]) -> None:
    """Compile what is not in the cache yet."""
    if names:
        from bookrunner.kernels.warmup import warm_up

        warm_up(_say, only=set(names))
    else:
        asyncio.run(compile_missing(_say))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
