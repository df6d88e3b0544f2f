"""Fragmented WebSocket messages (RFC 6455, section 5.4), joined within a bound."""

from __future__ import annotations

from bookrunner.core.errors import MalformedFrameError, MessageTooLargeError


class FragmentJoiner:
    """Collects the fragments of one message at a time.

    Args:
        limit_bytes: the largest message that is taken; after more, the connection should be closed with 1009.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._collected: bytearray | None = None

    @property
    def joining(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._collected is not None

    def add(self, payload: bytes, *, continuation: bool, final: bool) -> bytes | None:
        """Take one data frame; return the whole message once its last frame is in, else ``None``.

        Raises:
            MalformedFrameError: a continuation of nothing, or a new message inside an unfinished one.
            MessageTooLargeError: the message passes the bound. Nothing is kept after an error.
        """
        collected, self._collected = self._collected, None
        if continuation != (collected is not None):
            raise MalformedFrameError("fragments out of order", continuation=continuation)
        size_bytes = len(payload) + len(collected or b"")
        if size_bytes > self._limit_bytes:
            raise MessageTooLargeError(
                "message too large", limit_bytes=self._limit_bytes, size_bytes=size_bytes
            )
        if final:
            return bytes(collected + payload) if collected is not None else payload
        collected = bytearray() if collected is None else collected
        collected += payload
        self._collected = collected
        return None
