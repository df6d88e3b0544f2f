"""Make an environment with other order books beside ours, and measure ours against them there.

    python benchmarks/peers.py [arguments of book_levels.py]

The peers pin older libraries than ours, so they get a virtual environment of their own under ``var/``; it is
made once, from the package index.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "var" / "peers"
STAMP = ENVIRONMENT / ".installed"
PEERS = ("order-book", "hftbacktest", "orjson", "msgspec", "sortedcontainers")


def install() -> Path:
    """Return the environment's Python, with the peers and this package installed."""
    python = ENVIRONMENT / "bin" / "python"
    if not STAMP.exists():
        print(f"setting up {ENVIRONMENT.relative_to(ROOT)} ...", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEERS], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", str(ROOT)], check=True)
        STAMP.touch()
    return python


def main() -> None:
    command = [str(install()), str(ROOT / "benchmarks" / "book_levels.py"), *sys.argv[1:]]
    raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
