"""Port: sockets and requests, as the services see them."""

from __future__ import annotations

from typing import Protocol

from bookrunner.engine.ports.venue_feed import ConnectionPlan, ConnectionPolicy, RestRequest


class StreamListener(Protocol):
    """What a stream connection tells its owner; called on the loop."""

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

    reconnects: int

    async def run(self) -> None:
        """Connect and stay connected until ``close``; raise when ``max_retries`` is spent."""
        ...

    def send(self, message: bytes) -> None:
        """Queue a message; the transport paces by the venue's rule. Dropped while disconnected."""
        ...

    def reconnect(self, reason: str) -> None:
        """Cut the connection and make a new one."""
        ...

    async def close(self) -> None:
        """Stop for good, closing cleanly."""
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
            RequestTimeoutError, ConnectionLostError: likewise.
            VenueRejectError: another status; not retried.
        """
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...
