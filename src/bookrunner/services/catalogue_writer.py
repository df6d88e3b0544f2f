"""Batches to files to the catalogue: retried, spooled when the target keeps failing, drained later.

What can be lost, and what is said about it: a batch that cannot be encoded, one more than ``waiting_rows``
allow, or a file that neither target nor spool takes. Each is counted, logged as an error and told to
``on_lost``; the raw frames are in the journal, from which the rows can be made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import structlog

from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import (
    CatalogueEncoder,
    CatalogueFile,
    CatalogueSpool,
    CatalogueTarget,
    ColumnBatch,
)
from bookrunner.services.recorder_settings import RecorderSettings

Result = TypeVar("Result")

PREPARE_AFTER_S = 2.0
"""When the encoder's libraries are imported: the import holds the GIL for tens of ms."""

_log = structlog.get_logger(__name__)


class WriterCounters(msgspec.Struct):
    """What the catalogue writer has done."""

    files: int = 0
    """Files that the target holds, drained ones included."""
    rows: int = 0
    """Rows in them."""
    bytes: int = 0
    retries: int = 0
    spooled: int = 0
    """Files put into the spool."""
    drained: int = 0
    """Files that went from the spool to the target."""
    failed: int = 0
    """Refusals by the target."""
    lost_batches: int = 0
    lost_rows: int = 0


class CatalogueWriter:
    """One batch at a time, in order, off the loop.

    Args:
        encoder: makes files.
        target: where they go.
        spool: where they wait.
        settings: bounds and intervals.
        chance: jitter.
        on_encoded: told of each batch that is a file now, on the loop: its columns are read no more.
        on_lost: told of each batch that could not be kept, on the loop.
    """

    def __init__(
        self,
        encoder: CatalogueEncoder,
        target: CatalogueTarget,
        spool: CatalogueSpool,
        settings: RecorderSettings,
        chance: random.Random,
        *,
        on_encoded: Callable[[ColumnBatch], None] = lambda _batch: None,
        on_lost: Callable[[ColumnBatch], None] = lambda _batch: None,
    ) -> None:
        self.counters = WriterCounters()
        self._on_encoded = on_encoded
        self._on_lost = on_lost
        self._encoder = encoder
        self._target = target
        self._spool = spool
        self._settings = settings
        self._chance = chance
        self._waiting: deque[ColumnBatch] = deque()
        self._waiting_rows = 0
        self._some = asyncio.Event()
        self._closing = asyncio.Event()
        self._target_refuses = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalogue")

    @property
    def waiting_rows(self) -> int:
        """Rows not yet encoded."""
        return self._waiting_rows

    @property
    def target_refuses(self) -> bool:
        """Whether files go to the spool without trying the target."""
        return self._target_refuses

    def submit(self, batch: ColumnBatch) -> None:
        """Take a batch; returns at once and never raises."""
        if self._waiting_rows + batch.rows > self._settings.waiting_rows and self._waiting:
            self._lose(batch, "too many rows wait to be written")
            return
        self._waiting.append(batch)
        self._waiting_rows += batch.rows
        self._some.set()

    async def run(self) -> None:
        """Write what is submitted until ``close``; between batches, drain the spool."""
        try:
            await self._prepare()
            while not (self._closing.is_set() and not self._waiting):
                while self._waiting:
                    await self._write(self._waiting[0])
                    self._waiting_rows -= self._waiting.popleft().rows
                if not self._closing.is_set():
                    await self._drain()
                    await self._wait_for_work()
        finally:
            for batch in self._waiting:
                self._lose(batch, "stopped before it was written")
            self._thread.shutdown(wait=False)

    def close(self) -> None:
        """Let ``run`` end when everything submitted is in the target or the spool; no more long retries."""
        self._closing.set()
        self._some.set()

    async def _prepare(self) -> None:
        """Load the encoder once the start is over, but before the first batch is in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PREPARE_AFTER_S):
                await self._some.wait()
        if self._waiting or not self._closing.is_set():
            await self._off_loop(self._encoder.prepare)

    async def _wait_for_work(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_interval_s):
                await self._some.wait()
        self._some.clear()

    async def _write(self, batch: ColumnBatch) -> None:
        try:
            file = await self._off_loop(self._encoder.encode, batch)
        except CatalogueError as error:
            self._lose(batch, str(error))
            return
        self._on_encoded(batch)
        if not self._target_refuses and await self._put(file):
            return
        try:
            await self._off_loop(self._spool.put, file.path, file.data)
        except CatalogueError as error:
            self._lose(batch, str(error))
            return
        self.counters.spooled += 1
        _log.warning("catalogue_file_spooled", path=file.path, rows=file.rows)

    async def _put(self, file: CatalogueFile) -> bool:
        """Try the target as often as the settings allow; ``False`` when it refused every time."""
        attempts = 1 if self._closing.is_set() else self._settings.put_attempts
        wait_s = self._settings.retry_first_s
        for attempt in range(1, attempts + 1):
            try:
                await self._off_loop(self._target.put, file.path, file.data)
            except CatalogueError as error:
                self.counters.failed += 1
                _log.warning("catalogue_put_failed", path=file.path, attempt=attempt, error=str(error))
            else:
                self._count(file.rows, len(file.data))
                return True
            if attempt == attempts or self._closing.is_set():
                break
            self.counters.retries += 1
            await self._pause(self._chance.uniform(0, wait_s))
            wait_s = min(2 * wait_s, self._settings.retry_longest_s)
        self._target_refuses = True
        return False

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until ``close``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _drain(self) -> None:
        """Move spooled files to the target, oldest first, until it refuses or a batch waits."""
        try:
            for path in await self._off_loop(self._spool.waiting):
                if self._waiting:
                    return
                data = await self._off_loop(self._spool.read, path)
                await self._off_loop(self._target.put, path, data)
                await self._off_loop(self._spool.remove, path)
                self.counters.drained += 1
                self._count(0, len(data))
                if self._target_refuses:
                    self._target_refuses = False
                    _log.info("catalogue_target_recovered", path=path)
        except CatalogueError as error:
            self.counters.failed += 1
            self._target_refuses = True
            _log.warning("catalogue_drain_failed", error=str(error))

    async def _off_loop(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _count(self, rows: int, size_bytes: int) -> None:
        self.counters.files += 1
        self.counters.rows += rows
        self.counters.bytes += size_bytes

    def _lose(self, batch: ColumnBatch, reason: str) -> None:
        self.counters.lost_batches += 1
        self.counters.lost_rows += batch.rows
        _log.error(
            "catalogue_batch_lost",
            venue=batch.instrument.venue,
            symbol=batch.instrument.symbol,
            kind=batch.kind.value,
            rows=batch.rows,
            first_id=batch.first_id,
            last_id=batch.last_id,
            reason=reason,
        )
        self._on_lost(batch)
