"""Port: sockets and requests, as the services see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bookrunner.engine.ports.venue_feed import ConnectionPlan, ConnectionPolicy, RateLimit, RestRequest

__all__ = ["RateLimit", "RestClient", "StreamClient", "StreamClientFactory", "StreamListener", "StreamStats"]


@dataclass(slots=True)
class StreamStats:
    """Counters of one reconnecting connection since it was made; read them, do not write them.

    A slotted class rather than a Struct: three of these are written for every message, and slots are fastest.
    """

    connects: int = 0
    """Handshakes that succeeded."""
    reconnects: int = 0
    """Those after the first."""
    messages: int = 0
    bytes: int = 0
    """Payload bytes of ``messages``."""
    sent: int = 0
    """Messages and pings that we sent."""
    last_data_ns: int = 0
    """Wall time of the last message; 0 before the first."""
    errors: dict[str, int] = field(default_factory=dict)
    """Error and disconnect counts by kind."""

    def count_message(self, size: int, ts_recv_ns: int) -> None:
        """Count one message of ``size`` bytes."""
        self.messages += 1
        self.bytes += size
        self.last_data_ns = ts_recv_ns

    def count_error(self, kind: str) -> None:
        """Add one to the errors of this kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1


class StreamListener(Protocol):
    """What a stream connection tells its owner; called on the loop.

    A listener that raises stops its client for good: ``run`` raises the listener's error.
    """

    def on_connected(self) -> list[bytes]:
        """Return the messages to send first (subscriptions); the transport paces them."""
        ...

    def on_message(self, message: bytes, ts_recv_ns: int) -> None:
        """One whole message (fragments joined), stamped on receipt."""
        ...

    def on_disconnected(self, reason: str) -> None:
        """The connection is gone; another will be made unless the client is closing."""
        ...


class StreamClient(Protocol):
    """One reconnecting connection."""

    stats: StreamStats

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""
        ...

    async def run(self) -> None:
        """Connect and stay connected until ``close``. Cancelling is safe at any point.

        Raises:
            ConnectionLostError: ``max_retries`` is spent.
        """
        ...

    def send(self, message: bytes) -> None:
        """Queue a message; the transport paces by the venue's rule.

        Dropped, with a count, while disconnected and when the bounded queue is full.
        """
        ...

    def reconnect(self, reason: str) -> None:
        """Cut the connection and make a new one; does nothing while there is none."""
        ...

    async def close(self) -> None:
        """Stop for good: close frame, bounded wait, and ``run`` has returned when this returns."""
        ...


class StreamClientFactory(Protocol):
    """Makes clients; the composition root hands it to the services."""

    def __call__(
        self, plan: ConnectionPlan, policy: ConnectionPolicy, listener: StreamListener
    ) -> StreamClient:
        """Return a client that is not yet running."""
        ...


class RestClient(Protocol):
    """GETs behind the venue's limits."""

    async def get(self, request: RestRequest, *, priority: int = 0) -> bytes:
        """Return the body of a 200 answer; lower ``priority`` goes first.

        Raises:
            RateLimitedError, BannedError: after the retries allowed.
            RequestTimeoutError, ConnectionLostError, VenueUnavailableError: likewise.
            VenueRejectError: another status; not retried.
            MessageTooLargeError: the body passes the client's bound; not retried.
        """
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...
