"""One recording's frames as events: ids moved on from loop to loop, updates held until their snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import msgspec

from bookrunner.core.errors import ConfigurationError
from bookrunner.market.instrument import Grid
from bookrunner.venues.simulated import binance
from bookrunner.venues.simulated.bybit import topic_of
from bookrunner.venues.simulated.events import (
    BINANCE_COINM,
    BINANCE_SPOT,
    BINANCE_USDM,
    BYBIT_LINEAR,
    BYBIT_SPOT,
    BYBIT_VENUES,
    BookReset,
    Depth,
    Event,
    Levels,
    Listing,
    Print,
    Quote,
    RecordedFrame,
)
from bookrunner.wire.recording import RecordedKind, RecordedMessage

ID_MARGIN = 1_000_000
"""Ids left free between two loops."""
MAX_EARLY_UPDATES = 20_000
"""Updates of one symbol held while its snapshot has not come."""

_HOSTS = {
    "fstream.binance.com": BINANCE_USDM,
    "fapi.binance.com": BINANCE_USDM,
    "dstream.binance.com": BINANCE_COINM,
    "dapi.binance.com": BINANCE_COINM,
    "stream.binance.com": BINANCE_SPOT,
}


class _Data(msgspec.Struct):
    """What is read of a Binance message; the rest is passed on as it is."""

    s: str = ""
    first: int = msgspec.field(name="U", default=0)
    u: int = 0
    pu: int = -1
    t: int = 0
    b: list[tuple[str, str]] | str = ""
    a: list[tuple[str, str]] | str | int = ""
    bid_quantity: str = msgspec.field(name="B", default="")
    ask_quantity: str = msgspec.field(name="A", default="")
    p: str = ""
    q: str = ""
    m: bool = False
    ps: str = ""
    st: int = 1


class _Frame(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Snapshot(msgspec.Struct):
    last: int = msgspec.field(name="lastUpdateId")
    bids: Levels
    asks: Levels
    symbol: str = ""


class _BybitData(msgspec.Struct):
    s: str
    u: int
    b: Levels
    a: Levels
    seq: int = 0


class _BybitBook(msgspec.Struct):
    topic: str
    type: str
    data: _BybitData


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_decode_bybit_book = msgspec.json.Decoder(_BybitBook).decode


class _Ids:
    """How far one symbol's ids are moved in this loop, and what the next loop must start above."""

    def __init__(self) -> None:
        self.by = 0
        self._first: int | None = None
        self._last = 0

    def moved(self, recorded: int) -> int:
        if recorded <= 0:
            return recorded
        if self._first is None:
            self._first = recorded
        self._last = max(self._last, recorded)
        return recorded + self.by

    def next_loop(self) -> None:
        if self._first is not None:
            self.by += self._last - self._first + ID_MARGIN
        self._first, self._last = None, 0


