"""Files on their way to a catalogue that fails: retried, spooled, drained; what is lost is said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from bookrunner.core.enums import InstrumentKind
from bookrunner.core.errors import CatalogueError, ConfigurationError
from bookrunner.engine.ports.catalogue import CatalogueFile, Column, ColumnBatch, TableKind
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.services.catalogue_writer import CatalogueWriter
from bookrunner.services.recorder_settings import RecorderSettings

BTC = Instrument(
    venue="binance_usdm",
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    kind=InstrumentKind.PERPETUAL,
    grid=Grid.of("0.1", "0.001"),
)


def batch(number: int, rows: int = 10) -> ColumnBatch:
    numbers = np.arange(rows, dtype=np.int64)
    columns: dict[str, Column] = {"event_number": (numbers,)}
    return ColumnBatch(TableKind.DEPTH, BTC, "2024-08-08", rows, columns, number, number + rows)


class Encoder:
    """Names a file by its batch's first id."""

    def prepare(self) -> None:
        self.prepared = True

    def encode(self, given: ColumnBatch) -> CatalogueFile:
        if given.first_id < 0:
            raise CatalogueError("cannot be written")
        return CatalogueFile(f"{given.first_id}.parquet", b"x" * given.rows, given.rows)


class Store:
    """A target or spool in memory that refuses while it is told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.refusals = 0
        self.asked = 0

    def put(self, path: str, data: bytes) -> None:
        self.asked += 1
        if self.refusals:
            self.refusals -= 1
            raise CatalogueError("refused", path=path)
        self.files[path] = data

    def waiting(self) -> list[str]:
        return list(self.files)

    def read(self, path: str) -> bytes:
        return self.files[path]

    def remove(self, path: str) -> None:
        del self.files[path]


class Scene:
    def __init__(self, **settings: float) -> None:
        self.target, self.spool = Store(), Store()
        self.lost: list[ColumnBatch] = []
        given = {"retry_first_s": 0, "drain_interval_s": 3600, **settings}
        self.writer = CatalogueWriter(
            Encoder(),
            self.target,
            self.spool,
            RecorderSettings(**given),  # type: ignore[arg-type]
            random.Random(1),
            on_lost=self.lost.append,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.writer.run())
            yield
            self.writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the writer's own thread is at work meanwhile
                await asyncio.sleep(0)

    def refuses(self) -> bool:
        return self.writer.target_refuses


async def test_batches_become_files_in_order() -> None:
    scene = Scene()
    async with scene.running():
        for number in range(5):
            scene.writer.submit(batch(number))
    assert list(scene.target.files) == [f"{number}.parquet" for number in range(5)]
    assert (scene.writer.counters.files, scene.writer.counters.rows) == (5, 50)
    assert scene.writer.waiting_rows == 0


async def test_a_passing_failure_is_retried_and_nothing_is_spooled() -> None:
    scene = Scene()
    scene.target.refusals = 3
    async with scene.running():
        scene.writer.submit(batch(1))
        await scene.until(lambda: scene.writer.counters.files == 1)
    counters = scene.writer.counters
    assert (counters.retries, counters.failed, counters.spooled, counters.lost_rows) == (3, 3, 0, 0)


async def test_a_lasting_failure_goes_to_the_spool_at_once_and_is_drained_later() -> None:
    scene = Scene(drain_interval_s=0.1)
    scene.target.refusals = 10**9
    async with scene.running():
        scene.writer.submit(batch(1))
        await scene.until(lambda: scene.writer.counters.spooled == 1)
        assert scene.refuses()
        failed_before, retries_before = scene.writer.counters.failed, scene.writer.counters.retries
        scene.writer.submit(batch(2))
        await scene.until(lambda: scene.writer.counters.spooled == 2)
        # The second file did not try the target by itself: it is known to refuse.
        assert scene.writer.counters.retries == retries_before == 3
        assert scene.writer.counters.failed >= failed_before
        scene.target.refusals = 0
        await scene.until(lambda: not scene.spool.files)
        assert not scene.refuses()
        scene.writer.submit(batch(3))
    assert list(scene.target.files) == ["1.parquet", "2.parquet", "3.parquet"]
    counters = scene.writer.counters
    assert (counters.drained, counters.files, counters.lost_rows) == (2, 3, 0)


async def test_files_left_by_an_earlier_process_are_drained() -> None:
    scene = Scene()
    scene.spool.files["old.parquet"] = b"old"
    async with scene.running():
        await scene.until(lambda: not scene.spool.files)
    assert scene.target.files == {"old.parquet": b"old"}


async def test_what_neither_target_nor_spool_takes_is_counted_and_told() -> None:
    scene = Scene()
    scene.target.refusals = scene.spool.refusals = 10**9
    async with scene.running():
        scene.writer.submit(batch(1))
        await scene.until(lambda: bool(scene.lost))
    assert [lost.first_id for lost in scene.lost] == [1]
    assert (scene.writer.counters.lost_batches, scene.writer.counters.lost_rows) == (1, 10)


async def test_a_batch_that_cannot_be_encoded_is_told_and_the_next_is_written() -> None:
    scene = Scene()
    async with scene.running():
        scene.writer.submit(batch(-1))
        scene.writer.submit(batch(2))
    assert [lost.first_id for lost in scene.lost] == [-1]
    assert list(scene.target.files) == ["2.parquet"]


async def test_more_rows_than_may_wait_are_refused_and_told() -> None:
    scene = Scene(waiting_rows=25)
    for number in range(4):
        scene.writer.submit(batch(number))
    assert [lost.first_id for lost in scene.lost] == [2, 3]
    async with scene.running():
        pass
    assert list(scene.target.files) == ["0.parquet", "1.parquet"]


async def test_closing_tries_once_and_spools_instead_of_waiting() -> None:
    scene = Scene(retry_first_s=3600, retry_longest_s=3600)
    scene.target.refusals = 10**9
    async with asyncio.timeout(10), scene.running():
        scene.writer.submit(batch(1))
        await scene.until(lambda: scene.writer.counters.retries == 1)
        scene.writer.submit(batch(2))
    assert list(scene.spool.files) == ["1.parquet", "2.parquet"]
    assert scene.writer.counters.lost_rows == 0


async def test_a_cancelled_writer_says_what_it_had_not_written() -> None:
    scene = Scene(retry_first_s=3600, retry_longest_s=3600)
    scene.target.refusals = 10**9
    task = asyncio.ensure_future(scene.writer.run())
    scene.writer.submit(batch(1))
    scene.writer.submit(batch(2))
    await scene.until(lambda: scene.writer.counters.retries == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [lost.first_id for lost in scene.lost] == [1, 2]


@pytest.mark.parametrize("field", ["flush_rows", "waiting_rows", "put_attempts", "snapshot_levels"])
def test_bad_settings_say_field_value_and_rule(field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RecorderSettings(**{field: 0})
    assert caught.value.fields == {"field": f"recorder.{field}", "value": 0, "rule": ">= 1"}
