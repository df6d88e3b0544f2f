"""Streams that should bring data and do not.

An acknowledged subscription proves nothing, and neither does an answered ping: a wrong route is acknowledged
and stays empty, and a half-dead socket pongs for hours. The only evidence is the last data of each stream.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Silence(StrEnum):
    """How a stream is silent."""

    NEVER_ANY_DATA = "never_any_data"
    """Nothing since it was subscribed."""
    WENT_SILENT = "went_silent"
    """There was data, and then no more."""


class _Watched(msgspec.Struct):
    allowed_ns: int
    since_ns: int
    """Last data, or the subscription while there was none."""
    any_data: bool = False


class SilenceWatch:
    """Last data time of each stream of one connection; all times are monotonic nanoseconds.

    ``on_data`` is called for every message and only remembers the key. The time is taken when ``overdue`` is
    asked, so it is as fine as the watchdog's tick.
    """

    def __init__(self) -> None:
        self._streams: dict[bytes, _Watched] = {}
        self._seen: set[bytes] = set()
        self.on_data = self._seen.add
        """Say that the stream with this key brought a message; ignored where it is not watched."""

    def subscribed(self, key: bytes, silence_ns: int, now_ns: int) -> None:
        """Begin to watch a stream, or begin anew: it was subscribed, or its subscription acknowledged, now.

        Args:
            key: the stream's key.
            silence_ns: how long it may bring nothing.
            now_ns: monotonic time.
        """
        self._seen.discard(key)
        self._streams[key] = _Watched(silence_ns, now_ns)

    def unsubscribed(self, key: bytes) -> None:
        """Watch the stream no longer."""
        self._streams.pop(key, None)

    def clear(self) -> None:
        """Watch nothing: the connection is gone."""
        self._streams.clear()
        self._seen.clear()

    def overdue(self, now_ns: int) -> list[tuple[bytes, Silence]]:
        """Return the streams that have been silent for longer than they may, in the order of subscription."""
        for key in self._seen:
            watched = self._streams.get(key)
            if watched is not None:
                watched.since_ns = now_ns
                watched.any_data = True
        self._seen.clear()
        return [
            (key, Silence.WENT_SILENT if watched.any_data else Silence.NEVER_ANY_DATA)
            for key, watched in self._streams.items()
            if now_ns - watched.since_ns > watched.allowed_ns
        ]
