"""Messages to market-data clients: their shapes, and their bytes shared by many clients.

A message goes to a client as its number followed by a body that does not depend on the client. The body is
encoded (and compressed) once and the number is put in front for each client:

    JSON         {"sequence":N,          + the body's members and closing brace
    MessagePack  map header, "sequence", uint64 N   + the body's members
    deflate      a stored block with the JSON or MessagePack beginning  + the body's compressed blocks

The shapes are documented with examples in ``docs/market-data-api.md``; a test keeps both equal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from bookrunner.wire.client_deflate import COMPRESS_FROM_BYTES, deflate_body, stored_block

PriceLevel = tuple[str, str]
"""Price and quantity as exact decimal text."""
VenueLevel = tuple[str, str, str]
"""Price, quantity, and the venue that the level is from."""


class Encoding(StrEnum):
    """How messages are written."""

    JSON = "json"
    MSGPACK = "msgpack"


class Kind(StrEnum):
    """What a client may subscribe to. State messages go with every kind that names books."""

    BOOKS = "books"
    CONSOLIDATED = "consolidated"
    TRADES = "trades"
    METRICS = "metrics"


class WireForm(msgspec.Struct, frozen=True):
    """What a connection negotiated."""

    encoding: Encoding = Encoding.JSON
    compressed: bool = False


# --- parts of messages ------------------------------------------------------------------------------------


class BookView(msgspec.Struct, frozen=True, gc=False):
    """The top of one book, best first; without levels unless its state is ``live``."""

    venue: str
    symbol: str
    state: str
    last_update_id: int
    ts_recv_ns: int
    """When the newest update in it was received, ns UTC; 0 before the first."""
    bids: list[PriceLevel]
    asks: list[PriceLevel]


class ConsolidatedView(msgspec.Struct, frozen=True, gc=False):
    """The joined top of one pair's live books, best first."""

    pair: str
    venues: tuple[str, ...]
    """Venues whose books were live and so counted."""
    bids: list[VenueLevel]
    asks: list[VenueLevel]


class TradeView(msgspec.Struct, frozen=True, gc=False):
    """One trade."""

    id: str
    price: str
    quantity: str
    side: str
    """The taker's side: ``buy`` or ``sell``."""
    ts_event_ns: int
    ts_match_ns: int


class SubscriptionView(msgspec.Struct, frozen=True, gc=False):
    """What a client receives; ``*`` stands for all."""

    topics: list[tuple[str, str, str]]
    """``(kind, venue, symbol)``."""
    depth: int
    throttle_ms: int


class BookListing(msgspec.Struct, frozen=True, gc=False):
    """One book that may be subscribed to."""

    venue: str
    symbol: str
    pair: str
    state: str


class ErrorDetails(msgspec.Struct, frozen=True, gc=False):
    """What was wrong: the field, its value (shortened), and the rule that it breaks."""

    field: str
    value: Any
    rule: str


class ErrorBody(msgspec.Struct, frozen=True, gc=False):
    """A stable code for programs, a sentence for people."""

    code: str
    message: str
    details: ErrorDetails


# --- messages ---------------------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    """One message to a client, without its number."""


class Welcome(Message, frozen=True, gc=False, tag="welcome"):
    """The first message of a session: its token, and the terms."""

    session: str
    ts_ns: int
    encoding: str
    compressed: bool
    heartbeat_ms: int
    resume_ms: int
    """How long a session outlives its connection."""
    subscription: SubscriptionView
    limits: dict[str, int]
    resume_refused: str | None = None
    """Why a session named in the connection's address could not be resumed."""


class Snapshot(Message, frozen=True, gc=False, tag="snapshot"):
    """Everything that the client is subscribed to, as it is now."""

    ts_ns: int
    books: list[msgspec.Raw]
    consolidated: list[msgspec.Raw]
    metrics: msgspec.Raw | None


class Books(Message, frozen=True, gc=False, tag="books"):
    """The books that changed since the last such message, each as it is now."""

    ts_ns: int
    books: list[msgspec.Raw]
    consolidated: list[msgspec.Raw]


class Trades(Message, frozen=True, gc=False, tag="trades"):
    """Trades of one book, in the venue's order."""

    venue: str
    symbol: str
    ts_recv_ns: int
    trades: list[TradeView]


class Metrics(Message, frozen=True, gc=False, tag="metrics"):
    """The server's figures."""

    ts_ns: int
    metrics: msgspec.Raw


class State(Message, frozen=True, gc=False, tag="state"):
    """A book became live, syncing, stale or closed."""

    venue: str
    symbol: str
    state: str
    reason: str
    ts_ns: int


class Heartbeat(Message, frozen=True, gc=False, tag="heartbeat"):
    """Sent at a fixed interval, so that silence means a broken connection."""

    ts_ns: int


