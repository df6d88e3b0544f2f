"""Port: the append-only log of everything that came in."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class RecordKind(IntEnum):
    """What a journal record holds; the numbers are the format's and never change meaning."""

    SOURCE = 1
    """Names a source id: payload is JSON ``{"source":id,"name":…,"url":…}``."""
    FRAME = 2
    """A WebSocket message as received."""
    REST_RESPONSE = 3
    """Payload is the request's path and query, a newline, then the body as received."""
    SENT = 4
    """A WebSocket message that we sent."""
    CONNECTED = 5
    DISCONNECTED = 6
    """Payload is the reason."""
    NOTE = 7
    """Evidence: JSON such as ``{"event":"gap","symbol":…,"expected":…,"received":…}``."""


class RawJournal(Protocol):
    """Append now, durable soon: group commit with a watermark."""

    def register_source(self, name: str, url: str) -> int:
        """Return the id that records of this connection carry, journaling a SOURCE record for it."""
        ...

    def append(self, kind: int, source: int, ts_recv_ns: int, payload: bytes) -> int:
        """Append one record and return its sequence number (gapless, from 1).

        Never blocks: the record is in memory until the next group commit.

        Raises:
            JournalFullError: the append buffer is at its bound, because the disk does not keep up.
        """
        ...

    @property
    def durable_sequence(self) -> int:
        """Every record up to and including this one survives ``kill -9`` (and, after fsync, power loss)."""
        ...
