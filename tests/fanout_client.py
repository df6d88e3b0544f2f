"""Clients without sockets: a link that records what it is handed, and the rules that a client lives by."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from bookrunner.fanout.outbox import Left
from bookrunner.fanout.publisher import Publisher
from bookrunner.fanout.requests import RequestDesk
from bookrunner.fanout.session import CloseCode, Session
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.wire.client_message import WireForm
from bookrunner.wire.client_request import Opening, Request, Subscribe
from fanout_scene import Market, three_books, tokens

Top = tuple[list[list[str]], list[list[str]]]
NOTHING_ASKED = Opening(None, None)
MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
QUIET = FanoutSettings(port=0, metrics_s=3_600, heartbeat_s=3_600)


def decode_frame(payload: bytes, *, binary: bool, compressed: bool) -> dict[str, Any]:
    """Read a frame as any client would."""
    if compressed:
        payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
    decoded: dict[str, Any] = msgspec.msgpack.decode(payload) if binary else msgspec.json.decode(payload)
    return decoded


class ClientView:
    """What a client believes, following the documented rules; raises when the server breaks one."""

    def __init__(self) -> None:
        self.sequence = 0
        self.tops: dict[tuple[str, str], Top] = {}
        self.states: dict[tuple[str, str], str] = {}
        self.trades: dict[tuple[str, str], list[str]] = {}
        self.lagged: list[dict[str, Any]] = []
        self.token = ""
        self._snapshot_due = False

    def take(self, message: dict[str, Any]) -> None:
        kind, sequence = message["type"], message["sequence"]
        if kind == "resumed":
            assert sequence == self.sequence, "resumed repeats the client's own number"
            assert message["from"] == sequence + 1
            return
        if kind == "lagged":
            assert message["from"] == self.sequence + 1, "the announced gap begins where the client is"
            assert sequence == message["to"] + 1, "and ends just before the announcement"
            self.lagged.append(message)
            self._snapshot_due = True
        elif kind == "welcome":
            self.__init__()  # type: ignore[misc]
            self.token = message["session"]
            assert sequence == 1
        else:
            assert sequence == self.sequence + 1, f"{kind} {sequence} after {self.sequence}"
            assert kind == "snapshot" or not self._snapshot_due, "a snapshot follows at once"
            self._apply(kind, message)
        self.sequence = sequence

    def _apply(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "snapshot":
            self._snapshot_due = False
            self.tops.clear()
            self.states.clear()
        if kind in {"snapshot", "books"}:
            for book in message["books"]:
                name = book["venue"], book["symbol"]
                self.states[name] = book["state"]
                assert book["state"] == "live" or kind == "snapshot", "books are live"
                assert book["state"] == "live" or not (book["bids"] or book["asks"]), "else without levels"
                if book["state"] == "live":
                    self.tops[name] = (book["bids"], book["asks"])
        elif kind == "state":
            name = message["venue"], message["symbol"]
            self.states[name] = message["state"]
            if message["state"] != "live":
                self.tops.pop(name, None)
        elif kind == "trades":
            trades = self.trades.setdefault((message["venue"], message["symbol"]), [])
            trades += [trade["id"] for trade in message["trades"]]


class RecordedLink:
    """A connection whose socket the test opens and shuts."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.writable = True
        self.session: Session | None = None
        self.frames: list[tuple[bytes, bool, bool]] = []
        self.closed: tuple[CloseCode, str] | None = None
        self.is_cut = False
        self.room: int | None = None
        """Frames that the socket still takes; ``None``: any number."""

    def send(self, payload: bytes, *, binary: bool, compressed: bool) -> None:
        assert self.closed is None
        self.frames.append((payload, binary, compressed))
        if self.room is not None:
            self.room -= 1
            if self.room <= 0:
                self.block()

    def block(self) -> None:
        self.writable = False
        if self.session is not None:
            self.publisher.on_blocked(self.session)

    def unblock(self, room: int | None = None) -> None:
        self.room = room
        self.writable = True
        if self.session is not None:
            self.publisher.on_writable(self.session)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = (code, reason)

    def cut(self) -> None:
        self.is_cut = True

    def take(self) -> list[dict[str, Any]]:
        """Return and forget what came."""
        frames, self.frames = self.frames, []
        return [
            decode_frame(payload, binary=binary, compressed=compressed)
            for payload, binary, compressed in frames
        ]


class Client:
    """A client without a socket."""

    def __init__(
        self,
        publisher: Publisher,
        opening: Opening = NOTHING_ASKED,
        form: WireForm | None = None,
    ) -> None:
        self.publisher = publisher
        self.desk = RequestDesk(publisher)
        self.form = form or WireForm()
        self.view = ClientView()
        self.link = RecordedLink(publisher)
        self.connect(opening)

    def connect(self, opening: Opening) -> None:
        self.link = RecordedLink(self.publisher)
        self.link.session = self.desk.connect(self.link, self.form, opening)

    @property
    def session(self) -> Session:
        assert self.link.session is not None
        return self.link.session

    def ask(self, request: Request) -> None:
        self.link.session = self.desk.handle(self.session, self.link, request)

    def disconnect(self) -> None:
        session, self.link.session = self.link.session, None
        if session is not None and session.link is self.link:
            self.publisher.detach(session)

    def read(self) -> list[dict[str, Any]]:
        """Take what came, checking the rules; return it."""
        messages = self.link.take()
        for message in messages:
            self.view.take(message)
        return messages

    def kinds(self) -> list[str]:
        return [message["type"] for message in self.read()]


class Scene:
    """A market, a publisher, and time."""

    def __init__(self, settings: FanoutSettings = QUIET, market: Market | None = None) -> None:
        self.market = market or three_books()
        self.metrics: Mapping[str, Any] = {"messages_per_second": 1.0}
        self.latencies_ns: list[int] = []
        self.publisher = Publisher(
            self.market.books,
            lambda: self.metrics,
            settings,
            self.market.clock,
            tokens(),
            self.latencies_ns.append,
        )
        self.market.sink = self.publisher
        self.publisher.refresh_metrics()
        self.publisher.tick()
        self.pump()

    def pump(self) -> None:
        while self.publisher.turn() is not Left.NOTHING:
            pass

    def advance(self, milliseconds: int, step: int = 5) -> None:
        for _ in range(0, milliseconds, step):
            self.market.clock.advance(step * MILLISECOND)
            self.publisher.tick()
            self.pump()

    def client(self, opening: Opening | None = None, form: WireForm | None = None) -> Client:
        client = Client(self.publisher, opening or Opening(None, None), form)
        assert client.kinds() == ["welcome", "snapshot"]
        return client

    def subscriber(self, **wanted: Any) -> Client:
        return self.client(Opening(Subscribe(**wanted), None))
