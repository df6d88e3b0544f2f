"""Run every benchmark and print one table, with the conditions it was made under.

    python benchmarks/run_all.py [--only NAME …] [--write]

A benchmark is a script in this folder that takes ``--json`` and then prints one JSON object as its last line.
``--write`` also puts the figures into docs/benchmarks.md, between its markers.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, SystemClock

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parent / "docs" / "benchmarks.md"
OPENING, CLOSING = "<!-- figures -->", "<!-- /figures -->"
TIMEOUT_S = 900
LIST_ITEMS_SHOWN = 6


def benchmarks(only: list[str]) -> list[Path]:
    """Every script that can answer in JSON, by name."""
    scripts = sorted(path for path in FOLDER.glob("*.py") if path != Path(__file__))
    able = [path for path in scripts if '"--json"' in path.read_text(encoding="utf-8")]
    unknown = set(only) - {path.stem for path in able}
    if unknown:
        raise SystemExit(f"no such benchmark: {', '.join(sorted(unknown))}")
    return [path for path in able if not only or path.stem in only]


def conditions() -> dict[str, str]:
    """What the figures depend on."""
    import numba
    import numpy as np

    moment = time.gmtime(SystemClock().wall_ns() // NANOSECONDS_PER_SECOND)
    return {
        "date": time.strftime("%Y-%m-%d", moment),
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numba": str(numba.__version__),
        "numpy": np.__version__,
        "commit": commit(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def commit() -> str:
    command = ["git", "-C", str(FOLDER), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def measured(script: Path) -> dict[str, Any]:
    """Run one benchmark; its figures, or ``{"failed": why}``."""
    command = [sys.executable, str(script), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {TIMEOUT_S} s"}
    try:
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        complaints = done.stderr.strip().splitlines()
        return {"failed": complaints[-1] if complaints else f"exit code {done.returncode}"}
    return figures


def rows(figures: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested figures to (dotted name, text)."""
    if isinstance(figures, dict):
        for key, value in figures.items():
            yield from rows(value, f"{name}.{key}" if name else str(key))
    elif isinstance(figures, list):
        shown = ", ".join(text(value) for value in figures[:LIST_ITEMS_SHOWN])
        yield name, shown + (", …" if len(figures) > LIST_ITEMS_SHOWN else "")
    else:
        yield name, text(figures)


def text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    )


def purpose(script: Path) -> str:
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def page(given: dict[str, str], results: dict[Path, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [f"- {name}: {value}" for name, value in given.items()]
    for script, figures in results.items():
        lines += ["", f"## {script.stem}", "", purpose(script), ""]
        lines += [f"`python benchmarks/{script.name}`", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in rows(figures)]
    return "\n".join(lines)


def write(content: str) -> None:
    """Replace what is between the markers; make the page where there is none."""
    if DOCUMENT.exists():
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(OPENING)
        after = rest.partition(CLOSING)[2]
    else:
        before, after = "# Benchmarks\n\nMade by `make bench ARGS=--write`.\n\n", "\n"
    DOCUMENT.write_text(f"{before}{OPENING}\n{content}\n{CLOSING}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--write", action="store_true", help=f"also write {DOCUMENT.name}")
    arguments = parser.parse_args()
    given = conditions()
    for name, value in given.items():
        print(f"{name:12} {value}")
    results = {}
    for script in benchmarks(arguments.only):
        print(f"\n{script.stem}: {purpose(script)}", flush=True)
        results[script] = measured(script)
        for name, value in rows(results[script]):
            print(f"  {name:48} {value}")
    if arguments.write:
        write(page(given, results))
    if any("failed" in figures for figures in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
