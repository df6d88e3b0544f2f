"""Start-up: from process start to the first live book, of the real command against a running simulator.

    python benchmarks/startup.py [--runs 5] [--json]

``bookrunner run`` is started as a user starts it, with journal, recorder, fan-out and API on; the clock stops
when its log says that the first book is live, which is after the first update was applied. Cached: compiled
kernels are on disk. Uncached: an empty cache folder; every kernel is compiled, progress lines are counted.
Bars: cached 0.6 s, uncached 6 s with a progress line.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

CACHED_BAR_S = 0.6
UNCACHED_BAR_S = 6.0
FIRST_BOOK = "first_book_live"
COMPILING = "compiling kernel"
GIVE_UP_S = 120
IMPORTS = ("numba", "picows", "structlog", "typer", "bookrunner.app.cli", "bookrunner.app.build")


@contextmanager
def simulator(folder: Path) -> Iterator[Path]:
    """Run the venue simulator and yield a settings file that points at it."""
    command = [sys.executable, "-m", "bookrunner.app.commands.venue", "--port=0", "--rest-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            venue = f'enabled = true\nwebsocket_url = "{ready["ws"]}"\nrest_url = "{ready["rest"]}"\n'
            config = folder / "bookrunner.toml"
            config.write_text(
                f'[venues.binance_usdm]\nsymbols = ["BTCUSDT", "ETHUSDT"]\n{venue}'
                f'[venues.bybit_linear]\nsymbols = ["BTCUSDT", "ETHUSDT"]\n{venue}'
                f'[journal]\npath = "{folder}/journal"\n'
                f'[recorder]\npath = "{folder}/catalogue"\nspool_path = "{folder}/spool"\n'
                '[fanout]\nport = 0\n[api]\nport = 0\n[logging]\nformat = "json"\n'
            )
            yield config
        finally:
            process.terminate()


def start(config: Path, cache: Path | None) -> tuple[float, int]:
    """Start the command once; return seconds to the first live book, and the count of progress lines."""
    environment = dict(os.environ)
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    command = [str(Path(sys.executable).parent / "bookrunner"), "run", "--config", str(config)]
    started = time.perf_counter()
    compiled = 0
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=config.parent,
    ) as process:
        assert process.stderr is not None
        seconds = None
        for line in process.stderr:
            compiled += COMPILING in line
            if FIRST_BOOK in line:
                seconds = time.perf_counter() - started
                break
            if time.perf_counter() - started > GIVE_UP_S:
                break
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    if seconds is None:
        raise SystemExit("no book became live; run the command by hand to see why")
    return seconds, compiled


def import_ms(module: str, runs: int) -> float:
    """Return the best time to import a module in a fresh interpreter, less the interpreter's own."""

    def best(program: str) -> float:
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    return 1_000 * (best(f"import {module}") - best("pass"))


def measure(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with simulator(folder) as config:
            start(config, None)  # fills the cache where it is empty
            cached = [start(config, None)[0] for _ in range(runs)]
            uncached, compiled = start(config, folder / "empty-cache")
    return {
        "cached_s": {
            "best": min(cached),
            "median": median(cached),
            "worst": max(cached),
            "bar": CACHED_BAR_S,
        },
        "uncached_s": {"once": uncached, "bar": UNCACHED_BAR_S, "progress_lines": compiled},
        "import_ms": {module: round(import_ms(module, runs), 1) for module in IMPORTS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.runs)
    if arguments.json:
        print(json.dumps(figures))
        return
    cached, uncached = figures["cached_s"], figures["uncached_s"]
    print(
        f"start to first live book, cached: best {cached['best']:.3f} s, median {cached['median']:.3f} s, "
        f"worst {cached['worst']:.3f} s of {arguments.runs} (bar {CACHED_BAR_S} s)"
    )
    print(
        f"kernels compiled: {uncached['once']:.2f} s with {uncached['progress_lines']} progress lines "
        f"(bar {UNCACHED_BAR_S} s)"
    )
    print("imports alone: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in figures["import_ms"].items()))


if __name__ == "__main__":
    main()
