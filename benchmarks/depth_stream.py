"""Depth frames to measure with, recorded and synthetic ones, and how to time contestants."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[1]
RECORDING = "usdm_BTCUSDT_20240808.ndlog.gz"
FOLDERS = (ROOT.parent / "shared/data/ws/binance", ROOT / "src/bookrunner/venues/simulated/sample")
TICK, LOT = "0.1", "0.001"
MIDDLE_TICKS = 618_000
Levels = list[tuple[int, int]]


@dataclass(frozen=True)
class Stream:
    """A snapshot and the frames that follow it, each of which is due."""

    name: str
    last_update_id: int
    bids: Levels
    asks: Levels
    frames: list[bytes]

    def describe(self) -> dict[str, float]:
        """Say how long the frames are."""
        levels = [len(data["b"]) + len(data["a"]) for data in map(payload, self.frames)]
        return {
            "frames": len(self.frames),
            "bytes_mean": round(sum(map(len, self.frames)) / len(self.frames), 1),
            "levels_mean": round(sum(levels) / len(levels), 1),
        }


@dataclass(frozen=True)
class LevelBatch:
    """The levels of a stream as arrays: message i ends before ``ends[i]``, its first ``bids[i]`` are bids."""

    ends: npt.NDArray[np.int64]
    bids: npt.NDArray[np.int64]
    ticks: npt.NDArray[np.int64]
    lots: npt.NDArray[np.int64]


def payload(frame: bytes) -> dict[str, list[list[str]]]:
    data: dict[str, list[list[str]]] = json.loads(frame)["data"]
    return data


def to_levels(levels: list[list[str]]) -> Levels:
    return [(round(float(price) * 10), round(float(quantity) * 1000)) for price, quantity in levels]


def recorded() -> Stream:
    """The whole recording where it is at hand, else the packaged cut of it."""
    path = next(folder / RECORDING for folder in FOLDERS if (folder / RECORDING).exists())
    frames, snapshot = [], None
    with gzip.open(path) as lines:
        for line in lines:
            frame = line.split(b" ", 1)[1].rstrip()
            if frame.startswith(b'{"stream":"btcusdt@depth'):
                frames.append(frame)
            elif snapshot is None and b'"lastUpdateId"' in frame[:100]:
                snapshot = json.loads(frame)
    assert snapshot is not None
    last = snapshot["lastUpdateId"]
    due = [frame for frame in frames if json.loads(frame)["data"]["u"] >= last]
    return Stream(
        f"recorded {path.stem}", last, to_levels(snapshot["bids"]), to_levels(snapshot["asks"]), due
    )


def synthetic(count: int = 5_000, seed: int = 7) -> Stream:
    """Frames of some 740 bytes and 28 levels about a wandering mid; a third of the levels are deletions."""
    dice = random.Random(seed)  # noqa: S311 - a market, not a secret
    middle = MIDDLE_TICKS
    bids = [(middle - 1 - i, 5) for i in range(1000)]
    asks = [(middle + 1 + i, 5) for i in range(1000)]
    frames = []
    for number in range(count):
        middle += dice.choice((-1, 0, 0, 1))
        sides = []
        for sign in (-1, 1):
            ticks = {middle + sign * (1 + int(dice.expovariate(0.02))) for _ in range(12)}
            crossed = {middle - sign * offset for offset in range(2)}
            levels = [(tick, dice.randrange(10_000) * dice.choice((0, 1, 1))) for tick in ticks]
            levels += [(tick, 0) for tick in crossed]
            texts = (
                f'["{tick // 10}.{tick % 10}0","{lots / 1000:.3f}"]' for tick, lots in sorted(levels)[:14]
            )
            sides.append(",".join(texts))
        first, last = 10 * number + 2, 10 * number + 10
        time_ms = 1_723_161_256_299 + 20 * number
        frames.append(
            f'{{"stream":"btcusdt@depth@0ms","data":{{"e":"depthUpdate","E":{time_ms},"T":{time_ms - 1},'
            f'"s":"BTCUSDT","U":{5_123_107_800_000 + first},"u":{5_123_107_800_000 + last},'
            f'"pu":{5_123_107_800_000 + last - 10},"b":[{sides[0]}],"a":[{sides[1]}]}}}}'.encode()
        )
    return Stream("synthetic", 5_123_107_800_000, bids, asks, frames)


def level_batch(stream: Stream) -> LevelBatch:
    """All levels of a stream as arrays."""
    messages = [(to_levels(data["b"]), to_levels(data["a"])) for data in map(payload, stream.frames)]
    table = np.array([level for bids, asks in messages for level in (*bids, *asks)], np.int64)
    counts = [len(bids) + len(asks) for bids, asks in messages]
    return LevelBatch(
        np.cumsum(counts).astype(np.int64),
        np.array([len(bids) for bids, _ in messages], np.int64),
        np.ascontiguousarray(table[:, 0]),
        np.ascontiguousarray(table[:, 1]),
    )


def final_book(stream: Stream) -> tuple[Levels, Levels]:
    """The book after all frames, by dicts: bids and asks, best first."""
    sides = (dict(stream.bids), dict(stream.asks))
    for data in map(payload, stream.frames):
        for side, key in zip(sides, ("b", "a"), strict=True):
            for tick, lots in to_levels(data[key]):
                side.pop(tick, None)
                if lots:
                    side[tick] = lots
    return sorted(sides[0].items(), reverse=True), sorted(sides[1].items())


def alternate(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run contestants in turn, so that a change of the machine's mood hits all; seconds of each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            seconds[name].append(run())
    return seconds


def timed(run: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(seconds: dict[str, list[float]], of: str, to: str) -> float:
    """Median over the rounds of one contestant's time relative to another's."""
    return median(one / other for one, other in zip(seconds[of], seconds[to], strict=True))
