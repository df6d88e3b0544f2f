"""``bookrunner run``: everything on, until a signal or the end of ``--for``."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from bookrunner.app.build import Application, build
from bookrunner.app.display import open_display
from bookrunner.app.heap import keep_heap_flat
from bookrunner.app.kernel_cache import KernelLoading, compile_missing, load_first
from bookrunner.app.lifecycle import ServiceGroup, signals_handled
from bookrunner.app.settings import Settings, VenuesSettings
from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.core.enums import BookState
from bookrunner.core.errors import ConnectionLostError
from bookrunner.market.live_book import LiveBook
from bookrunner.services.metrics import BYTES_PER_MEGABYTE

if TYPE_CHECKING:
    from bookrunner.venues.simulated.launch import VenueProcess

log = structlog.get_logger(__name__)

DEMO_USDM = ("BTCUSDT", "ETHUSDT")
"""What the packaged recording holds."""
DEMO_FOLDER = Path("var/demo")
"""The demo's journal and catalogue; made-up markets must not mix with real ones."""


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

    Raises:
        BookrunnerError: the simulator, the journal or the log file could not be opened.
    """
    import uvloop

    keep_heap_flat()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, duration_s=duration_s, summary=summary, demo=demo, faces=faces))


async def _run(
    settings: Settings, *, duration_s: float | None, summary: bool, demo: bool, faces: bool
) -> int:
    async with AsyncExitStack() as stack:
        simulator = await _launch(settings, stack) if demo else None
        if simulator is not None:
            settings = _demo_settings(settings, simulator)
        await compile_missing(lambda line: log.info("start_up", doing=line))
        load_first(settings.venues.enabled())
        application = build(settings, faces=faces)
        loading = KernelLoading(application.stream.first_live)
        display = open_display(application, sys.stderr)
        last = _LastFigures(application)
        first = [] if simulator is None else [_Simulator(simulator)]
        group = ServiceGroup([*first, *application.services, loading, display, last])
        started_ns = application.clock.monotonic_ns()
        async with signals_handled(group):
            code = await group.run(duration_s=duration_s)
            if group.failure and display.on_terminal:
                sys.stderr.write(f"error: {group.failure}\n")  # the log that has it too is not on the screen
            if summary:
                elapsed_s = (application.clock.monotonic_ns() - started_ns) / NANOSECONDS_PER_SECOND
                document = {
                    "duration_s": round(elapsed_s, 3),
                    **(last.figures or figures(application)),
                    **_stored(application),
                }
                sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
                sys.stdout.flush()
        return code


# --- the demo's venue -----------------------------------------------------------------------------------


async def _launch(settings: Settings, stack: AsyncExitStack) -> VenueProcess:
    """Start the simulator as a process of its own; it ends with ``stack`` at the latest."""
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
    return process


def _demo_settings(settings: Settings, simulator: VenueProcess) -> Settings:
    """Return settings that follow the simulator, and nothing else."""
    from bookrunner.app.commands.venue import DEMO_PAIRS

    replace = msgspec.structs.replace
    ordinary = Settings()
    if settings.venues != ordinary.venues:
        log.warning("demo_ignores_settings", settings="venues", rule="the demo follows its simulator alone")
    pairs = tuple(pair.partition(":")[2] for pair in DEMO_PAIRS.split(","))
    urls = {"enabled": True, "websocket_url": simulator.websocket_url, "rest_url": simulator.rest_url}
    usdm = replace(settings.venues.binance_usdm, symbols=DEMO_USDM, **urls)
    bybit = replace(settings.venues.bybit_linear, symbols=pairs, **urls)
    return replace(
        settings,
        venues=VenuesSettings(binance_usdm=usdm, bybit_linear=bybit),
        journal=replace(
            settings.journal, path=_demo_path(settings.journal.path, ordinary.journal.path, "journal")
        ),
        recorder=replace(
            settings.recorder,
            path=_demo_path(settings.recorder.path, ordinary.recorder.path, "catalogue"),
            spool_path=_demo_path(settings.recorder.spool_path, ordinary.recorder.spool_path, "spool"),
        ),
    )


def _demo_path(given: str, ordinary: str, name: str) -> str:
    """Return a place of the demo's own, unless another was asked for."""
    return str(DEMO_FOLDER / name) if given == ordinary else given


class _Simulator:
    """The first service to start and so the last to stop: notices when the simulator dies."""

    name = "simulator"

    def __init__(self, process: VenueProcess) -> None:
        self._process = process
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Do nothing: it was started before anything else, because it says what to connect to."""

    async def run(self) -> None:
        """Wait for the end.

        Raises:
            ConnectionLostError: the simulator failed.
        """
        code = await self._process.wait()
        if code:
            raise ConnectionLostError("the venue simulator has failed", exit_code=code)
        await self._stopping.wait()  # it was told to end, as we shall be

    async def stop(self) -> None:
        """End the process."""
        self._stopping.set()
        await self._process.stop()


# --- figures --------------------------------------------------------------------------------------------


class _LastFigures:
    """The last service to start and so the first to stop: takes the figures while everything still runs."""

    name = "summary"

    def __init__(self, application: Application) -> None:
        self.figures: dict[str, Any] = {}
        """Empty until the stop."""
        self._application = application
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Wait for the end."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Take the figures."""
        self.figures = figures(self._application)
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
                "best_bid": _price(live, live.book.best_bid()),
                "best_ask": _price(live, live.book.best_ask()),
            }
            for live in application.books
        ]
        + [_awaited(feed.venue, symbol) for feed in application.feeds for symbol in feed.awaited],
        "latency_us": metrics.latency_us(),
    }


def _awaited(venue: str, symbol: str) -> dict[str, Any]:
    """Return the entry of a book that the venue has not answered for yet."""
    counts = dict.fromkeys(("messages", "updates", "gaps", "resyncs", "last_update_id"), 0)
    return {
        "venue": venue,
        "symbol": symbol,
        "state": BookState.SYNCING.value,
        **counts,
        "best_bid": None,
        "best_ask": None,
    }


def _price(live: LiveBook, ticks: int | None) -> str | None:
    return None if ticks is None else live.instrument.grid.price(ticks)


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
