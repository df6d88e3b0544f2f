"""Settings of the market-data WebSocket: every limit, timeout and interval by name."""

from __future__ import annotations

import msgspec

from bookrunner.core.errors import ConfigurationError
from bookrunner.wire.client_request import RequestLimits

FRAME_BYTES_MIN = 512
"""Smallest useful bound of a client's message."""


class FanoutSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What clients get, what they may ask for, and what they may cost.

    Raises:
        ConfigurationError: a value breaks its rule.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    """0 picks a free one."""
    compression: bool = True
    """Accept permessage-deflate when a client offers it."""

    depth: int = 5
    """Levels a side that a client gets unless it asks for others."""
    depth_max: int = 100
    throttle_ms: int = 1_000
    """Time between book updates to one client, unless it asks for another."""
    throttle_min_ms: int = 50
    throttle_max_ms: int = 60_000
    slot_ms: int = 5
    """Clients are spread over time slots of this length; a throttle is a whole number of slots."""
    clients_per_slot: int = 32
    """Clients of one subscription that share a slot, and so one encoding, before another slot is opened."""
    heartbeat_s: float = 15.0
    metrics_s: float = 1.0
    """Time between metrics messages."""

    clients_max: int = 4_096
    """Connected clients; more are refused with HTTP 503."""
    handshakes_max: int = 256
    """Connections that have not completed their handshake; more are closed at once."""
    handshake_timeout_s: float = 5.0
    request_bytes_max: int = 32_768
    """Longest message from a client, inflated; more closes with 1009."""
    requests_per_second: int = 20
    """Messages and control frames a client may send in the long run; more closes with 1008."""
    requests_burst: int = 100
    subscriptions_max: int = 512
    """Topics (kind, venue, symbol) that one client may hold."""

    queue_messages: int = 4_096
    """Messages waiting for one client; more and it lags."""
    queue_bytes: int = 1_048_576
    """Likewise in bytes, a shared body counted by its share."""
    lag_after_s: float = 2.0
    """A client whose socket takes nothing for so long lags, whatever is waiting."""
    stall_timeout_s: float = 30.0
    """A client whose socket takes nothing for so long is cut."""
    silence_timeout_s: float = 60.0
    """A client from which nothing came for so long, not even the answer to a ping, is cut."""
    socket_buffer_bytes: int = 131_072
    """The kernel's send buffer for one client: what is in it is already old."""
    write_buffer_bytes: int = 65_536
    """What may wait in the process beyond it before the client counts as not taking."""

    resume_s: float = 30.0
    """How long a session outlives its connection."""
    resume_messages: int = 4_096
    """Messages kept for a client that reconnects."""
    resume_bytes: int = 32_768
    """Likewise in bytes, a shared body counted by its share."""
    sessions_detached_max: int = 1_024
    """Sessions kept without a connection; the longest gone goes first."""

    sends_per_turn: int = 32
    """Frames of each lane sent before the loop may do other work."""
    deliveries_max: int = 4_096
    """Messages waiting in one lane to be sent to their clients; those of a refused one lag."""
    drain_timeout_s: float = 1.0
    """Time given at the end to what is still to be sent."""
    close_timeout_s: float = 1.0
    """Time given to a client to answer a close frame."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            low = 0 if name in {"port", "resume_s", "resume_messages", "resume_bytes"} else None
            if name not in {"host", "compression"} and (value < low if low is not None else value <= 0):
                self._refuse(name, "at least 0" if low is not None else "above 0")
        if not self.throttle_min_ms <= self.throttle_ms <= self.throttle_max_ms:
            self._refuse("throttle_ms", f"between {self.throttle_min_ms} and {self.throttle_max_ms}")
        if self.slot_ms > self.throttle_min_ms:
            self._refuse("slot_ms", f"at most throttle_min_ms ({self.throttle_min_ms})")
        if self.depth > self.depth_max:
            self._refuse("depth", f"at most depth_max ({self.depth_max})")
        if self.request_bytes_max < FRAME_BYTES_MIN:
            self._refuse("request_bytes_max", f"at least {FRAME_BYTES_MIN}")

    def _refuse(self, field: str, rule: str) -> None:
        raise ConfigurationError(
            "a fan-out setting is wrong", field=f"fanout.{field}", value=getattr(self, field), rule=rule
        )

    @property
    def request_limits(self) -> RequestLimits:
        """What a request may ask for."""
        return RequestLimits(
            depth_max=self.depth_max,
            throttle_min_ms=self.throttle_min_ms,
            throttle_max_ms=self.throttle_max_ms,
            subscriptions_max=self.subscriptions_max,
        )

    @property
    def announced_limits(self) -> dict[str, int]:
        """The limits that a welcome states."""
        return {
            "depth_max": self.depth_max,
            "throttle_min_ms": self.throttle_min_ms,
            "throttle_max_ms": self.throttle_max_ms,
            "subscriptions_max": self.subscriptions_max,
            "request_bytes_max": self.request_bytes_max,
            "requests_per_second": self.requests_per_second,
            "queue_messages": self.queue_messages,
        }
