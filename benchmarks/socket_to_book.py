"""Socket to book: what lies between a frame on a loopback socket and the book that it changed.

1. Ratio (S4): the same frames and the same callback (one compiled call: scan, sequence, apply) behind the
   product's WebSocket client on picows, and behind the ``websockets`` package. Both must reach the same book.
2. The live road at a fixed rate with the journal on: the product's own feed service, from the receive
   callback to the changed book.

The sender is a process of its own (``frame_sender.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import frame_sender
import msgspec
import structlog
import uvloop
import websockets

from bookrunner.core.clock import SystemClock
from bookrunner.core.enums import Channel
from bookrunner.engine.ports.transport import StreamClient, StreamListener
from bookrunner.engine.ports.venue_feed import ConnectionPlan, ConnectionPolicy, RestRequest
from bookrunner.kernels.warmup import warm_up
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import level_arrays
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.feeds import FeedService, FeedSettings
from bookrunner.services.market_stream import MarketStream
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_settings import JournalSettings
from bookrunner.venues.binance.feed import FEEDS
from bookrunner.venues.transport.websocket import WebSocketFactory

VENUE = "binance_usdm"
INSTRUMENTS = (
    b'{"symbols":[{"symbol":"BTCUSDT","baseAsset":"BTC","quoteAsset":"USDT","contractType":"PERPETUAL",'
    b'"status":"TRADING","filters":[{"filterType":"PRICE_FILTER","tickSize":"0.10"},'
    b'{"filterType":"LOT_SIZE","stepSize":"0.001"}]}]}'
)
P50_BAR_US = 20.0
P99_BAR_US = 100.0
RATIO_BAR = 3.0


def dice() -> random.Random:
    return random.Random(1)  # noqa: S311 - jitter


class Target:
    """A synchronised book behind the callback, and when it has seen everything."""

    def __init__(self, expected: int) -> None:
        feed = FEEDS[VENUE]()
        grid = Grid.of("0.10", "0.001")
        snapshot = feed.decode_snapshot(frame_sender.SYMBOL, frame_sender.snapshot_body())
        sides = (level_arrays(side, grid) for side in (snapshot.bids, snapshot.asks))
        self.book = OrderBook(frame_sender.SYMBOL, feed.depth_rule.rule, grid)
        self.book.load_snapshot(snapshot.last_update_id, *(array for side in sides for array in side))
        self.wall_ns = self.cpu_ns = 0
        self.done = asyncio.Event()
        self._apply = feed.depth_rule.apply_frame
        self._words = self.book.words
        self._expected = self._left = expected
        self._first_ns = self._cpu_first_ns = 0

    def on_message(self, message: bytes, _ts_recv_ns: int) -> None:
        """Apply the frame; look up only at the first, the last and a bad one."""
        verdict = self._apply(message, self._words)
        self._left -= 1
        if verdict or self._left == 0 or self._left == self._expected - 1:
            self._at_an_edge(verdict)

    def _at_an_edge(self, verdict: int) -> None:
        if verdict:
            raise RuntimeError(f"verdict {verdict} with {self._left} frames to go")
        if self._left:
            self._first_ns, self._cpu_first_ns = time.perf_counter_ns(), time.process_time_ns()
        else:
            self.wall_ns = time.perf_counter_ns() - self._first_ns
            self.cpu_ns = time.process_time_ns() - self._cpu_first_ns
            self.done.set()

    def on_connected(self) -> list[bytes]:
        """Ask for nothing: the path did."""
        return []

    def on_disconnected(self, reason: str) -> None:
        """End well, or not at all."""
        assert self.done.is_set(), f"the connection ended early: {reason}"


@contextlib.contextmanager
def sender(frames: int) -> Iterator[str]:
    """Run the sender; yield its base URL."""
    command = [sys.executable, frame_sender.__file__, str(frames)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
        assert process.stdin is not None
        process.stdin.close()


async def through_picows(url: str, target: Target) -> None:
    """The product's client: reconnecting, paced, counted."""
    connect = WebSocketFactory(SystemClock(), dice())
    client = connect(ConnectionPlan("bench", url, ()), FEEDS[VENUE]().policy, target)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        await target.done.wait()
        await client.close()


async def through_websockets(url: str, target: Target) -> None:
    """The ``websockets`` package, without compression and text decoding, to be fair."""
    on_message, clock = target.on_message, time.time_ns
    async with websockets.connect(url, compression=None, ping_interval=None, max_size=None) as connection:
        while not target.done.is_set():
            on_message(await connection.recv(decode=False), clock())