class Lagged(Message, frozen=True, gc=False, tag="lagged", rename={"first": "from", "last": "to"}):
    """Messages ``from`` to ``to`` will not come; a snapshot follows.

    When ``from`` is ``to + 1`` no numbered message was dropped, only book updates in between.
    """

    first: int
    last: int
    reason: str
    """``queue`` (too much waiting), ``stalled`` (nothing taken for too long), ``overload``, ``expired``."""


class Subscribed(Message, frozen=True, gc=False, tag="subscribed"):
    """The answer to subscribe and unsubscribe: all that the client now receives."""

    id: str | int | None
    subscription: SubscriptionView


class Resumed(Message, frozen=True, gc=False, tag="resumed", rename={"first": "from", "last": "to"}):
    """The session goes on: messages ``from`` to ``to`` follow. Carries the client's own last number."""

    session: str
    first: int
    last: int
    subscription: SubscriptionView


class Pong(Message, frozen=True, gc=False, tag="pong"):
    """The answer to ping."""

    id: str | int | None
    ts_ns: int


class Listing(Message, frozen=True, gc=False, tag="list"):
    """The answer to list."""

    id: str | int | None
    books: list[BookListing]


class Error(Message, frozen=True, gc=False, tag="error"):
    """A request was refused, or broke a limit."""

    id: str | int | None
    error: ErrorBody


# --- bytes ------------------------------------------------------------------------------------------------

_JSON = msgspec.json.Encoder()
_MSGPACK = msgspec.msgpack.Encoder()
_FIXMAP = 0x80
_FIXMAP_ENTRIES_MAX = 15
_MSGPACK_SEQUENCE = _MSGPACK.encode("sequence") + b"\xcf"
SHARE_OVERHEAD_BYTES = 8
"""What keeping a shared body costs each client beside its share of the bytes: one reference."""


def encode_part(part: object, encoding: Encoding) -> msgspec.Raw:
    """Encode a part of a message by itself, to be placed into many messages."""
    return msgspec.Raw(_JSON.encode(part) if encoding is Encoding.JSON else _MSGPACK.encode(part))


class Body:
    """One encoded message without its number.

    Args:
        head: what comes before the number.
        tail: what comes after it, compressed if ``compressed``.
        sharers: clients that will hold it, among whom its memory is divided.
    """

    __slots__ = ("compressed", "cost", "encoding", "head", "tail")

    BINARY: ClassVar[dict[Encoding, bool]] = {Encoding.JSON: False, Encoding.MSGPACK: True}

    def __init__(
        self, encoding: Encoding, head: bytes, tail: bytes, sharers: int, *, compressed: bool
    ) -> None:
        self.encoding = encoding
        self.head = head
        self.tail = tail
        self.compressed = compressed
        self.cost = len(tail) // max(sharers, 1) + SHARE_OVERHEAD_BYTES

    @property
    def binary(self) -> bool:
        """Whether it travels in a binary frame."""
        return self.BINARY[self.encoding]

    def numbered(self, sequence: int) -> bytes:
        """Return the payload of one client's frame."""
        if self.encoding is Encoding.JSON:
            prefix = b"%b%d," % (self.head, sequence)
        else:
            prefix = self.head + sequence.to_bytes(8, "big")
        if self.compressed:
            prefix = stored_block(prefix)
        return prefix + self.tail


def encode_body(message: Message, form: WireForm, sharers: int = 1) -> Body:
    """Encode a message for all clients of one form."""
    if form.encoding is Encoding.JSON:
        head, tail = b'{"sequence":', _JSON.encode(message)[1:]
    else:
        encoded = _MSGPACK.encode(message)
        entries = encoded[0] - _FIXMAP + 1
        if not 0 < entries <= _FIXMAP_ENTRIES_MAX:
            raise ValueError(f"a message of {entries} members is no short MessagePack map")
        head, tail = bytes((_FIXMAP + entries,)) + _MSGPACK_SEQUENCE, encoded[1:]
    compressed = form.compressed and len(tail) >= COMPRESS_FROM_BYTES
    if compressed:
        tail = deflate_body(tail)
    return Body(form.encoding, head, tail, sharers, compressed=compressed)


class Publication:
    """One message on its way to many clients: encoded once for each form that they use."""

    __slots__ = ("_bodies", "_sharers", "message")

    def __init__(self, message: Message, sharers: int) -> None:
        self.message = message
        self._sharers = sharers
        self._bodies: dict[WireForm, Body] = {}

    def body(self, form: WireForm) -> Body:
        """Return the body in ``form``."""
        body = self._bodies.get(form)
        if body is None:
            body = self._bodies[form] = encode_body(self.message, form, self._sharers)
        return body
