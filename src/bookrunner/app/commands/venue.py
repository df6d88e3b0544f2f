"""``bookrunner venue``: the venue simulator as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bookrunner.venues.simulated.events import Source
    from bookrunner.venues.simulated.faults import Fault
    from bookrunner.venues.simulated.server import Simulator

SAMPLE = "sample"
"""Stands for the packaged recordings among ``--recording``."""
DEMO_PAIRS = (
    "bybit_linear:BTCUSDT,bybit_linear:ETHUSDT,bybit_linear:SOLUSDT,bybit_linear:XRPUSDT,"
    "bybit_linear:DOGEUSDT,bybit_linear:ADAUSDT,bybit_linear:LINKUSDT"
)
"""Made up when nothing is asked for; with the sample's two there are nine."""
RANDOM_FAULTS = 200
"""Faults drawn for ``--fault-seed``."""


def venue(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="WebSocket port; 0: a free one.")] = 9101,
    rest_port: Annotated[int, typer.Option(min=0, max=65_535, help="REST port; 0: a free one.")] = 9102,
    recording: Annotated[
        list[str] | None, typer.Option(help="File to replay, [VENUE=]PATH, or 'sample'; may be repeated.")
    ] = None,
    synthetic: Annotated[str | None, typer.Option(help="Pairs to make up: VENUE:SYMBOL[@RATE],…")] = None,
    speed: Annotated[
        float, typer.Option(min=0.0, max=10_000.0, help="Of recordings; 0: as fast as the clients read.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up market.")] = 1,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME[:FIELD=VALUE,…], as dropped:symbol=BTCUSDT,after=100.")
    ] = None,
    fault_file: Annotated[Path | None, typer.Option(help="JSON list of faults.")] = None,
    fault_seed: Annotated[int | None, typer.Option(min=0, help="Draw faults at random.")] = None,
    time_scale: Annotated[
        float, typer.Option(min=0.001, max=1e6, help="How much faster the venues' own limits pass.")
    ] = 1.0,
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="End when standard input is closed.")
    ] = False,
) -> None:
    """Run the venue simulator: the venues' own protocols on loopback."""
    import uvloop

    from bookrunner.app.logging_setup import configure_logging
    from bookrunner.app.settings import LoggingSettings
    from bookrunner.core.errors import ConfigurationError
    from bookrunner.venues.simulated.server import Simulator

    _refuse_not_finite(speed=speed, time_scale=time_scale)
    configure_logging(LoggingSettings())
    try:
        simulator = Simulator(
            _sources(recording, synthetic, speed, seed),
            _faults(fault or [], fault_file),
            host=host,
            port=port,
            rest_port=rest_port,
            time_scale=time_scale,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(simulator, fault_seed, exit_with_parent=exit_with_parent))
    except ConfigurationError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _refuse_not_finite(**options: float) -> None:
    """Refuse ``nan``, which no bound of an option catches, and ``inf`` with it."""
    for name, value in options.items():
        if not isfinite(value):
            raise typer.BadParameter(f"{value} is no finite number", param_hint=f"--{name.replace('_', '-')}")


def _sources(recording: list[str] | None, synthetic: str | None, speed: float, seed: int) -> list[Source]:
    """Build what was asked for; with nothing asked for, the sample and the demo's pairs."""
    from random import Random

    from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, SystemClock
    from bookrunner.venues.simulated.source_recorded import RecordedSource, Recording, sample
    from bookrunner.venues.simulated.source_synthetic import SyntheticPair, SyntheticSource

    if not recording and synthetic is None:
        recording, synthetic = [SAMPLE], DEMO_PAIRS
    start_ms = SystemClock().wall_ns() // NANOSECONDS_PER_MILLISECOND
    sources: list[Source] = []
    recordings = [
        found
        for name in recording or []
        for found in (sample() if name == SAMPLE else [Recording.parse(name)])
    ]
    if recordings:
        sources.append(RecordedSource(recordings, speed, start_ms))
    pairs = [SyntheticPair.parse(text) for text in filter(None, (synthetic or "").split(","))]
    if pairs:
        generator = Random(seed)  # noqa: S311 - a market, not a secret
        sources.append(SyntheticSource(pairs, generator, start_ms))
    return sources


def _faults(texts: Sequence[str], file: Path | None) -> list[Fault]:
    import msgspec

    from bookrunner.core.errors import ConfigurationError
    from bookrunner.venues.simulated.faults import parse_fault, read_fault

    planned: list[Any] = []
    if file is not None:
        try:
            planned = msgspec.json.decode(file.read_bytes(), type=list[Any])
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                "cannot read the faults", field="fault_file", value=str(file), rule=str(error)
            ) from None
    entries = [*texts, *planned]
    return [parse_fault(entry) if isinstance(entry, str) else read_fault(entry) for entry in entries]


async def _serve(simulator: Simulator, fault_seed: int | None, *, exit_with_parent: bool) -> None:
    """Serve until a signal, or until the parent is gone; a source that fails ends it with its error."""
    import msgspec

    from bookrunner.venues.simulated.launch import Ready

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with simulator:
        if fault_seed is not None:
            _draw_faults(simulator, fault_seed)
        if exit_with_parent:
            await loop.connect_read_pipe(lambda: _ParentWatch(stopping), sys.stdin)
        ready = Ready(ready=True, ws=simulator.websocket_url, rest=simulator.rest_url)
        typer.echo(msgspec.json.encode(ready).decode())
        sys.stdout.flush()
        typer.echo(f"venue simulator: WebSocket {ready.ws}, REST {ready.rest}; Ctrl-C ends it", err=True)
        until_stopped = asyncio.create_task(stopping.wait())
        until_failed = asyncio.create_task(simulator.wait())
        done, waiting = await asyncio.wait({until_stopped, until_failed}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()


def _draw_faults(simulator: Simulator, seed: int) -> None:
    from random import Random

    from bookrunner.venues.simulated.faults import RECOVERABLE, random_faults

    generator = Random(seed)  # noqa: S311 - a plan, not a secret
    for fault in random_faults(generator, list(simulator.market.books), RECOVERABLE, RANDOM_FAULTS):
        simulator.inject(fault)


class _ParentWatch(asyncio.Protocol):
    """Stops us when the other end of standard input is closed, however the parent ended."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._stopping.set()


if __name__ == "__main__":
    typer.run(venue)
