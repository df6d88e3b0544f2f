"""The recorder: normalised market data of a live process into the catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import msgspec

from bookrunner.core.clock import Clock
from bookrunner.engine.ports.catalogue import CatalogueEncoder, CatalogueSpool, CatalogueTarget, ColumnBatch
from bookrunner.services.catalogue_writer import CatalogueWriter
from bookrunner.services.market_columns import MarketColumns
from bookrunner.services.recorder_settings import RecorderSettings

FLUSH_CHECK_S = 1.0
"""How often the ages of tables are looked at."""


class RecorderCounters(msgspec.Struct, frozen=True):
    """What the recorder has done since it was made."""

    rows: int
    """Rows taken out of the market's events and handed to the writer."""
    waiting_rows: int
    files: int
    bytes: int
    retries: int
    spooled: int
    drained: int
    failed: int
    lost_rows: int
    target_refuses: bool


class Recorder:
    """A service whose ``sink`` is to be subscribed to the market stream.

    Args:
        encoder: columns to files.
        target: the catalogue.
        spool: where files wait while the catalogue refuses them.
        settings: bounds and intervals.
        clock: ages of tables.
        chance: jitter of retries.
        on_lost: told of a batch that could not be kept, as an alarm; it is counted and logged already.
    """

    name = "recorder"

    def __init__(
        self,
        encoder: CatalogueEncoder,
        target: CatalogueTarget,
        spool: CatalogueSpool,
        settings: RecorderSettings,
        clock: Clock,
        chance: random.Random,
        *,
        on_lost: Callable[[ColumnBatch], None] = lambda _batch: None,
    ) -> None:
        self._writer = CatalogueWriter(
            encoder, target, spool, settings, chance, on_encoded=self._encoded, on_lost=self._lost
        )
        self.sink = MarketColumns(self._writer.submit, settings, clock)
        self._alarm = on_lost
        self._stopping = asyncio.Event()

    def counters(self) -> RecorderCounters:
        """Return the present counts."""
        written = self._writer.counters
        return RecorderCounters(
            rows=self.sink.rows,
            waiting_rows=self._writer.waiting_rows,
            files=written.files,
            bytes=written.bytes,
            retries=written.retries,
            spooled=written.spooled,
            drained=written.drained,
            failed=written.failed,
            lost_rows=written.lost_rows,
            target_refuses=self._writer.target_refuses,
        )

    async def start(self) -> None:
        """Nothing to wait for: rows are taken from the first event on."""

    async def run(self) -> None:
        """Flush and write until ``stop``; then write what is left and end."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            while not self._stopping.is_set():
                await self._pause()
                self.sink.flush_due()
            self.sink.flush_all()
            self._writer.close()

    async def stop(self) -> None:
        """Ask ``run`` to flush and end."""
        self._stopping.set()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_CHECK_S):
                await self._stopping.wait()

    def _encoded(self, batch: ColumnBatch) -> None:
        self.sink.recycle(batch)

    def _lost(self, batch: ColumnBatch) -> None:
        self.sink.note_lost(batch)
        self._alarm(batch)
