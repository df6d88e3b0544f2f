"""A feed without network and without time: its clients, answers, journal and waits are the test's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from book_frames import SYMBOL, instrument, snapshot_body
from bookrunner.app.venue_feeds import make_feed
from bookrunner.core.clock import NANOSECONDS_PER_SECOND, ManualClock
from bookrunner.core.enums import Channel
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.engine.ports.transport import StreamListener, StreamStats
from bookrunner.engine.ports.venue_feed import ConnectionPlan, ConnectionPolicy, RestRequest
from bookrunner.market.events import BookStateChanged
from bookrunner.market.instrument import Instrument
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.services.feeds import FeedService, FeedSettings

PATIENCE_S = 5.0
"""A bound for hanging tests; nothing waits for it."""
TURNS = 20
"""Turns of the loop in which everything that can go on has gone on."""
Answer = bytes | Exception


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Longest(random.Random):
    """Draws the longest wait allowed."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class FakeTime:
    """A clock and a sleep that move together, when told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._sleepers: list[tuple[int, float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ns = self.clock.monotonic_ns() + int(seconds * NANOSECONDS_PER_SECOND)
        self._sleepers.append((due_ns, seconds, woken))
        await woken

    @property
    def waits(self) -> list[float]:
        """Seconds that those who sleep now asked for."""
        return [seconds for _, seconds, woken in self._sleepers if not woken.done()]

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, waking sleepers when they are due."""
        end_ns = self.clock.monotonic_ns() + int(seconds * NANOSECONDS_PER_SECOND)
        while True:
            await settle()
            self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[2].done()]
            due_ns, _, woken = min(self._sleepers, key=lambda item: item[0], default=(end_ns + 1, 0, None))
            if woken is None or due_ns > end_ns:
                break
            self.clock.advance(max(0, due_ns - self.clock.monotonic_ns()))
            woken.set_result(None)
        self.clock.advance(end_ns - self.clock.monotonic_ns())


class FakeClient:
    """A ``StreamClient`` whose connection the test makes and breaks."""

    def __init__(self, plan: ConnectionPlan, policy: ConnectionPolicy, listener: StreamListener) -> None:
        del policy
        self.plan = plan
        self.stats = StreamStats()
        self.reconnects = 0
        self.sent: list[bytes] = []
        self.cut: list[str] = []
        self.closes = 0
        self.running = False
        self.close_blocks: asyncio.Event | None = None
        self._listener = listener
        self._ended: asyncio.Future[None] | None = None

    async def run(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self.running = True
        try:
            if not self.closes:
                await self._ended
        finally:
            self.running = False

    def fail(self, error: Exception) -> None:
        assert self._ended is not None
        self._ended.set_exception(error)

    def connect(self) -> None:
        self.sent += self._listener.on_connected()

    def deliver(self, *messages: bytes, ts_recv_ns: int = 1) -> None:
        for message in messages:
            self._listener.on_message(message, ts_recv_ns)

    def lose(self, reason: str = "lost") -> None:
        self._listener.on_disconnected(reason)

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def reconnect(self, reason: str) -> None:
        self.cut.append(reason)

    async def close(self) -> None:
        self.closes += 1
        if self.close_blocks is not None:
            await self.close_blocks.wait()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class FakeRest:
    """A ``RestClient`` that answers from lists; the last answer of a list is given again and again."""

    def __init__(self) -> None:
        self.snapshots: list[Answer] = [snapshot_body(7)]
        self.instruments: list[Answer] = [b"instruments"]
        self.requests: list[tuple[str, int]] = []
        self.gate: asyncio.Event | None = None
        self.closes = 0

    async def get(self, request: RestRequest, *, priority: int = 0) -> bytes:
        kind = "snapshot" if "depth" in request.path else "instruments"
        self.requests.append((kind, priority))
        if self.gate is not None:
            await self.gate.wait()
        answers = self.snapshots if kind == "snapshot" else self.instruments
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def asked(self, kind: str = "snapshot") -> int:
        return sum(request[0] == kind for request in self.requests)

    async def close(self) -> None:
        self.closes += 1


class FakeJournal:
    """A ``RawJournal`` in memory that refuses when told to."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.records: list[tuple[RecordKind, str, bytes]] = []
        self.refuse: Exception | None = None
        self.durable_sequence = 0

    def register_source(self, name: str, url: str) -> int:
        del url
        if self.refuse is not None:
            raise self.refuse
        self.sources.append(name)
        return len(self.sources)

    def append(self, kind: int, source: int, ts_recv_ns: int, payload: bytes) -> int:
        assert ts_recv_ns > 0
        if self.refuse is not None:
            raise self.refuse
        self.records.append((RecordKind(kind), self.sources[source - 1], payload))
        return len(self.records)

    def payloads(self, kind: RecordKind) -> list[bytes]:
        return [payload for of, _, payload in self.records if of is kind]


class States:
    """A sink that keeps the changes of state."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_book(self, *_: object) -> None: ...
    def on_trades(self, *_: object) -> None: ...
    def on_quote(self, *_: object) -> None: ...
    def on_bar(self, *_: object) -> None: ...
    def on_mark_price(self, *_: object) -> None: ...

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        self.said.append(f"{live.symbol} {change.state.value} {change.reason}")


class FakeScene:
    """A feed service and everything around it."""

    def __init__(
        self,
        venue: str,
        symbols: tuple[str, ...] = (SYMBOL,),
        channels: tuple[Channel, ...] = (Channel.DEPTH,),
    ) -> None:
        self.time = FakeTime()
        self.rest = FakeRest()
        self.journal = FakeJournal()
        self.books = LiveBooks()
        self.states = States()
        self.clients: list[FakeClient] = []
        self.latencies: list[int] = []
        self.listed: list[Instrument] = [instrument(venue, symbol=symbol) for symbol in symbols]
        self.venue = venue
        feed: Any = make_feed(venue)
        feed.decode_instruments = lambda _body: list(self.listed)
        feed.next_instruments_request = lambda _body: None
        self.protocol = feed
        self.service = FeedService(
            feed,
            FeedSettings("ws://venue", symbols, frozenset(channels)),
            self.books,
            [self.states],
            self.rest,
            self._connect,
            self.journal,
            self.time.clock,
            Longest(),
            self.latencies.append,
            self.time.sleep,
        )

    def _connect(
        self, plan: ConnectionPlan, policy: ConnectionPolicy, listener: StreamListener
    ) -> FakeClient:
        self.clients.append(FakeClient(plan, policy, listener))
        return self.clients[-1]

    @property
    def client(self) -> FakeClient:
        return self.clients[0]

    def book(self, symbol: str = SYMBOL) -> LiveBook:
        live = self.books.get(self.venue, symbol)
        assert live is not None
        return live


@asynccontextmanager
async def running(scene: FakeScene, *, connected: bool = True) -> AsyncIterator[asyncio.Task[None]]:
    """Run a scene's service and stop it, whatever it has come to."""
    task = asyncio.create_task(scene.service.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await settle()
            if connected:
                for client in scene.clients:
                    client.connect()
            yield task
    finally:
        await scene.service.stop()
        ended, _ = await asyncio.wait([task], timeout=PATIENCE_S)
        assert ended, "the service does not stop"
