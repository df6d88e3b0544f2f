"""Why a connection ended, and what that asks of the next attempt."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DisconnectKind(StrEnum):
    """The cases that are treated differently or counted apart."""

    # The peer's doing.
    CLOSED = "closed"
    """A close frame with an ordinary code (1000, 1001, 1005, 1012 …)."""
    POLICY = "policy"
    """Close 1008: we did something the venue forbids, such as too many messages."""
    SERVER_ERROR = "server_error"
    """Close 1011, 1013 or 1014."""
    ABNORMAL = "abnormal"
    """1006: the connection broke without a close frame."""
    # Our doing, for the peer's fault.
    TOO_LARGE = "too_large"
    PROTOCOL = "protocol"
    NO_PONG = "no_pong"
    # There never was a connection.
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_FAILED = "connect_failed"
    HANDSHAKE_REFUSED = "handshake_refused"
    RATE_LIMITED = "rate_limited"
    BANNED = "banned"
    # Our own wish.
    LIFETIME = "lifetime"
    """Ended on schedule, before the venue would have cut."""
    REQUESTED = "requested"
    CLOSING = "closing"
    LISTENER_FAILED = "listener_failed"


MINIMUM_WAIT_S: dict[DisconnectKind, float] = {
    DisconnectKind.POLICY: 10.0,
    DisconnectKind.RATE_LIMITED: 10.0,
    DisconnectKind.BANNED: 120.0,
}
"""Waited before the backoff where retrying soon makes matters worse: a venue bans who insists."""

CLOSE_CODES: dict[DisconnectKind, int] = {
    DisconnectKind.TOO_LARGE: 1009,
    DisconnectKind.PROTOCOL: 1002,
    DisconnectKind.NO_PONG: 1001,
    DisconnectKind.LISTENER_FAILED: 1011,
}
"""What our close frame says; 1000 where nothing is named."""

_NO_CODE = 1005
"""What RFC 6455 (7.1.5) calls a close frame without a code."""
_LOST_CODE = 1006
_KINDS_BY_CODE = {
    1002: DisconnectKind.PROTOCOL,
    1006: DisconnectKind.ABNORMAL,
    1007: DisconnectKind.PROTOCOL,
    1008: DisconnectKind.POLICY,
    1009: DisconnectKind.TOO_LARGE,
    1011: DisconnectKind.SERVER_ERROR,
    1013: DisconnectKind.SERVER_ERROR,
    1014: DisconnectKind.SERVER_ERROR,
}
_KINDS_BY_STATUS = {
    403: DisconnectKind.BANNED,
    418: DisconnectKind.BANNED,
    429: DisconnectKind.RATE_LIMITED,
}


class Disconnect(msgspec.Struct, frozen=True):
    """The end of a connection, or of an attempt at one."""

    kind: DisconnectKind
    code: int = 0
    """Close code or HTTP status; 0 where there is neither."""
    detail: str = ""
    retry_after_s: float = 0.0
    """What the venue asked for, where it said."""

    @property
    def minimum_wait_s(self) -> float:
        """Return how long to wait at least before the next attempt."""
        return max(self.retry_after_s, MINIMUM_WAIT_S.get(self.kind, 0.0))

    @property
    def close_code(self) -> int:
        """Return the code that our own close frame carries."""
        return CLOSE_CODES.get(self.kind, 1000)

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.code or "", self.detail) if part)


LOST = Disconnect(DisconnectKind.ABNORMAL, _LOST_CODE)
"""The connection broke without a close frame."""


def closed_by_peer(code: int, reason: str) -> Disconnect:
    """Classify a close frame; ``code`` is 0 where the frame carried none."""
    code = code or _NO_CODE
    return Disconnect(_KINDS_BY_CODE.get(code, DisconnectKind.CLOSED), code, reason)


def refused(status: int, retry_after_s: float) -> Disconnect:
    """Classify an HTTP answer other than 101 to the handshake."""
    kind = _KINDS_BY_STATUS.get(status, DisconnectKind.HANDSHAKE_REFUSED)
    return Disconnect(kind, status, retry_after_s=retry_after_s)
