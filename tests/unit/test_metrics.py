import asyncio
from dataclasses import dataclass, field
from typing import Any

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, ManualClock
from bookrunner.core.enums import BookState
from bookrunner.services.health import HealthBoard, HealthState, books_check, degraded
from bookrunner.services.metrics import (
    CONNECTIONS,
    HOPS,
    RATE_WINDOW_SAMPLES,
    RECEIVE_TO_BOOK,
    MetricsCollector,
    MetricsService,
    ProcessUsage,
)


@dataclass
class FakeBook:
    spread_bps: float | None = None


@dataclass
class FakeLiveBook:
    symbol: str = "BTCUSDT"
    venue: str = "binance_usdm"
    state: BookState = BookState.LIVE
    book: FakeBook = field(default_factory=FakeBook)
    messages: int = 0
    updates: int = 0
    gaps: int = 0
    resyncs: int = 0
    malformed: int = 0
    crossed: int = 0
    last_update_id: int = 0


class Machine:
    """A clock, a processor and books that move when told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cpu_seconds = 0.0
        self.books = [FakeLiveBook(), FakeLiveBook("ETHUSDT")]
        self.collector = MetricsCollector(self.books, self.clock, self.usage)  # type: ignore[arg-type]

    def usage(self) -> ProcessUsage:
        return ProcessUsage(120_000_000, 900_000_000, self.cpu_seconds)

    def second(self, messages: int = 0, cpu_seconds: float = 0.0) -> None:
        self.clock.advance(NANOSECONDS_PER_SECOND)
        for book in self.books:
            book.messages += messages
            book.updates += messages // 2
        self.cpu_seconds += cpu_seconds
        self.collector.sample()


def test_rates_are_over_the_window_and_forget_what_lies_before() -> None:
    machine = Machine()
    assert machine.collector.rates() == {"messages_per_s": 0.0, "updates_per_s": 0.0, "trades_per_s": 0.0}
    for _ in range(3):
        machine.second(messages=100)
    assert machine.collector.rates()["messages_per_s"] == 200.0
    assert machine.collector.rates()["updates_per_s"] == 100.0
    for _ in range(RATE_WINDOW_SAMPLES):
        machine.second(messages=10)
    assert machine.collector.rates()["messages_per_s"] == 20.0


def test_counters_of_one_name_add_up_and_trades_have_a_rate() -> None:
    machine = Machine()
    trades = {"a": 5, "b": 7}
    machine.collector.add_counter("trades", lambda: trades["a"], "Trades.", venue="a")
    machine.collector.add_counter("trades", lambda: trades["b"], "Trades.", venue="b")
    machine.collector.add_counter("reconnects", lambda: 3, "Reconnects.")
    machine.second()
    trades["a"] += 12
    machine.second()
    assert machine.collector.totals()["trades"] == 24
    assert machine.collector.totals()["reconnects"] == 3
    assert machine.collector.rates()["trades_per_s"] == 12.0


def test_latency_since_the_start_and_of_late() -> None:
    machine = Machine()
    record = machine.collector.latency[RECEIVE_TO_BOOK].record
    record(1_000_000)
    for _ in range(RATE_WINDOW_SAMPLES + 1):
        machine.second()
    record(10_000)
    whole, recent = machine.collector.latency_us(), machine.collector.recent_latency_us()
    assert whole[RECEIVE_TO_BOOK]["count"] == 2
    assert whole[RECEIVE_TO_BOOK]["max"] == 1_000.0
    assert recent[RECEIVE_TO_BOOK]["count"] == 1
    assert 9.9 < recent[RECEIVE_TO_BOOK]["p99.9"] < 10.1
    assert set(whole) == set(HOPS)
    assert {"count", "min", "avg", "max", "p50", "p95", "p99", "p99.9"} == set(whole[RECEIVE_TO_BOOK])


def test_the_snapshot_is_whole() -> None:
    machine = Machine()
    machine.collector.add_gauge(CONNECTIONS, lambda: 4, "Clients.")
    machine.books[0].book.spread_bps = 1.23456
    machine.books[1].book.spread_bps = 2.0
    machine.books[1].state = BookState.STALE
    machine.second(messages=2, cpu_seconds=0.5)
    snapshot = machine.collector.snapshot()
    assert snapshot["uptime_s"] == 1.0
    assert snapshot["connections"] == 4
    assert snapshot["process"] == {"rss_mb": 120.0, "virtual_mb": 900.0, "cpu_percent": 50.0}
    assert [book["spread_bps"] for book in snapshot["books"]] == [1.2346, None]
    assert snapshot["totals"]["messages"] == 4


def test_this_process_is_measured() -> None:
    usage = MetricsCollector([], ManualClock()).usage()
    assert 10**6 < usage.rss_bytes < usage.virtual_bytes
    assert usage.cpu_seconds > 0


async def test_the_service_publishes_until_stopped() -> None:
    machine = Machine()
    published: list[dict[str, Any]] = []
    enough = asyncio.Event()

    def publish(snapshot: dict[str, Any]) -> None:
        published.append(snapshot)
        enough.set()

    service = MetricsService(machine.collector, publish, interval_s=0.001)
    await service.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run())
        await enough.wait()
        await service.stop()
    assert {"rates", "totals", "latency_us", "process", "books"} <= set(published[0])


def test_the_board_is_degraded_when_one_component_is() -> None:
    board = HealthBoard(ManualClock())
    assert board.report()["status"] == "healthy"
    books: list[FakeLiveBook] = []
    board.add("feed", books_check(books, "binance_usdm"))  # type: ignore[arg-type]
    assert board.components()["feed"].reason == "no book yet"
    books.append(FakeLiveBook())
    assert board.report()["status"] == "healthy"
    board.add("spool", lambda: degraded("disk full"), needed=False)
    assert board.report()["status"] == "degraded"
    assert board.not_ready() == []
    books.append(FakeLiveBook("ETHUSDT", state=BookState.SYNCING))
    books.append(FakeLiveBook("ADAUSDT", venue="other", state=BookState.STALE))
    assert board.not_ready() == ["feed"]
    assert board.components()["feed"] == degraded("ETHUSDT syncing")
    assert board.components()["spool"].state is HealthState.DEGRADED