def burst_ratio(base_url: str, frames: int, rounds: int) -> dict[str, Any]:
    """Measure both clients in turn; each round both must end with the same book."""
    roads: dict[str, Callable[[str, Target], Awaitable[None]]] = {
        "picows": through_picows,
        "websockets": through_websockets,
    }
    cpu_us: dict[str, list[float]] = {name: [] for name in roads}
    wall_us: dict[str, list[float]] = {name: [] for name in roads}
    for _ in range(rounds):
        hashes = set()
        for name, road in roads.items():
            target = Target(frames)
            gc.collect()
            uvloop.run(road(f"{base_url}/burst/{frames}", target))  # type: ignore[arg-type]
            cpu_us[name].append(target.cpu_ns / frames / 1_000)
            wall_us[name].append(target.wall_ns / frames / 1_000)
            hashes.add(target.book.state_hash())
        assert len(hashes) == 1, "the two roads ended with different books"
    return {
        "frames": frames,
        "rounds": rounds,
        "cpu_us": {name: round(statistics.median(values), 3) for name, values in cpu_us.items()},
        "wall_us": {name: round(statistics.median(values), 3) for name, values in wall_us.items()},
        "ratio_cpu": round(_median_ratio(cpu_us), 2),
        "ratio_wall": round(_median_ratio(wall_us), 2),
        "bar": RATIO_BAR,
    }


def _median_ratio(figures: dict[str, list[float]]) -> float:
    return statistics.median(
        theirs / ours for ours, theirs in zip(figures["picows"], figures["websockets"], strict=True)
    )


class StandInRest:
    """Answers what the feed asks for at start, without a socket."""

    async def get(self, request: RestRequest, *, priority: int = 0) -> bytes:  # noqa: ARG002 - the port's
        """Return the snapshot or the instrument list."""
        return frame_sender.snapshot_body() if "depth" in request.path else INSTRUMENTS

    async def close(self) -> None:
        """There is nothing to release."""


class Applied(MarketStream):
    """The sink: says when all frames were applied."""

    def __init__(self, frames: int, done: asyncio.Event) -> None:
        super().__init__()
        self._frames = frames
        self._done = done

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Count an applied update."""
        super().on_book(live, ts_recv_ns)
        if self.book_updates == self._frames:
            self._done.set()


async def live_road(base_url: str, frames: int, rate: int, directory: Path) -> dict[str, Any]:
    """Follow the sender with the product's feed service and journal; time each frame, callback to book."""
    url = f"{base_url}/paced/{frames}/{rate}"
    samples: list[int] = []
    done = asyncio.Event()
    clock, books = SystemClock(), LiveBooks()
    settings = FeedSettings("ws://unused", (frame_sender.SYMBOL,), frozenset({Channel.DEPTH}))
    factory = WebSocketFactory(clock, dice())

    def connect(plan: ConnectionPlan, policy: ConnectionPolicy, listener: StreamListener) -> StreamClient:
        return factory(msgspec.structs.replace(plan, url=url), policy, listener)

    with Journal(directory, JournalSettings(disk_low_bytes=0, disk_minimum_bytes=0), clock) as journal:
        service = FeedService(
            FEEDS[VENUE](),
            settings,
            books,
            [Applied(frames, done)],
            StandInRest(),
            connect,
            journal,
            clock,
            dice(),
            samples.append,
        )
        gc.collect()
        gc.freeze()
        gc.disable()
        async with asyncio.TaskGroup() as group:
            group.create_task(service.run())
            await done.wait()
            await service.stop()
        gc.enable()
        counters = journal.counters()
    live = next(iter(books))
    assert (live.updates, live.gaps, live.crossed) == (frames, 0, 0)
    settled = sorted(samples[len(samples) // 10 :])
    return {
        "frames": frames,
        "rate": rate,
        "journal_records": counters.records,
        "us": {
            name: round(settled[min(len(settled) - 1, int(len(settled) * share))] / 1_000, 2)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
        },
        "bar_us": {"p50": P50_BAR_US, "p99": P99_BAR_US},
    }


def conditions() -> dict[str, Any]:
    names = ("picows", "websockets", "uvloop", "numba")
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        **{name: version(name) for name in names},
        "sender": "a process of its own, loopback, 740-byte USD-M depth frames of 28 levels",
    }


def report(figures: dict[str, Any]) -> None:
    ratio, live = figures["ratio"], figures["live"]
    print(f"conditions: {figures['conditions']}")
    print(f"S4, {ratio['frames']:,} frames in a burst, median of {ratio['rounds']} rounds, us a message:")
    for name in ("picows", "websockets"):
        print(
            f"  {name:<11} {ratio['cpu_us'][name]:6.2f} of processor, {ratio['wall_us'][name]:6.2f} of time"
        )
    print(f"  ratio {ratio['ratio_cpu']} of processor, {ratio['ratio_wall']} of time (bar {RATIO_BAR})")
    print(
        f"live road, {live['rate']:,} frames/s, journal on, {live['frames']:,} frames, receive to book, us:"
    )
    print("  " + "  ".join(f"{name} {value}" for name, value in live["us"].items()))
    print(f"  bars: p50 {P50_BAR_US}, p99 {P99_BAR_US}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--frames", type=int, default=60_000, help="frames in a burst")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=5_000, help="frames a second on the live road")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    warm_up(lambda line: print(line, file=sys.stderr))
    paced = options.rate * options.seconds
    with sender(max(options.frames, paced)) as base_url, tempfile.TemporaryDirectory() as directory:
        figures = {
            "conditions": conditions(),
            "ratio": burst_ratio(base_url, options.frames, options.rounds),
            "live": uvloop.run(live_road(base_url, paced, options.rate, Path(directory))),
        }
    if options.json:
        print(json.dumps(figures))
    else:
        report(figures)


if __name__ == "__main__":
    main()
