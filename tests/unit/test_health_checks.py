"""What the parts say of themselves: degraded while something is wrong, and healthy again when it is not."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from bookrunner.app.health_checks import disk_health, fanout_health, journal_health
from bookrunner.core.clock import ManualClock
from bookrunner.core.errors import DiskLowError
from bookrunner.fanout.service import FanoutService
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.market.live_book import LiveBooks
from bookrunner.services.health import HEALTHY, ComponentHealth, HealthState, degraded
from bookrunner.storage.journal import Journal
from bookrunner.storage.journal_settings import JournalSettings

MEGABYTE = 1_000_000


def healthy(reason: str) -> ComponentHealth:
    return ComponentHealth(HealthState.HEALTHY, reason)


def test_a_low_disk_degrades_the_disk_and_a_full_one_the_journal_until_there_is_room(tmp_path: Path) -> None:
    free = [900 * MEGABYTE]
    settings = JournalSettings(disk_low_bytes=500 * MEGABYTE, disk_minimum_bytes=100 * MEGABYTE)
    with Journal(tmp_path, settings, ManualClock(), free_bytes=lambda _: free[0]) as journal:

        def found(megabytes: int) -> tuple[ComponentHealth, ComponentHealth]:
            free[0] = megabytes * MEGABYTE
            journal.run_upkeep()
            return disk_health(journal), journal_health(journal)

        assert found(1_900) == (healthy("1,900 MB free"), HEALTHY)
        assert found(499) == (degraded("499 MB free"), HEALTHY)
        assert found(99) == (degraded("99 MB free"), degraded("records are refused: the disk is full"))
        with pytest.raises(DiskLowError):
            journal.append(1, 1, 0, b"{}")
        assert found(600) == (healthy("600 MB free"), HEALTHY)
    assert journal_health(journal) == degraded("closed")


def service(clients_max: int = 10) -> FanoutService:
    settings = FanoutSettings(port=0, clients_max=clients_max)
    return FanoutService(LiveBooks(), dict, settings, ManualClock(), random.Random(1))


async def test_the_fanout_is_healthy_while_it_listens() -> None:
    fanout = service()
    assert fanout_health(fanout) == degraded("not listening")
    await fanout.start()
    running = asyncio.create_task(fanout.run())
    assert fanout_health(fanout) == healthy("0 clients")
    await fanout.stop()
    await running
    assert fanout_health(fanout) == degraded("not listening")


async def test_a_fanout_whose_task_died_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    fanout = service()
    await fanout.start()

    def die() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(fanout.publisher, "tick", die)
    with pytest.raises(ExceptionGroup):
        await fanout.run()
    assert fanout_health(fanout) == degraded("not listening")


async def test_a_full_fanout_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fanout = service(clients_max=3)
    await fanout.start()
    for clients, expected in (
        (2, healthy("2 clients")),
        (3, degraded("3 clients, and no more are taken")),
    ):
        monkeypatch.setattr(fanout, "_connections", set(range(clients)))
        assert fanout_health(fanout) == expected
    monkeypatch.setattr(fanout, "_connections", set())
    running = asyncio.create_task(fanout.run())
    await fanout.stop()
    await running
