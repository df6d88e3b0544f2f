"""Cut the packaged sample from two longer recordings.

    python benchmarks/cut_sample.py FOLDER [--seconds 215]

``FOLDER`` holds ``usdm_BTCUSDT_20240808.ndlog.gz`` and ``usdm_ETHUSDT_20240808.ndlog.gz``. Every
depth update, trade and REST snapshot of the first ``--seconds`` is kept as recorded; of the best bid/ask
messages one in ten.
The output is the same, byte for byte, on every run with the same zlib.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

NAMES = ("usdm_BTCUSDT_20240808.ndlog.gz", "usdm_ETHUSDT_20240808.ndlog.gz")
TARGET = Path(__file__).parent.parent / "src/bookrunner/venues/simulated/sample"
QUOTES_KEPT_ONE_IN = 10
BUDGET_BYTES = 3_000_000


def cut(source: Path, seconds: float) -> tuple[bytes, dict[str, int]]:
    """Return the compressed cut and the count of lines kept by kind."""
    kept: list[bytes] = []
    counts = {"depth": 0, "trade": 0, "bookTicker": 0, "snapshot": 0}
    quotes = 0
    end_ns = 0
    with gzip.open(source, "rb") as lines:
        for line in lines:
            received_ns = int(line.partition(b" ")[0])
            end_ns = end_ns or received_ns + int(seconds * 1e9)
            if received_ns > end_ns:
                break
            head = line[:80]
            kind = next((name for name in counts if f"@{name}".encode() in head), "snapshot")
            if kind == "bookTicker":
                quotes += 1
                if quotes % QUOTES_KEPT_ONE_IN:
                    continue
            counts[kind] += 1
            kept.append(line)
    return gzip.compress(b"".join(kept), 9, mtime=0), counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=215.0)
    arguments = parser.parse_args()
    total = 0
    for name in NAMES:
        data, counts = cut(arguments.folder / name, arguments.seconds)
        total += len(data)
        (TARGET / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes, {counts}")
    assert total <= BUDGET_BYTES, f"{total} bytes is over the budget of {BUDGET_BYTES}"
    print(f"together {total} bytes")


if __name__ == "__main__":
    main()
