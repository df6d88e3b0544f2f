"""What a running process shows: a table on a terminal, status lines in the log otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TextIO, cast

import structlog

from bookrunner.app.build import Application
from bookrunner.app.live_table import REDRAW_INTERVAL_S, LiveTable
from bookrunner.core.errors import StorageError

log = structlog.get_logger(__name__)

STATUS_INTERVAL_S = 5.0
"""How often a line tells the state where there is no terminal."""
LOG_FILE = Path("var/bookrunner.log")
"""Where the logs go while a terminal shows the table."""


class Display:
    """A service that shows what happens: a table on a terminal, otherwise a line now and then.

    Args:
        application: what is shown.
        terminal: where the table is drawn; ``None`` where there is none.
    """

    name = "display"

    def __init__(self, application: Application, terminal: TextIO | None) -> None:
        self._application = application
        self._table = LiveTable(terminal) if terminal is not None else None
        self._stopping = asyncio.Event()

    @property
    def on_terminal(self) -> bool:
        """Whether the table has the terminal, and the logs are elsewhere."""
        return self._table is not None

    async def start(self) -> None:
        """Say where to connect."""
        for line in self._where():
            log.info("listening", at=line)

    async def run(self) -> None:
        """Draw until stopped."""
        interval_s = REDRAW_INTERVAL_S if self._table is not None else STATUS_INTERVAL_S
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


def open_display(application: Application, terminal: TextIO | None) -> Display:
    """Return a display; on a terminal the logs give way to the table and go to a file.

    Raises:
        StorageError: the log's file cannot be opened.
    """
    if terminal is None or not terminal.isatty():
        return Display(application, None)
    from bookrunner.app.log_file import LogFile
    from bookrunner.app.logging_setup import configure_logging

    try:
        file = LogFile(LOG_FILE)
    except OSError as error:
        raise StorageError("cannot write the log", file=str(LOG_FILE), reason=error.strerror) from error
    terminal.write(f"logs: {LOG_FILE}\n")
    configure_logging(application.settings.logging, stream=cast("TextIO", file))
    return Display(application, terminal)
