"""``bookrunner run``: everything on, until a signal or the end of ``--for``."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TextIO

import msgspec
import structlog

from bookrunner.app.build import Application, build
from bookrunner.app.kernel_cache import KernelLoading, compile_missing, load_first
from bookrunner.app.lifecycle import ServiceGroup, signals_handled
from bookrunner.app.settings import Settings, VenuesSettings
from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.services.metrics import BYTES_PER_MEGABYTE

log = structlog.get_logger(__name__)

DEMO_USDM = ("BTCUSDT", "ETHUSDT")
"""What the packaged recording holds."""
DEMO_FOLDER = Path("var/demo")
"""The demo's journal and catalogue; made-up markets must not mix with real ones."""
DRAW_INTERVAL_S = 0.5
STATUS_INTERVAL_S = 5.0


def run(
    settings: Settings, *, duration_s: float | None, summary: bool, demo: bool, faces: bool = True
) -> int:
    """Run until stopped; return the exit code.

    Args:
        settings: what to run.
        duration_s: stop by itself after so long.
        summary: print one JSON object on standard output at the end.
        demo: start the venue simulator and follow it instead of the venues.
        faces: whether to serve clients, or only to record.
    """
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, duration_s=duration_s, summary=summary, demo=demo, faces=faces))


async def _run(
    settings: Settings, *, duration_s: float | None, summary: bool, demo: bool, faces: bool
) -> int:
    async with AsyncExitStack() as stack:
        if demo:
            settings = await _demo(settings, stack)
        await compile_missing(lambda line: log.info("start_up", doing=line))
        load_first(settings.venues.enabled())
        application = build(settings, faces=faces)
        application.services.append(KernelLoading(application.stream.first_live))
        application.services.append(_display(application, sys.stderr))
        group = ServiceGroup(application.services)
        started_ns = application.clock.monotonic_ns()
        last: dict[str, Any] = {}
        application.services.append(_LastFigures(application, last))
        async with signals_handled(group):
            code = await group.run(duration_s=duration_s)
        if summary:
            elapsed_s = (application.clock.monotonic_ns() - started_ns) / NANOSECONDS_PER_SECOND
            document = {"duration_s": round(elapsed_s, 3), **last, **_stored(application)}
            sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
            sys.stdout.flush()
        return code


async def _demo(settings: Settings, stack: AsyncExitStack) -> Settings:
    """Start the simulator as a process of its own and return settings that point at it."""
    from bookrunner.app.commands.venue import DEMO_PAIRS, SAMPLE
    from bookrunner.venues.simulated.launch import launch_venue

    simulator = settings.simulator
    process = await launch_venue(
        [
            f"--host={simulator.host}",
            f"--port={simulator.port}",
            "--rest-port=0",
            f"--recording={SAMPLE}",
            f"--synthetic={DEMO_PAIRS}",
            f"--seed={simulator.seed}",
            f"--speed={simulator.speed}",
        ]
    )
    stack.push_async_callback(process.stop)
    replace = msgspec.structs.replace
    venues = VenuesSettings()
    pairs = tuple(pair.partition(":")[2] for pair in DEMO_PAIRS.split(","))
    urls = {"enabled": True, "websocket_url": process.websocket_url, "rest_url": process.rest_url}
    usdm = replace(settings.venues.binance_usdm, symbols=DEMO_USDM, **urls)
    bybit = replace(settings.venues.bybit_linear, symbols=pairs, **urls)
    return replace(
        settings,
        venues=replace(venues, binance_usdm=usdm, bybit_linear=bybit),
        journal=replace(settings.journal, path=str(DEMO_FOLDER / "journal")),
        recorder=replace(
            settings.recorder, path=str(DEMO_FOLDER / "catalogue"), spool_path=str(DEMO_FOLDER / "spool")
        ),
    )


class _LastFigures:
    """The last service to start and so the first to stop: takes the figures while everything still runs."""

    name = "summary"

    def __init__(self, application: Application, into: dict[str, Any]) -> None:
        self._application = application
        self._into = into
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Wait for the end."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Take the figures."""
        self._into.update(figures(self._application))
        self._stopping.set()


def figures(application: Application) -> dict[str, Any]:
    """Return memory, books and latencies as of now, JSON-ready."""
    metrics = application.metrics
    return {
        "rss_mb": round(metrics.usage().rss_bytes / BYTES_PER_MEGABYTE, 1),
        "books": [
            {
                "venue": live.venue,
                "symbol": live.symbol,
                "state": live.state.value,
                "messages": live.messages,
                "updates": live.updates,
                "gaps": live.gaps,
                "resyncs": live.resyncs,
                "last_update_id": live.last_update_id,
                "best_bid": _price(live.instrument.grid.price, live.book.best_bid()),
                "best_ask": _price(live.instrument.grid.price, live.book.best_ask()),
            }
            for live in application.books
        ],
        "latency_us": metrics.latency_us(),
    }


def _price(text_of: Any, ticks: int | None) -> str | None:
    return None if ticks is None else text_of(ticks)


def _stored(application: Application) -> dict[str, Any]:
    """Return what journal and recorder hold, after they were closed."""
    journal, recorder = application.journal, application.recorder
    stored: dict[str, Any] = {"journal": None, "recorded": None}
    if journal is not None:
        counters = journal.counters()
        stored["journal"] = {
            "path": str(journal.directory),
            "records": counters.records,
            "bytes": counters.bytes,
        }
    if recorder is not None:
        recorded = recorder.counters()
        stored["recorded"] = {"rows": recorded.rows, "files": recorded.files}
    return stored


class _Display:
    """Shows what happens: a table on a terminal, otherwise a line now and then."""

    name = "display"

    def __init__(self, application: Application, terminal: TextIO | None) -> None:
        from bookrunner.app.live_table import LiveTable

        self._application = application
        self._table = LiveTable(terminal) if terminal is not None else None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Say where to connect."""
        for line in self._where():
            log.info("listening", at=line)

    async def run(self) -> None:
        """Draw until stopped."""
        interval_s = DRAW_INTERVAL_S if self._table is not None else STATUS_INTERVAL_S
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(interval_s):
                    await self._stopping.wait()
            except TimeoutError:
                self._show()

    async def stop(self) -> None:
        """Stop drawing."""
        self._stopping.set()

    def _show(self) -> None:
        application = self._application
        snapshot = application.metrics.snapshot()
        if self._table is not None:
            self._table.draw(application.books, snapshot, self._where())
            return
        states = [live.state.value for live in application.books]
        latency = snapshot["latency_us"]["receive_to_book"]
        log.info(
            "status",
            live=f"{states.count('live')}/{len(states)}",
            **snapshot["rates"],
            rss_mb=snapshot["process"]["rss_mb"],
            p50_us=latency["p50"],
            p99_us=latency["p99"],
        )

    def _where(self) -> list[str]:
        application = self._application
        lines = []
        if application.fanout is not None:
            host = application.settings.fanout.host
            lines.append(f"market data  ws://{host}:{application.fanout.port}")
        if application.api is not None:
            url = f"http://{application.api.host}:{application.api.port}"
            lines.append(f"REST         {url}/health  {url}/metrics  {url}/api/books")
        return lines


def _display(application: Application, terminal: TextIO) -> _Display:
    """Return a display; on a terminal the logs give way to the table and go to a file."""
    if not terminal.isatty():
        return _Display(application, None)
    from bookrunner.app.logging_setup import configure_logging

    path = Path("var/bookrunner.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal.write(f"logs: {path}\n")
    configure_logging(application.settings.logging, stream=path.open("a", encoding="utf-8", buffering=1))
    return _Display(application, terminal)