class FrameReader:
    """Turns one recording's messages into events; lives over all loops.

    Args:
        name: of the recording, for errors.
        venue: whose frames they are; empty: told from the frames.
    """

    def __init__(self, name: str, venue: str) -> None:
        self.name = name
        self.venue = venue
        self.unreadable = 0
        """Frames that were left out because they could not be read."""
        self._update_ids: dict[str, _Ids] = {}
        self._trade_ids: dict[str, _Ids] = {}
        self._early: dict[str, list[tuple[_Data, bytes]]] = {}
        self._snapshots: dict[str, int] = {}
        self._symbol = ""

    def begin_loop(self) -> None:
        """Forget the books; continue the ids."""
        for ids in (*self._update_ids.values(), *self._trade_ids.values()):
            ids.next_loop()
        self._early.clear()
        self._snapshots.clear()

    @property
    def is_complete(self) -> bool:
        """Whether every symbol whose depth was seen has a snapshot."""
        return bool(self._snapshots) and self._early.keys() <= self._snapshots.keys()

    def events(self, message: RecordedMessage) -> Iterator[Event]:
        """Read one message; what is not market data, or cannot be read, is nothing."""
        self.venue = self.venue or _venue_of_url(message.url)
        try:
            if message.kind is RecordedKind.REST:
                yield from self._snapshot(message)
            elif message.kind is RecordedKind.FRAME:
                frames = self._bybit if self.venue in BYBIT_VENUES else self._binance
                yield from frames(message.payload)
        except (msgspec.DecodeError, ValueError):
            self.unreadable += 1

    def _snapshot(self, message: RecordedMessage) -> Iterator[Event]:
        if b'"lastUpdateId"' not in message.payload[:200]:
            return
        snapshot = _decode_snapshot(message.payload)
        asked = parse_qs(urlsplit(message.url).query).get("symbol", [""])[0]
        symbol = snapshot.symbol or asked or self._symbol
        if not symbol or symbol in self._snapshots:
            return
        self.venue = self.venue or BINANCE_SPOT
        self._snapshots[symbol] = snapshot.last
        ids = self._update_ids.setdefault(symbol, _Ids())
        listing = _listing(self.venue, symbol, snapshot.bids, snapshot.asks)
        last = ids.moved(snapshot.last)
        yield BookReset(self.venue, symbol, last, snapshot.bids, snapshot.asks, listing)
        for data, raw in self._early.get(symbol, []):
            yield from self._depth(data, raw)

    def _binance(self, payload: bytes) -> Iterator[Event]:
        frame = _decode_frame(payload)
        name, raw = frame.stream, bytes(frame.data)
        kind = name.partition("@")[2].partition("@")[0]
        if kind not in ("depth", "trade", "bookTicker", "aggTrade"):
            symbol = name.partition("@")[0].upper()
            if self.venue:
                yield RecordedFrame(self.venue, symbol, kind, raw)
            return
        data = _decode_data(raw)
        if kind == "depth":
            self._symbol = data.s
            self.venue = self.venue or _venue_of_depth(data)
            yield from self._depth(data, raw)
        elif self.venue:
            yield self._simple(kind, data, raw)

    def _simple(self, kind: str, data: _Data, raw: bytes) -> Event:
        if kind == "bookTicker":
            ids = self._update_ids.setdefault(data.s, _Ids())
            update_id = ids.moved(data.u)
            raw = binance.shifted(raw, kind, ids.by)
            bid, ask = str(data.b), str(data.a)
            return Quote(self.venue, data.s, update_id, bid, data.bid_quantity, ask, data.ask_quantity, raw)
        ids = self._trade_ids.setdefault(data.s, _Ids())
        number = ids.moved(data.t if kind == "trade" else int(str(data.a)))
        raw = binance.shifted(raw, kind, ids.by)
        if kind == "aggTrade":
            return RecordedFrame(self.venue, data.s, kind, raw)
        return Print(self.venue, data.s, number, data.p, data.q, data.m, raw)

    def _depth(self, data: _Data, raw: bytes) -> Iterator[Event]:
        last = self._snapshots.get(data.s)
        if last is None:
            self._early.setdefault(data.s, []).append((data, raw))
            if len(self._early[data.s]) > MAX_EARLY_UPDATES:
                raise ConfigurationError(
                    "no snapshot", field="recording", value=self.name, rule=f"one for {data.s}"
                )
            return
        if data.u < last or isinstance(data.b, str) or not isinstance(data.a, list):
            return
        ids = self._update_ids.setdefault(data.s, _Ids())
        first, final = ids.moved(data.first), ids.moved(data.u)
        previous = ids.moved(data.pu)
        raw = binance.shifted(raw, "depth", ids.by)
        yield Depth(self.venue, data.s, first, final, previous, data.b, data.a, raw)

    def _bybit(self, payload: bytes) -> Iterator[Event]:
        prefix, topic, tail = _bybit_parts(payload)
        stream = topic_of(topic)
        if not prefix or stream is None:
            return
        symbol, kind = stream
        if not kind.startswith("orderbook."):
            yield RecordedFrame(self.venue, symbol, kind, tail)
            return
        book = _decode_bybit_book(payload)
        self._early.setdefault(symbol, [])
        if kind == "orderbook.1":
            return
        data = book.data
        if book.type == "snapshot" or data.u == 1:
            self._snapshots[symbol] = data.u
            listing = _listing(self.venue, symbol, data.b, data.a)
            last = self._update_ids.setdefault(symbol, _Ids()).moved(data.u)
            yield BookReset(self.venue, symbol, last, data.b, data.a, listing)
        elif symbol in self._snapshots:
            last = self._update_ids[symbol].moved(data.u)
            yield Depth(self.venue, symbol, last, last, last - 1, data.b, data.a)


def _bybit_parts(payload: bytes) -> tuple[bytes, str, bytes]:
    opening, quote, rest = payload.partition(b'{"topic":"')
    topic, comma, tail = rest.partition(b'",')
    return (quote, topic.decode(), tail) if not opening and comma else (b"", "", b"")


def _venue_of_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.startswith("stream.bybit"):
        return {"linear": BYBIT_LINEAR, "spot": BYBIT_SPOT}.get(parts.path.rpartition("/")[2], "")
    return _HOSTS.get(host, "")


def _venue_of_depth(data: _Data) -> str:
    """Only futures chain by ``pu``; only COIN-M named its pair before 2026, and ``st`` tells since."""
    if data.pu < 0:
        return BINANCE_SPOT
    coin_margined = data.st == 2 or (data.ps != "" and "_" in data.s)  # noqa: PLR2004 - the venue's number
    return BINANCE_COINM if coin_margined else BINANCE_USDM


def _listing(venue: str, symbol: str, bids: Levels, asks: Levels) -> Listing:
    """The coarsest grid that the snapshot's values lie on."""
    levels = [*bids, *asks]
    grid = Grid.inferred([price for price, _ in levels], [quantity for _, quantity in levels])
    return Listing(venue, symbol, grid.tick_size, grid.lot_step)
