"""All simulated markets: events in, each stream's messages out to its subscribers, and the truth kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

import structlog

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, Clock
from bookrunner.core.errors import UnknownSymbolError
from bookrunner.venues.simulated.binance import BinanceDialect
from bookrunner.venues.simulated.bybit import BybitDialect
from bookrunner.venues.simulated.events import (
    BINANCE_VENUES,
    BYBIT_VENUES,
    BookReset,
    Candle,
    Depth,
    Event,
    Listing,
    MarketEvent,
    RecordingEnd,
    channel_of,
)
from bookrunner.venues.simulated.fault_stage import FaultStage, Outgoing, StreamKey
from bookrunner.venues.simulated.faults import Fault, FaultKind, FaultPlan, Occasion
from bookrunner.venues.simulated.truth import DecimalLevels, TruthBook

MAX_CANDLES = 1_500
"""Closed candles kept a symbol, the most that a klines request may ask for."""

_log = structlog.get_logger(__name__)


class Subscriber(Protocol):
    """A connection, as the market sees it."""

    def deliver(self, name: str, message: Outgoing) -> None:
        """Send one message of the stream that the client calls ``name``."""
        ...

    def suffer(self, fault: Fault) -> None:
        """Undergo a fault of the connection itself."""
        ...


_CONNECTION_FAULTS = frozenset(
    {FaultKind.ABRUPT_CLOSE, FaultKind.CLOSE_1008, FaultKind.MUTE_SOCKET, FaultKind.NO_PONG}
)


class Market:
    """The venues' state. One thread; every call returns at once."""

    def __init__(self, clock: Clock, plan: FaultPlan) -> None:
        self.plan = plan
        self.listings: dict[tuple[str, str], Listing] = {}
        self.books: dict[tuple[str, str], TruthBook] = {}
        self.candles: dict[tuple[str, str], deque[Candle]] = {}
        self.events = 0
        self.messages = 0
        self.cut_venues: list[str] = []
        """Venues whose connections are all to be cut; the server empties it after each event."""
        self._clock = clock
        self._stage = FaultStage()
        self._subscribers: dict[tuple[str, str], dict[str, dict[Subscriber, dict[str, None]]]] = {}
        self._dialects: dict[str, BinanceDialect | BybitDialect] = {
            **{venue: BinanceDialect(venue) for venue in BINANCE_VENUES},
            **{venue: BybitDialect(venue) for venue in BYBIT_VENUES},
        }

    def now_ms(self) -> int:
        """Wall time as the venues' messages carry it."""
        return self._clock.wall_ns() // NANOSECONDS_PER_MILLISECOND

    def is_listed(self, venue: str, symbol: str) -> bool:
        """Return whether the venue trades the symbol."""
        return (venue, symbol) in self.listings

    def truth(self, venue: str, symbol: str) -> tuple[DecimalLevels, DecimalLevels, int]:
        """Return bids and asks, best first, and the id of the last update in them.

        Raises:
            UnknownSymbolError: there is no such book.
        """
        book = self.books.get((venue, symbol))
        if book is None:
            raise UnknownSymbolError("no such book", venue=venue, symbol=symbol)
        return book.bids.top(len(book.bids)), book.asks.top(len(book.asks)), book.last_update_id

    def publish(self, event: Event) -> None:
        """Let one event happen: the truth follows it, the subscribers are told, spoilt as planned."""
        self.events += 1
        match event:
            case RecordingEnd():
                self.cut_venues.extend(event.venues)
                return
            case BookReset():
                self._reset(event)
                return
            case Depth():
                book = self.books.get((event.venue, event.symbol))
                if book is not None:
                    last = book.last_update_id + 1 if event.venue in BYBIT_VENUES else event.final_id
                    book.apply(event.bids, event.asks, last)
            case Candle() if event.closed:
                self.candles.setdefault((event.venue, event.symbol), deque(maxlen=MAX_CANDLES)).append(event)
        self._tell(event)

    def subscribe(self, venue: str, symbol: str, kind: str, name: str, subscriber: Subscriber) -> None:
        """Begin a stream, with the venue's greeting where it has one."""
        names = self._subscribers.setdefault((venue, symbol), {}).setdefault(kind, {})
        names.setdefault(subscriber, {})[name] = None
        book = self.books.get((venue, symbol))
        greeting = self._dialects[venue].greeting(symbol, kind, book, self.now_ms())
        if greeting:
            self._send(subscriber, name, Outgoing(greeting))

    def unsubscribe(self, subscriber: Subscriber, venue: str, symbol: str, kind: str, name: str) -> None:
        """End a stream."""
        kinds = self._subscribers.get((venue, symbol), {})
        subscribers = kinds.get(kind, {})
        names = subscribers.get(subscriber, {})
        names.pop(name, None)
        if not names:
            subscribers.pop(subscriber, None)
        if not subscribers:
            kinds.pop(kind, None)
        if not kinds:
            self._subscribers.pop((venue, symbol), None)

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody would be told anything."""
        return bool(self._subscribers)

    def _reset(self, event: BookReset) -> None:
        key = event.venue, event.symbol
        self.listings[key] = event.listing
        self.books[key] = TruthBook(event.bids, event.asks, event.last_update_id)
        dialect = self._dialects[event.venue]
        for kind, subscribers in self._subscribers.get(key, {}).items():
            self._stage.forget((*key, kind))
            greeting = dialect.greeting(event.symbol, kind, self.books[key], self.now_ms())
            if greeting:
                self._send_all(subscribers, Outgoing(greeting))

    def _tell(self, event: MarketEvent) -> None:
        venue, symbol = event.venue, event.symbol
        kinds = self._subscribers.get((venue, symbol), {})
        book = self.books.get((venue, symbol))
        messages = self._dialects[venue].messages(event, book, kinds, self.now_ms())
        for kind, payload in messages:
            channel = channel_of(kind)
            faults = self.plan.strike(Occasion.MESSAGE, venue, symbol, channel)
            if faults:
                payload = self._spoil_market(event, kind, payload, faults)  # noqa: PLW2901
            key = venue, symbol, kind
            for outgoing in self._stage.transform(key, payload, faults, self._off_tick_price(key, faults)):
                self._send_all(kinds.get(kind, {}), outgoing)

    def _spoil_market(self, event: MarketEvent, kind: str, payload: bytes, faults: Sequence[Fault]) -> bytes:
        """Apply the faults that need the book, or that befall the connections."""
        venue, symbol = event.venue, event.symbol
        subscribers = self._subscribers.get((venue, symbol), {}).get(kind, {})
        book = self.books.get((venue, symbol))
        for fault in faults:
            _log.info("fault_struck", fault=fault.fault, venue=venue, symbol=symbol, stream=kind)
            if fault.fault in _CONNECTION_FAULTS:
                for subscriber in list(subscribers):
                    subscriber.suffer(fault)
            elif fault.fault is FaultKind.DAILY_CUT:
                self.cut_venues.append(venue)
            elif fault.fault is FaultKind.MAINTENANCE and book is not None and isinstance(event, Depth):
                payload = self._dialects[venue].emptied(event, kind, book, self.now_ms())
            elif fault.fault is FaultKind.UNSOLICITED_SNAPSHOT:
                snapshot = self._dialects[venue].greeting(symbol, kind, book, self.now_ms())
                payload = snapshot or payload
        return payload

    def _off_tick_price(self, key: StreamKey, faults: object) -> str:
        if not faults:
            return ""
        bids = self.books[key[:2]].bids.top(1) if key[:2] in self.books else {}
        tick = Decimal(self.listings[key[:2]].tick_size) if key[:2] in self.listings else Decimal(1)
        return format(next(iter(bids), Decimal(1)) + tick / 2, "f")

    def _send_all(self, subscribers: dict[Subscriber, dict[str, None]], outgoing: Outgoing) -> None:
        for subscriber, names in list(subscribers.items()):
            for name in tuple(names):
                self._send(subscriber, name, outgoing)

    def _send(self, subscriber: Subscriber, name: str, outgoing: Outgoing) -> None:
        self.messages += 1
        subscriber.deliver(name, outgoing)
