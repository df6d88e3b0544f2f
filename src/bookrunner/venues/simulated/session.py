"""One client connection as a conversation without a socket: bytes in, actions out."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Say(msgspec.Struct, frozen=True):
    """Send this control message."""

    payload: bytes


class Subscribe(msgspec.Struct, frozen=True):
    """Begin to send a stream, named as the client named it."""

    name: str
    symbol: str
    kind: str


class Unsubscribe(msgspec.Struct, frozen=True):
    """Stop sending a stream."""

    name: str


Action = Say | Subscribe | Unsubscribe


class ConnectionRules(msgspec.Struct, frozen=True):
    """What the venue demands of a connection; durations in the venue's seconds."""

    ping_interval_s: float
    """Between the server's pings; 0: it sends none."""
    silence_s: float
    """Without a pong (or, where the client pings, without any message) for longer the venue cuts."""
    messages_per_second: int
    """Incoming messages of every type; 0: not limited."""
    lifetime_s: float
    """Age at which the venue cuts; 0: never."""


class Session(Protocol):
    """A venue's side of one connection."""

    venue: str
    rules: ConnectionRules
    answers_pings: bool
    """``False`` only by a fault."""

    def opened(self) -> list[Action]:
        """Return what the URL itself asks for."""
        ...

    def received(self, message: bytes) -> list[Action]:
        """Answer one text message; never raises on bad bytes."""
        ...

    def wrapped(self, name: str, payload: bytes) -> bytes:
        """Return a stream's payload as this connection's frame."""
        ...
