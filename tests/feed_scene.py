"""The real connectors against the venue simulator on loopback, in one loop, with short waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec

from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.clock import NANOSECONDS_PER_SECOND, SystemClock
from bookrunner.core.enums import BookState, Channel
from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.feeds import FeedService, FeedSettings
from bookrunner.venues.simulated.server import Simulator
from bookrunner.venues.simulated.source_synthetic import SyntheticPair, SyntheticSource
from bookrunner.venues.transport.admission import Admission
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.lifetime import StaggeredLifetimes
from bookrunner.venues.transport.rest import RestSettings, VenueRestClient
from bookrunner.venues.transport.token_bucket import TokenBucket
from bookrunner.venues.transport.websocket import CONNECT_LIMIT, ReconnectingWebSocket, WebSocketSettings

PATIENCE_S = 20.0
"""A bound for hanging tests; nothing waits for it."""
HURRY = 20
"""Waits of the feed pass so many times faster."""
SILENCE_NS = NANOSECONDS_PER_SECOND // 2
LEVELS = 100_000


class Witness:
    """A sink that remembers what it was told and wakes whoever waits."""

    def __init__(self) -> None:
        self.changes: list[BookStateChanged] = []
        self.updates: dict[str, int] = {}
        self.trades = 0
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so, looking again whenever there is news."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def nudge(self) -> None:
        self._news.set()

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        assert ts_recv_ns > 0
        self.updates[live.symbol] = self.updates.get(live.symbol, 0) + 1
        self._news.set()

    def on_trades(self, live: LiveBook, trades: list[Trade], ts_recv_ns: int) -> None:
        del live, ts_recv_ns
        self.trades += len(trades)

    def on_quote(self, live: LiveBook, quote: Quote, ts_recv_ns: int) -> None: ...
    def on_bar(self, live: LiveBook, bar: Bar, ts_recv_ns: int) -> None: ...
    def on_mark_price(self, live: LiveBook, mark: MarkPrice, ts_recv_ns: int) -> None: ...

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        del live
        self.changes.append(change)
        self._news.set()

    def states(self, symbol: str) -> list[str]:
        return [change.state.value for change in self.changes if change.symbol == symbol]


class FeedScene:
    """A simulator, a feed that follows it, and the books that came of it."""

    def __init__(
        self, simulator: Simulator, feed: FeedService, books: LiveBooks, witness: Witness, venue: str
    ) -> None:
        self.simulator = simulator
        self.feed = feed
        self.books = books
        self.witness = witness
        self.venue = venue

    def book(self, symbol: str) -> LiveBook:
        live = self.books.get(self.venue, symbol)
        assert live is not None
        return live

    def all_live(self) -> bool:
        return len(self.books) > 0 and all(live.state is BookState.LIVE for live in self.books)

    async def settle(self) -> None:
        """Stop the market at a moment at which every book has everything."""

        def caught_up() -> bool:
            if not self.all_live():
                self.simulator.resume()  # a book that bridges needs updates
                return False
            self.simulator.pause()
            return all(
                live.last_update_id == self.simulator.truth(self.venue, live.symbol)[2] for live in self.books
            )

        await self.witness.until(caught_up)

    def assert_books_true(self) -> None:
        for live in self.books:
            bids, asks, last_id = self.simulator.truth(self.venue, live.symbol)
            assert live.last_update_id == last_id
            assert decimal_sides(live) == (list(bids.items()), list(asks.items()))


def decimal_sides(live: LiveBook) -> tuple[list[Any], list[Any]]:
    grid = live.instrument.grid
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(LEVELS)
    bids = [
        (Decimal(grid.price(t)), Decimal(grid.quantity(q))) for t, q in zip(bid_ticks, bid_lots, strict=True)
    ]
    asks = [
        (Decimal(grid.price(t)), Decimal(grid.quantity(q))) for t, q in zip(ask_ticks, ask_lots, strict=True)
    ]
    return bids, asks


@asynccontextmanager
async def following(venue: str, *symbols: str, rate: int = 100) -> AsyncIterator[FeedScene]:
    """Run a feed against a synthetic market; waits of the feed and of the venue are short."""
    clock = SystemClock()
    pairs = [SyntheticPair.parse(f"{venue}:{symbol}@{rate}") for symbol in symbols]
    generator = random.Random(7)
    source = SyntheticSource(pairs, generator, clock.wall_ns() // 1_000_000)
    async with Simulator([source]) as simulator:
        books, witness = LiveBooks(), Witness()
        feed = _feed(venue, symbols, simulator, books, witness, clock)
        running = asyncio.create_task(feed.run())
        running.add_done_callback(lambda _: witness.nudge())
        scene = FeedScene(simulator, feed, books, witness, venue)
        try:
            await witness.until(lambda: running.done() or scene.all_live())
            yield scene
        finally:
            await feed.stop()
            await asyncio.wait_for(running, PATIENCE_S)


def _feed(
    venue: str,
    symbols: tuple[str, ...],
    simulator: Simulator,
    books: LiveBooks,
    witness: Witness,
    clock: SystemClock,
) -> FeedService:
    generator = random.Random(3)
    protocol: Any = make_feed(venue)
    protocol.policy = msgspec.structs.replace(protocol.policy, ping_interval_s=0.2, pong_timeout_s=0.3)
    protocol.silence_ns = lambda channel: SILENCE_NS if channel is Channel.DEPTH else 60 * SILENCE_NS
    lifetimes = StaggeredLifetimes(generator)
    bucket = TokenBucket(CONNECT_LIMIT, clock.monotonic_ns())
    settings = WebSocketSettings(backoff=Backoff(base_s=0.02, cap_s=0.1), max_message_bytes=4 * 2**20)

    def connect(plan: Any, policy: Any, listener: Any) -> ReconnectingWebSocket:
        return ReconnectingWebSocket(
            plan, policy, listener, settings=settings, clock=clock, generator=generator,
            lifetimes=lifetimes, connect_bucket=bucket,
        )  # fmt: skip

    rest = VenueRestClient(
        simulator.rest_url,
        Admission(venue, protocol.request_limit, clock),
        settings=RestSettings(backoff=Backoff(base_s=0.02, cap_s=0.1)),
        clock=clock,
        generator=generator,
    )
    return FeedService(
        protocol,
        FeedSettings(
            websocket_url=simulator.websocket_url,
            symbols=symbols,
            channels=frozenset({Channel.DEPTH, Channel.TRADES}),
        ),
        books,
        [witness],
        rest,
        connect,
        None,
        clock,
        generator,
        lambda _: None,
        sleep=lambda seconds: asyncio.sleep(seconds / HURRY),
    )
