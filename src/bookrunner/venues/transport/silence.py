"""Streams that should bring data and do not.

An acknowledged subscription proves nothing, and neither does an answered ping: a wrong route is acknowledged
and stays empty, and a half-dead socket pongs for hours. The only evidence is the last data of each stream.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_SECOND


class Silence(StrEnum):
    """How a stream is silent."""

    NEVER_ANY_DATA = "never_any_data"
    """Nothing since it was subscribed."""
    WENT_SILENT = "went_silent"
    """There was data, and then no more."""


class _Watched(msgspec.Struct):
    allowed_ns: int
    since_ns: int
    """Last data, or the subscription when there was none."""
    count: int
    """Messages that the stream had brought when last looked at."""
    any_data: bool = False


class SilenceWatch:
    """Last data time of each stream of one connection; all times are monotonic nanoseconds.

    Args:
        silence_s: how long a stream may bring nothing, unless ``subscribed`` is told otherwise.
    """

    def __init__(self, silence_s: float) -> None:
        self._allowed_ns = int(silence_s * NANOSECONDS_PER_SECOND)
        self._streams: dict[bytes, _Watched] = {}

    def subscribed(self, key: bytes, now_ns: int, *, count: int = 0, silence_s: float | None = None) -> None:
        """Begin to watch a stream, or begin anew: it was subscribed, or its subscription acknowledged, now.

        ``count`` is where ``on_count`` starts from.
        """
        allowed_ns = self._allowed_ns if silence_s is None else int(silence_s * NANOSECONDS_PER_SECOND)
        self._streams[key] = _Watched(allowed_ns, now_ns, count)

    def unsubscribed(self, key: bytes) -> None:
        """Watch the stream no longer."""
        self._streams.pop(key, None)

    def clear(self) -> None:
        """Watch nothing: the connection is gone."""
        self._streams.clear()

    def on_data(self, key: bytes, now_ns: int) -> None:
        """The stream brought a message now. Streams that are not watched are ignored."""
        watched = self._streams.get(key)
        if watched is not None:
            watched.since_ns = now_ns
            watched.any_data = True

    def on_count(self, key: bytes, count: int, now_ns: int) -> None:
        """Say how many messages the stream has brought in all; a change means data since the last time asked.

        The cheap form of ``on_data`` for streams that already count: called at the watchdog's tick.
        """
        watched = self._streams.get(key)
        if watched is not None and count != watched.count:
            watched.since_ns = now_ns
            watched.count = count
            watched.any_data = True

    def overdue(self, now_ns: int) -> list[tuple[bytes, Silence]]:
        """Return the streams that have been silent for longer than they may, in the order of subscription."""
        return [
            (key, Silence.WENT_SILENT if watched.any_data else Silence.NEVER_ANY_DATA)
            for key, watched in self._streams.items()
            if now_ns - watched.since_ns > watched.allowed_ns
        ]

    def all_silent(self, now_ns: int) -> bool:
        """Return whether every watched stream is overdue: then it is the connection that is dead."""
        return bool(self._streams) and len(self.overdue(now_ns)) == len(self._streams)
