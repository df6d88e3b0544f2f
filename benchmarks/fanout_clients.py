"""Fan-out to many clients on loopback: lateness beyond the throttle, lagged clients, memory and CPU.

    python benchmarks/fanout_clients.py [--clients 1000] [--rate 5000] [--throttle-ms 100] [--seconds 8]

The server runs in a process of its own, with real order books that take ``--rate`` updates a second; the
clients run in another. How lateness is measured: the server writes the time of every applied update into
memory shared with the clients. A client that gets a book at update ``b`` after it had update ``a`` has waited
since ``a + 1`` was applied; what that is more than the throttle is lateness (less counts as none). Nothing
that the server says about its own timing is used. The load generator runs in the server's own loop, as the
feeds do. Bars: p99 lateness < 5 ms, no client lags, < 100 kB a client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import resource
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import picows
import structlog

from bookrunner.core.clock import SystemClock
from bookrunner.core.enums import BookState, InstrumentKind
from bookrunner.fanout.service import FanoutService
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.kernels import layout
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.venues.bybit.sequencing import BybitDepthRule

VENUE = "bybit_linear"
BASES = ("BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "LINK", "LTC")
UPDATES_MAX = 200_000
"""Updates of one symbol that the shared memory has room for."""
WARM_UP_S = 2.0
CONNECTING_AT_ONCE = 50
RULE = BybitDepthRule()
BARS = {"lateness_p99_ms": 5.0, "lagged": 0, "rss_per_client_kb": 100.0}


class ServedBook:
    """A real order book that is always live, moved by raw frames through the compiled road."""

    def __init__(self, base: str, seed: int) -> None:
        self.instrument = Instrument(
            venue=VENUE,
            symbol=f"{base}USDT",
            base=base,
            quote="USDT",
            kind=InstrumentKind.PERPETUAL,
            grid=Grid.of("0.10", "0.001"),
        )
        self.venue, self.symbol, self.state = VENUE, self.instrument.symbol, BookState.LIVE
        self.book = OrderBook(self.symbol, layout.RULE_BYBIT, self.instrument.grid)
        self._random = random.Random(seed)  # noqa: S311 - the same market on every run
        mid = self.mid = 500_000 + seed * 1_000
        bids, asks = list(range(mid - 1, mid - 201, -1)), list(range(mid + 1, mid + 201))
        lots = [self._random.randrange(1, 50_000) for _ in bids]
        self.book.load_snapshot(1, bids, lots, asks, lots)

    def step(self) -> int:
        """Apply one raw frame with a level a side near the best; return its update id."""
        rng, grid, update_id = self._random, self.instrument.grid, self.book.last_update_id + 1
        bid, ask = grid.price(self.mid - rng.randrange(1, 9)), grid.price(self.mid + rng.randrange(1, 9))
        bought, sold = grid.quantity(rng.randrange(1, 50_000)), grid.quantity(rng.randrange(1, 50_000))
        frame = (
            f'{{"topic":"orderbook.50.{self.symbol}","type":"delta","ts":1723075200000,"data":{{"s":'
            f'"{self.symbol}","b":[["{bid}","{bought}"]],"a":[["{ask}","{sold}"]],"u":{update_id},"seq":1}},'
            f'"cts":1723075199999}}'
        )
        assert RULE.apply_frame(frame.encode(), self.book.words) == layout.APPLIED
        return update_id


def resident_kb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1_024


async def serve(pipe: Connection, shared: SharedMemory, rate: int) -> None:
    applied_ns = np.ndarray((len(BASES), UPDATES_MAX), np.int64, shared.buf)
    served = [ServedBook(base, seed) for seed, base in enumerate(BASES)]
    books = LiveBooks()
    for book in served:
        books.add(cast("LiveBook", book))
    settings = FanoutSettings(port=0)
    service = FanoutService(books, lambda: {"updates": 1}, settings, SystemClock(), random.SystemRandom())
    await service.start()
    running = asyncio.create_task(service.run())
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_reader(pipe.fileno(), asked.set)
    before_kb = resident_kb()
    pipe.send(service.port)
    sink, started, sent = service.publisher, loop.time(), 0
    marks: list[dict[str, Any]] = []
    while True:
        await asyncio.sleep(0.001)
        due = int((loop.time() - started) * rate)
        while sent < due:
            symbol = sent % len(served)
            book = served[symbol]
            update_id = book.step()
            sink.on_book(cast("LiveBook", book), time.time_ns())
            applied_ns[symbol, update_id] = time.monotonic_ns()
            sent += 1
        if asked.is_set():
            asked.clear()
            question = pipe.recv()
            marks.append(
                {
                    "cpu_s": time.process_time(),
                    "rss_kb": resident_kb() - before_kb,
                    "updates": sent,
                    "at_s": loop.time(),
                    "clients": service.websocket_connections_active,
                    **msgspec.to_builtins(service.publisher.counters),
                }
            )
            if question == "stop":
                break
    await service.stop()
    await running
    pipe.send(marks)


def serve_process(pipe: Connection, name: str, rate: int) -> None:
    import uvloop

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    shared = SharedMemory(name)
    uvloop.run(serve(pipe, shared, rate))
    shared.close()


class BookSeen(msgspec.Struct, gc=False):
    """What is read of a book."""

    symbol: str
    last_update_id: int


class FrameSeen(msgspec.Struct, gc=False):
    """What is read of a message."""

    sequence: int
    type: str
    books: list[BookSeen] = []


class Totals:
    """What all clients saw, while measuring."""

    def __init__(self, applied_ns: Any, throttle_ns: int) -> None:
        self.applied_ns = applied_ns
        self.throttle_ns = throttle_ns
        self.measuring = False
        self.lateness_ns: list[int] = []
        self.spacing_error_ns: list[int] = []
        self.frames = self.bytes = self.lagged = self.gaps = self.stale = 0


class Client(picows.WSListener):
    """Reads every message, checks its number and measures its books."""

    decoder = msgspec.json.Decoder(FrameSeen)
    symbols = {f"{base}USDT": index for index, base in enumerate(BASES)}  # noqa: RUF012 - never changed

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self.sequence = 0
        self.seen = [0] * len(BASES)
        self.previous_ns = 0

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Take one frame."""
        arrived_ns = time.monotonic_ns()
        totals = self.totals
        if frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        if frame.msg_type != picows.WSMsgType.TEXT:
            return
        message = self.decoder.decode(frame.get_payload_as_memoryview())
        totals.gaps += message.sequence != self.sequence + 1
        self.sequence = message.sequence
        totals.lagged += message.type == "lagged"
        if message.type not in {"books", "snapshot"}:
            return
        late_ns = 0
        for book in message.books:
            index = self.symbols[book.symbol]
            seen, self.seen[index] = self.seen[index], book.last_update_id
            if message.type == "books":
                totals.stale += book.last_update_id < seen
                waited_ns = arrived_ns - int(totals.applied_ns[index, seen + 1])
                late_ns = max(late_ns, waited_ns - totals.throttle_ns)
        if totals.measuring and message.type == "books":
            totals.frames += 1
            totals.bytes += frame.payload_size
            totals.lateness_ns.append(late_ns)
            if self.previous_ns:
                totals.spacing_error_ns.append(abs(arrived_ns - self.previous_ns - totals.throttle_ns))
        self.previous_ns = arrived_ns


