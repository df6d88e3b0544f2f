"""The REST application: operations and market data, in one router each."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, FastAPI, Path, Response
from starlette.types import ASGIApp

from bookrunner.api.envelope import JSON, Envelope, RequestIds, add_error_handlers
from bookrunner.api.prometheus_text import PrometheusText
from bookrunner.core.clock import Clock
from bookrunner.core.enums import BookState
from bookrunner.core.errors import InvalidRequestError, NotFoundError, NotLiveError
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.health import HealthBoard
from bookrunner.services.metrics import MetricsCollector, book_metrics

DEPTH_DEFAULT = 10
DEPTH_MAX = 1_000
NAME_CHARACTERS = 64
"""Longest venue or symbol that is looked up."""

Name = Annotated[str, Path(min_length=1, max_length=NAME_CHARACTERS)]


def create_app(
    books: LiveBooks,
    metrics: MetricsCollector,
    health: HealthBoard,
    clock: Clock,
    *,
    levels_max: int = DEPTH_MAX,
) -> ASGIApp:
    """Return the application.

    Args:
        books: what is served.
        metrics: for ``/metrics`` and the list of books.
        health: for ``/health`` and ``/ready``.
        clock: stamps the answers.
        levels_max: most levels a side that one request may ask for.
    """
    envelope = Envelope(clock)
    app = FastAPI(title="Bookrunner", version="1", redoc_url=None)
    add_error_handlers(app, envelope)
    app.include_router(_operations(metrics, health, envelope))
    app.include_router(_market(books, envelope, levels_max))
    return RequestIds(app, envelope, clock.wall_ns())


def _operations(metrics: MetricsCollector, health: HealthBoard, envelope: Envelope) -> APIRouter:
    """Return what machines ask; their tools expect these shapes, without the envelope."""
    router = APIRouter(tags=["operations"])
    page = PrometheusText(metrics)

    @router.get("/metrics", summary="Metrics for Prometheus")
    async def metrics_page() -> Response:
        return Response(page.render(), headers={"content-type": page.content_type})

    @router.get("/health", summary="How each component is")
    async def health_report() -> Response:
        return Response(msgspec.json.encode(health.report()), media_type=JSON)

    @router.get("/ready", summary="Whether books may be believed: 200 or 503")
    async def ready() -> Response:
        waiting = health.not_ready()
        body = {"ready": not waiting, "waiting_for": waiting, "timestamp": envelope.timestamp_s()}
        return Response(msgspec.json.encode(body), 503 if waiting else 200, media_type=JSON)

    return router


def _market(books: LiveBooks, envelope: Envelope, levels_max: int) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["market data"])

    @router.get("/books", summary="All books with their state and counts")
    async def list_books() -> Response:
        return envelope.ok([{**book_metrics(live), **best(live)} for live in books])

    @router.get("/books/{venue}/{symbol}", summary="One live book")
    async def one_book(venue: Name, symbol: Name, depth: int = DEPTH_DEFAULT) -> Response:
        if not 1 <= depth <= levels_max:
            raise InvalidRequestError(
                "the depth is not valid", field="depth", value=depth, rule=f"1 to {levels_max}"
            )
        live = books.get(venue, symbol)
        if live is None:
            raise NotFoundError("no such book", venue=venue, symbol=symbol)
        if live.state is not BookState.LIVE:
            raise NotLiveError("the book is not live", venue=venue, symbol=symbol, state=live.state.value)
        return envelope.ok(book_levels(live, depth))

    return router


def best(live: LiveBook) -> dict[str, msgspec.Raw | None]:
    """Return ``best_bid`` and ``best_ask`` as exact JSON numbers; ``null`` unless the book is live."""
    bids, asks = _sides(live, 1) if live.state is BookState.LIVE else ([], [])
    return {"best_bid": bids[0][0] if bids else None, "best_ask": asks[0][0] if asks else None}


def book_levels(live: LiveBook, depth: int) -> dict[str, object]:
    """Return a book's best ``depth`` levels a side, best first, each ``[price, quantity]``."""
    bids, asks = _sides(live, depth)
    return {
        "venue": live.venue,
        "symbol": live.symbol,
        "state": live.state.value,
        "last_update_id": live.last_update_id,
        "bids": bids,
        "asks": asks,
    }


def _sides(live: LiveBook, depth: int) -> tuple[list[list[msgspec.Raw]], list[list[msgspec.Raw]]]:
    """Return both sides as JSON numbers written digit by digit: no float ever holds them."""
    grid = live.instrument.grid
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(depth)

    def side(ticks: list[int], lots: list[int]) -> list[list[msgspec.Raw]]:
        return [
            [msgspec.Raw(grid.price(tick)), msgspec.Raw(grid.quantity(lot))]
            for tick, lot in zip(ticks, lots, strict=True)
        ]

    return side(bid_ticks, bid_lots), side(ask_ticks, ask_lots)
