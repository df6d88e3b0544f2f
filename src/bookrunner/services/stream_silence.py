"""Streams that bring nothing, although the venue acknowledged them: which, and since when."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from bookrunner.core.enums import Channel
from bookrunner.engine.ports.venue_feed import Stream

PATIENCE_DOUBLINGS = 6
"""A stream that stays silent is given twice the time with each alarm, up to ``2**6`` times the first."""


class SilentStream(msgspec.Struct, frozen=True):
    """A stream that has brought nothing for too long."""

    stream: Stream
    alarms: int
    """Alarms in a row, this one included."""
    alone: bool
    """Whether other streams of the connection have brought something in that time."""


class SilenceWatch:
    """Watches the streams of one connection.

    Args:
        streams: what was subscribed to.
        silence_ns: how long a stream of a kind may bring nothing, by the venue's policy.
    """

    def __init__(self, streams: Iterable[Stream], silence_ns: Callable[[Channel], int]) -> None:
        self._streams = {stream.key: stream for stream in streams}
        self._silence_ns = silence_ns
        self._heard: set[bytes] = set()
        self.heard = self._heard.add
        """Called with the key of each message; nothing but a set's ``add``, for it is on the hot road."""
        self._heard_ns: dict[bytes, int] = {}
        self._any_heard_ns = 0
        self._alarms: dict[bytes, int] = {}

    def begin(self, now_ns: int) -> None:
        """Every stream is owed its first data from now on."""
        self._heard.clear()
        self._heard_ns = dict.fromkeys(self._streams, now_ns)
        self._any_heard_ns = now_ns

    def silent(self, now_ns: int, excused: Callable[[Stream], bool]) -> list[SilentStream]:
        """Return the streams that are silent for too long; each is owed data anew from now on.

        Args:
            now_ns: monotonic.
            excused: whether a stream has reason to be silent (a halted instrument).
        """
        if self._heard:
            self._any_heard_ns = now_ns
        for key in self._heard:
            self._heard_ns[key] = now_ns
            self._alarms.pop(key, None)
        self._heard.clear()
        found = []
        for key, stream in self._streams.items():
            alarms = self._alarms.get(key, 0)
            patience_ns = self._silence_ns(stream.channel) << min(alarms, PATIENCE_DOUBLINGS)
            since_ns = self._heard_ns.get(key, now_ns)
            if now_ns - since_ns > patience_ns and not excused(stream):
                self._alarms[key] = alarms + 1
                self._heard_ns[key] = now_ns
                found.append(SilentStream(stream, alarms + 1, self._any_heard_ns > since_ns))
        return found
