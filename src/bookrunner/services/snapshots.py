"""Snapshots for books that need one: over REST, or by subscribing again where the stream begins with one."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import structlog

from bookrunner.core.clock import Clock
from bookrunner.core.enums import BookState
from bookrunner.core.errors import BookrunnerError, ProtocolError, TransportError, VenueRejectError
from bookrunner.engine.ports.venue_feed import RestRequest, Stream, VenueFeed
from bookrunner.market.live_book import LiveBook
from bookrunner.services.feed_connection import FeedConnection
from bookrunner.services.retry_waits import wait_s
from bookrunner.services.source_journal import REFUSALS

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]
Get = Callable[[RestRequest], Awaitable[bytes]]

RETRIED = (TransportError, ProtocolError, VenueRejectError, *REFUSALS)
"""What may be different next time."""
RESUBSCRIBE_AFTER_S = 2.0
"""Time a stream that begins with a snapshot has to send one before it is subscribed again."""
RESUBSCRIBE_ATTEMPTS = 3
"""Resubscriptions before the whole connection is made anew."""


class Snapshots:
    """Brings the snapshots that the books of one venue ask for.

    Args:
        feed: the venue's protocol.
        get: makes a request; raises one of ``RETRIED``.
        clock: stamps answers.
        jitter: draws the waits.
        sleep: ``asyncio.sleep``, or a fake.
    """

    def __init__(self, feed: VenueFeed, get: Get, clock: Clock, jitter: random.Random, sleep: Sleep) -> None:
        self.failures = 0
        """Requests that brought no usable snapshot."""
        self._feed = feed
        self._get = get
        self._clock = clock
        self._jitter = jitter
        self._sleep = sleep
        self._attempts: dict[str, int] = {}

    def forgive(self, symbol: str) -> None:
        """Forget a book's attempts: it has held since, so the next request need not wait."""
        self._attempts.pop(symbol, None)

    async def fetch(self, live: LiveBook) -> None:
        """Ask over REST until the book waits for nothing; a book that asks again soon waits longer."""
        failure: BookrunnerError | None = None
        while live.awaiting_snapshot:
            attempts = self._attempts.get(live.symbol, 0)
            if attempts:
                await self._sleep(wait_s(attempts, failure, self._jitter))
            self._attempts[live.symbol] = attempts + 1
            failure = await self._try_once(live)

    async def _try_once(self, live: LiveBook) -> BookrunnerError | None:
        """Ask, if the book still waits; return what went wrong."""
        if not live.awaiting_snapshot:
            return None
        try:
            body = await self._get(self._feed.snapshot_request(live.symbol))
            live.on_snapshot(self._feed.decode_snapshot(live.symbol, body), self._clock.wall_ns())
        except RETRIED as failure:
            self.failures += 1
            log.warning(
                "snapshot_failed",
                venue=self._feed.venue,
                symbol=live.symbol,
                code=failure.code,
                error=str(failure),
            )
            return failure
        return None

    async def resubscribe(self, live: LiveBook, connection: FeedConnection, stream: Stream) -> None:
        """Subscribe again until the stream has begun anew; then make the connection anew."""
        if live.state is not BookState.STALE:
            await self._sleep(RESUBSCRIBE_AFTER_S)  # the first subscription's snapshot may be on its way
        for _ in range(RESUBSCRIBE_ATTEMPTS):
            if not live.awaiting_snapshot or not connection.connected:
                return
            connection.resubscribe((stream,))
            await self._sleep(RESUBSCRIBE_AFTER_S)
        if live.awaiting_snapshot and connection.connected:
            connection.client.reconnect("no_snapshot")