async def drive(pipe: Connection, shared: SharedMemory, options: argparse.Namespace) -> dict[str, Any]:
    applied_ns = np.ndarray((len(BASES), UPDATES_MAX), np.int64, shared.buf)
    totals = Totals(applied_ns, options.throttle_ms * 1_000_000)
    url = f"ws://127.0.0.1:{pipe.recv()}/?throttle_ms={options.throttle_ms}"
    transports = []
    for begin in range(0, options.clients, CONNECTING_AT_ONCE):
        count = min(CONNECTING_AT_ONCE, options.clients - begin)
        connecting = [
            picows.ws_connect(
                lambda: Client(totals), url, enable_auto_pong=False, read_buffer_init_size=4_096
            )
            for _ in range(count)
        ]
        transports += [transport for transport, _ in await asyncio.gather(*connecting)]
    await asyncio.sleep(WARM_UP_S)
    pipe.send("mark")
    cpu_s, totals.measuring = time.process_time(), True
    await asyncio.sleep(options.seconds)
    totals.measuring = False
    client_cpu_s = time.process_time() - cpu_s
    pipe.send("stop")
    marks = await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    for transport in transports:
        transport.disconnect(graceful=False)
    return report(totals, marks, client_cpu_s, options)


def report(
    totals: Totals, marks: list[dict[str, Any]], client_cpu_s: float, options: argparse.Namespace
) -> dict[str, Any]:
    first, last = marks
    took_s = last["at_s"] - first["at_s"]
    lateness = np.array(totals.lateness_ns) / 1e6
    spacing = np.array(totals.spacing_error_ns) / 1e6
    return {
        "clients": last["clients"],
        "symbols": len(BASES),
        "throttle_ms": options.throttle_ms,
        "updates_per_s": round((last["updates"] - first["updates"]) / took_s),
        "frames_per_s": round(totals.frames / took_s),
        "megabytes_per_s": round(totals.bytes / took_s / 1e6, 1),
        "frames_sent_per_encoding": round(
            (last["frames_sent"] - first["frames_sent"])
            / max(last["frames_encoded"] - first["frames_encoded"], 1),
            1,
        ),
        "lateness_p50_ms": round(float(np.percentile(lateness, 50)), 3),
        "lateness_p99_ms": round(float(np.percentile(lateness, 99)), 3),
        "lateness_p999_ms": round(float(np.percentile(lateness, 99.9)), 3),
        "lateness_max_ms": round(float(lateness.max()), 3),
        "spacing_error_p99_ms": round(float(np.percentile(spacing, 99)), 3),
        "lagged": totals.lagged + last["lagged"],
        "sequence_gaps": totals.gaps,
        "books_older_than_before": totals.stale,
        "rss_per_client_kb": round(last["rss_kb"] / options.clients, 1),
        "server_cpu_percent": round(100 * (last["cpu_s"] - first["cpu_s"]) / took_s, 1),
        "client_cpu_percent": round(100 * client_cpu_s / took_s, 1),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--rate", type=int, default=5_000, help="updates a second, over all symbols")
    parser.add_argument("--throttle-ms", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    shared = SharedMemory(create=True, size=len(BASES) * UPDATES_MAX * 8)
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve_process, args=(theirs, shared.name, options.rate))
    server.start()
    try:
        figures = uvloop.run(drive(ours, shared, options))
    finally:
        server.join(5)
        if server.is_alive():
            server.terminate()
        shared.close()
        shared.unlink()
    if options.json:
        print(json.dumps(figures))
        return
    print(f"fan-out, {options.clients} clients on loopback, server and clients in one process each")
    for name, value in figures.items():
        bar = f"   (bar: {BARS[name]:g})" if name in BARS else ""
        print(f"  {name:26} {value}{bar}")


if __name__ == "__main__":
    main()
