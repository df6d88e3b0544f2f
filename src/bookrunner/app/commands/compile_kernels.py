"""Compiles the kernels named on the command line into the disk cache; without names, all."""

from __future__ import annotations

import sys


def main() -> None:
    """Compile what is not in the cache yet."""
    from bookrunner.kernels.warmup import names, warm_up

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    warm_up(say, only=set(sys.argv[1:]) or set(names()))


if __name__ == "__main__":
    main()
