import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI

from bookrunner.api.application import create_app
from bookrunner.api.envelope import Envelope, RequestIds, add_error_handlers
from bookrunner.api.server import ApiService
from bookrunner.core.clock import ManualClock
from bookrunner.core.enums import BookState, InstrumentKind
from bookrunner.core.errors import ConfigurationError
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.market.live_book import LiveBooks
from bookrunner.services.health import HealthBoard, books_check, degraded
from bookrunner.services.metrics import CONNECTIONS, RECEIVE_TO_BOOK, MetricsCollector

NOW_S = 1_700_000_000


class FakeBook:
    def __init__(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        self.bids, self.asks = bids, asks
        self.spread_bps = 20_000 * (asks[0][0] - bids[0][0]) / (asks[0][0] + bids[0][0]) if asks else None

    def top(self, depth: int) -> tuple[list[int], list[int], list[int], list[int]]:
        def column(side: list[tuple[int, int]], index: int) -> list[int]:
            return [level[index] for level in side[:depth]]

        return column(self.bids, 0), column(self.bids, 1), column(self.asks, 0), column(self.asks, 1)


class FakeLiveBook:
    """What the API and the metrics read of a live book."""

    messages, updates, gaps, resyncs, malformed, crossed, last_update_id = 12, 10, 1, 2, 0, 0, 4_242

    def __init__(self, symbol: str, state: BookState, book: FakeBook) -> None:
        self.venue, self.symbol, self.state, self.book = "binance_usdm", symbol, state, book
        self.instrument = Instrument(
            venue=self.venue,
            symbol=symbol,
            base=symbol[:3],
            quote="USDT",
            kind=InstrumentKind.PERPETUAL,
            grid=Grid.of("0.1", "0.001"),
        )


class Served:
    """An application over two books, and the objects behind it."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 10**9)
        self.books = LiveBooks()
        self.btc = FakeLiveBook(
            "BTCUSDT",
            BookState.LIVE,
            FakeBook([(618_001, 5), (618_000, 7)], [(618_002, 1_000_000_000_000_000)]),
        )
        self.eth = FakeLiveBook("ETHUSDT", BookState.STALE, FakeBook([(100, 1)], []))
        for book in (self.btc, self.eth):
            self.books.add(book)  # type: ignore[arg-type]
        self.metrics = MetricsCollector(self.books, self.clock)
        self.health = HealthBoard(self.clock)
        self.health.add("feed/binance_usdm", books_check(self.books, "binance_usdm"))
        app = create_app(self.books, self.metrics, self.health, self.clock, levels_max=100)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    async with served.client:
        yield served


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert body["status"] == "error"
    assert body["timestamp"] == NOW_S
    assert response.headers["x-request-id"]
    assert set(body["error"]) == {"code", "message", "details"}
    error: dict[str, Any] = body["error"]
    return error


async def test_a_live_book_is_served_with_exact_numbers(served: Served) -> None:
    response = await served.client.get("/api/books/binance_usdm/BTCUSDT", params={"depth": 1})
    assert response.status_code == 200
    assert response.headers["x-request-id"]
    assert b'"bids":[[61800.1,0.005]],"asks":[[61800.2,1000000000000]]' in response.content
    body = response.json()
    assert body["status"] == "ok"
    assert body["timestamp"] == NOW_S
    assert body["data"]["last_update_id"] == 4_242


async def test_a_stale_book_is_never_served_as_live(served: Served) -> None:
    response = await served.client.get("/api/books/binance_usdm/ETHUSDT")
    assert response.status_code == 503
    error = error_of(response)
    assert error["code"] == "BOOK_NOT_LIVE"
    assert error["details"]["state"] == "stale"


async def test_the_list_of_books_shows_no_price_of_a_stale_one(served: Served) -> None:
    data = (await served.client.get("/api/books")).json()["data"]
    rows = {row["symbol"]: row for row in data}
    assert (rows["BTCUSDT"]["best_bid"], rows["BTCUSDT"]["best_ask"]) == (61800.1, 61800.2)
    assert rows["BTCUSDT"]["spread_bps"] == pytest.approx(0.0162, abs=1e-4)
    assert (rows["ETHUSDT"]["state"], rows["ETHUSDT"]["best_bid"]) == ("stale", None)
    assert rows["ETHUSDT"]["spread_bps"] is None


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/books/binance_usdm/NOSUCH", 404, "NOT_FOUND"),
        ("/api/books/nowhere/BTCUSDT", 404, "NOT_FOUND"),
        ("/api/books/binance_usdm/" + "X" * 65, 422, "INVALID_REQUEST"),
        ("/api/books/binance_usdm/BTCUSDT?depth=0", 422, "INVALID_REQUEST"),
        ("/api/books/binance_usdm/BTCUSDT?depth=101", 422, "INVALID_REQUEST"),
        ("/api/books/binance_usdm/BTCUSDT?depth=many", 422, "INVALID_REQUEST"),
        ("/no/such/page", 404, "NOT_FOUND"),
        ("/api/books/%ff/%00", 404, "NOT_FOUND"),
    ],
)
async def test_a_wrong_request_is_told_what_was_wrong(
    served: Served, path: str, status: int, code: str
) -> None:
    response = await served.client.get(path)
    assert response.status_code == status
    assert error_of(response)["code"] == code


async def test_a_wrong_method_is_refused_in_the_envelope(served: Served) -> None:
    response = await served.client.post("/api/books")
    assert response.status_code == 405
    assert error_of(response)["code"] == "METHOD_NOT_ALLOWED"
    assert "GET" in response.headers["allow"]


async def test_a_bug_is_a_500_that_tells_nothing() -> None:
    app = FastAPI()

    @app.get("/")
    async def broken() -> None:
        raise KeyError("/secret/path")

    clock = ManualClock(NOW_S * 10**9)
    envelope = Envelope(clock)
    add_error_handlers(app, envelope)
    transport = httpx.ASGITransport(app=RequestIds(app, envelope, 1))
    with structlog.testing.capture_logs() as logs:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            response = await client.get("/")
    assert [entry["request_id"] for entry in logs] == [response.headers["x-request-id"]]
    assert response.status_code == 500
    assert error_of(response)["code"] == "INTERNAL"
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123", True), ("x" * 65, False), ("a b", False), ("<script>", False)]
)
async def test_a_plain_request_id_is_kept_and_another_replaced(
    served: Served, given: str, *, kept: bool
) -> None:
    response = await served.client.get("/api/books", headers={"X-Request-ID": given})
    assert (response.headers["x-request-id"] == given) is kept


async def test_health_names_each_component_and_why(served: Served) -> None:
    body = (await served.client.get("/health")).json()
    assert body["status"] == "degraded"
    assert body["timestamp"] == NOW_S
    assert body["components"] == {"feed/binance_usdm": {"state": "degraded", "reason": "ETHUSDT stale"}}
    served.eth.state = BookState.LIVE
    body = (await served.client.get("/health")).json()
    assert (body["status"], body["components"]["feed/binance_usdm"]["state"]) == ("healthy", "healthy")


async def test_ready_is_503_until_what_is_needed_is_healthy(served: Served) -> None:
    served.health.add("recorder", lambda: degraded("spooling"), needed=False)
    response = await served.client.get("/ready")
    assert response.status_code == 503
    assert response.json()["waiting_for"] == ["feed/binance_usdm"]
    served.eth.state = BookState.CLOSED
    response = await served.client.get("/ready")
    assert (response.status_code, response.json()["ready"]) == (200, True)
    assert (await served.client.get("/health")).json()["status"] == "degraded"


async def test_metrics_are_prometheus_text(served: Served) -> None:
    served.metrics.add_gauge(CONNECTIONS, lambda: 7, "Clients connected.")
    served.metrics.add_counter("trades", lambda: 30, "Trades.", venue="binance_usdm")
    served.metrics.add_counter("trades", lambda: 12, "Trades.", venue="bybit_linear")
    for latency_ns in (900, 1_000, 7_000, 3 * 10**9):
        served.metrics.latency[RECEIVE_TO_BOOK].record(latency_ns)
    response = await served.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    for line in (
        "websocket_connections_active 7.0",
        'bookrunner_trades_total{venue="bybit_linear"} 12.0',
        'bookrunner_updates_total{symbol="BTCUSDT",venue="binance_usdm"} 10.0',
        'bookrunner_book_live{symbol="ETHUSDT",venue="binance_usdm"} 0.0',
        'bookrunner_latency_seconds_bucket{hop="receive_to_book",le="1e-05"} 3.0',
        'bookrunner_latency_seconds_bucket{hop="receive_to_book",le="+Inf"} 4.0',
        'bookrunner_latency_seconds_count{hop="receive_to_book"} 4.0',
    ):
        assert line in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


async def test_the_service_answers_over_a_socket_and_stops() -> None:
    served = Served()
    service = ApiService(
        lambda: create_app(served.books, served.metrics, served.health, served.clock), "127.0.0.1", 0
    )
    await service.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as client:
            response = await client.get("/api/books/binance_usdm/BTCUSDT")
            assert json.loads(response.content)["status"] == "ok"
            assert "server" not in response.headers
        await service.stop()


async def test_a_taken_port_is_a_configuration_error() -> None:
    first = ApiService(FastAPI, "127.0.0.1", 0)
    await first.start()
    assert first._socket is not None
    with first._socket, pytest.raises(ConfigurationError) as caught:
        await ApiService(FastAPI, "127.0.0.1", first.port).start()
    assert caught.value.fields["field"] == "api.port"
