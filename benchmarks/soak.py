"""The demo for a long time: does it stay as it was after its first minute?

    make soak ARGS="--minutes 30 --fault-seed 7"

Runs ``bookrunner run --demo`` in a folder of its own, its recording replayed faster so that it begins anew
many times, with clients that keep up, are slow, never read, or come and go, and with faults when asked.
Samples memory, processor, files and threads of both processes. Exit code 1 when a bound does not hold: those
of ``soak_report``, a book that is not the simulator's truth at the end, an unexpected or a slow exit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import soak_clients
import soak_report
from soak_report import Sample

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, SystemClock
from bookrunner.venues.simulated.faults import RECOVERABLE, random_faults

STOP_S_MAX = 5.0
SAMPLE_INTERVAL_S = 2.0
START_TIMEOUT_S = 90.0
"""Kernels may have to be compiled."""
FAULT_INTERVAL_S = 3.0
QUIET_END_S = 60.0
"""No new fault in the last minute: every book must be live at the end."""
SETTLE_TIMEOUT_S = 8.0
"""After the market is paused, less than the silence that a feed takes for a fault."""
SETTLE_LOOKS = 16
LIMITS = {
    # Small segments and a small retention, so that sealing, compressing and deleting happen often.
    "BOOKRUNNER_JOURNAL__SEGMENT_BYTES": str(64 * 2**20),
    "BOOKRUNNER_JOURNAL__RETENTION_BYTES": str(512 * 2**20),
}


class Demo:
    """The running demo: two processes, and where they listen."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, api_url: str, fanout_url: str) -> None:
        self.process = process
        self.log = log
        self.api_url = api_url
        self.fanout_url = fanout_url
        self.venue_url = ""
        self.processes: dict[str, psutil.Process] = {}

    async def ready(self, http: httpx.AsyncClient) -> None:
        """Wait until every book is live."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                self.complain_if_over()
                if found := re.search(r"REST (http://[\d.:]+)", self.log.read_text(encoding="utf-8")):
                    self.venue_url = found[1]
                    if await _answers(http, f"{self.api_url}/ready"):
                        break
                await asyncio.sleep(0.2)
        app = psutil.Process(self.process.pid)
        venue = next(child for child in app.children() if any("venue" in word for word in child.cmdline()))
        self.processes = {"bookrunner": app, "simulator": venue}

    def complain_if_over(self) -> None:
        """Raise when the demo ended by itself."""
        if self.process.returncode is not None:
            raise SystemExit(f"the demo ended with {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-15:])


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def start_demo(folder: Path, speed: float) -> Demo:
    api, fanout, log = free_port(), free_port(), folder / "log"
    given = {
        "BOOKRUNNER_API__PORT": str(api),
        "BOOKRUNNER_FANOUT__PORT": str(fanout),
        "BOOKRUNNER_SIMULATOR__SPEED": str(speed),
    }
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("bookrunner"),
            *("run", "--demo", "--summary", "json"),
            cwd=folder,
            env={**os.environ, **LIMITS, **given},
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    return Demo(process, log, f"http://127.0.0.1:{api}", f"ws://127.0.0.1:{fanout}")


async def sample_forever(
    demo: Demo, taken: dict[str, list[Sample]], metrics: soak_clients.Tally, started_ns: int
) -> None:
    clock = SystemClock()
    while True:
        demo.complain_if_over()
        totals = metrics.metrics.get("totals", {})
        messages = totals.get("messages", 0) + totals.get("trades", 0)
        at_s = (clock.monotonic_ns() - started_ns) / NANOSECONDS_PER_SECOND
        for name, process in demo.processes.items():
            times = process.cpu_times()
            taken[name].append(
                Sample(
                    at_s,
                    process.memory_info().rss / 1_000,
                    times.user + times.system,
                    process.num_fds(),
                    process.num_threads(),
                    messages,
                )
            )
        await asyncio.sleep(SAMPLE_INTERVAL_S)


async def fault_forever(demo: Demo, http: httpx.AsyncClient, dice: random.Random, count: list[int]) -> None:
    symbols = await books_of(demo, http)
    while True:
        (fault,) = random_faults(dice, symbols, RECOVERABLE, 1)
        body = msgspec.json.encode(fault)
        (await http.post(f"{demo.venue_url}/simulator/faults", content=body)).raise_for_status()
        count[0] += 1
        await asyncio.sleep(FAULT_INTERVAL_S)


async def books_of(demo: Demo, http: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Return venue and symbol of every book that the simulator has."""
    status = (await http.get(f"{demo.venue_url}/simulator/status")).json()
    return [(venue, symbol) for venue, symbol in status["books"]]


async def differences(demo: Demo, http: httpx.AsyncClient) -> list[str]:
    """Stop the market and return the books that do not become equal to the simulator's truth."""
    await http.post(f"{demo.venue_url}/simulator/pause")
    waiting = await books_of(demo, http)
    for _ in range(SETTLE_LOOKS):
        waiting = [book for book in waiting if not await is_true(demo, http, *book)]
        if not waiting:
            break
        await asyncio.sleep(SETTLE_TIMEOUT_S / SETTLE_LOOKS)
    return [f"{venue}:{symbol} is not the simulator's truth" for venue, symbol in waiting]


async def is_true(demo: Demo, http: httpx.AsyncClient, venue: str, symbol: str) -> bool:
    """Whether a book is served, and equal to the simulator's own as deep as it is served."""
    asked = {"venue": venue, "symbol": symbol}
    truth = (await http.get(f"{demo.venue_url}/simulator/truth", params=asked)).json()
    url = f"{demo.api_url}/api/books/{venue}/{symbol}?depth={soak_clients.DEEPEST}"
    answer = await http.get(url)
    if not answer.is_success:
        return False
    served = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)["data"]
    return all(
        [tuple(level) for level in served[side]]
        == [(Decimal(price), Decimal(lots)) for price, lots in truth[side][: soak_clients.DEEPEST]]
        for side in ("bids", "asks")
    )


async def soak(options: argparse.Namespace, folder: Path) -> list[str]:
    """Run it all; return the bounds that were broken."""
    clock, dice = SystemClock(), random.Random(options.fault_seed)  # noqa: S311 - a plan
    demo = await start_demo(folder, options.speed)
    try:
        async with httpx.AsyncClient(timeout=10.0) as http:
            await demo.ready(http)
            crowd = soak_clients.clients(demo.fanout_url, dice)
            tasks = [asyncio.create_task(client) for _, clients in crowd.values() for client in clients]
            taken: dict[str, list[Sample]] = {name: [] for name in demo.processes}
            metrics = crowd[soak_clients.KEEPS_UP][0]
            tasks.append(asyncio.create_task(sample_forever(demo, taken, metrics, clock.monotonic_ns())))
            seconds, faults = 60 * options.minutes, [0]
            if options.fault_seed is not None:
                faulting = asyncio.create_task(fault_forever(demo, http, dice, faults))
                await _watch([*tasks, faulting], max(seconds - QUIET_END_S, 0))
                faulting.cancel()
                seconds = QUIET_END_S
            await _watch(tasks, seconds)
            wrong = await differences(demo, http)
            for task in tasks:
                task.cancel()
        stopping_ns = clock.monotonic_ns()
        demo.process.send_signal(signal.SIGTERM)
        output, _ = await demo.process.communicate()
        stop_s = (clock.monotonic_ns() - stopping_ns) / NANOSECONDS_PER_SECOND
    finally:
        if demo.process.returncode is None:
            demo.process.kill()
            await demo.process.wait()
    summary = json.loads(output.splitlines()[-1])
    print(f"faults {faults[0]}, stopped in {stop_s:.2f} s with exit code {demo.process.returncode}")
    if options.samples is not None:
        soak_report.write_samples(options.samples, taken)
    broken = [f"exit code {demo.process.returncode}"] if demo.process.returncode else []
    broken += [f"took {stop_s:.1f} s to stop, over {STOP_S_MAX}"] if stop_s > STOP_S_MAX else []
    for name, samples in taken.items():
        broken += soak_report.process_report(name, samples)
    broken += soak_report.books_report(summary, faulty=bool(faults[0]))
    broken += soak_report.clients_report({name: tally for name, (tally, _) in crowd.items()})
    return broken + wrong


async def _watch(tasks: list[asyncio.Task[Any]], seconds: float) -> None:
    """Let them run so long; raise what one of them raises."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--speed", type=float, default=20.0, help="of the recorded frames")
    parser.add_argument("--samples", type=Path, help="write every sample to this file, as CSV")
    parser.add_argument("--fault-seed", type=int, help="inject a random fault every few seconds")
    options = parser.parse_args()
    print(f"{options.minutes:g} minutes at {options.speed:g} times the recorded speed", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        broken = asyncio.run(soak(options, Path(folder)))
    for line in broken:
        print(f"BROKEN: {line}")
    print("held" if not broken else f"{len(broken)} bounds broken")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
