"""One connection of a feed: journal first, then route; and see that every stream brings data."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bookrunner.core.clock import Clock
from bookrunner.engine.ports.raw_journal import RawJournal, RecordKind
from bookrunner.engine.ports.transport import StreamClient, StreamClientFactory
from bookrunner.engine.ports.venue_feed import ConnectionPlan, Stream
from bookrunner.services.source_journal import REFUSALS, SourceJournal
from bookrunner.services.stream_silence import SilenceWatch, SilentStream
from bookrunner.services.venue_session import VenueSession

log = structlog.get_logger(__name__)

REVIVALS = 3
"""Resubscriptions of a silent stream before the connection is made anew, to the cost of its other streams."""
LOGGED_STREAMS = 5
"""Names of silent streams in one log line."""


class FeedConnection:
    """A ``StreamListener`` with its client.

    Args:
        plan: where to connect, and what to subscribe to.
        session: takes the messages.
        connect: makes the client.
        journal: where every message goes before it is looked at; ``None`` in tests and tools.
        clock: time.
        on_lost: told when the connection is gone, and why.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        session: VenueSession,
        connect: StreamClientFactory,
        journal: RawJournal | None,
        clock: Clock,
        on_lost: Callable[[FeedConnection, str], None],
    ) -> None:
        self.plan = plan
        self.connected = False
        self.silences = 0
        """Times that streams were found silent."""
        self.client: StreamClient = connect(plan, session.feed.policy, self)
        self._feed = session.feed
        self._take = session.on_message
        self.journal = SourceJournal(journal, plan.name, plan.url, clock)
        self._append = self.journal.append
        self._watch = SilenceWatch(plan.streams, session.feed.silence_ns)
        self._heard = self._watch.heard
        self._clock = clock
        self._on_lost = on_lost

    # --- StreamListener ---------------------------------------------------------------------------------

    def on_connected(self) -> list[bytes]:
        """Begin anew: every stream is owed its first data from now on."""
        self.connected = True
        self._watch.begin(self._clock.monotonic_ns())
        messages = self._feed.subscribe(self.plan.streams, 1)
        self._note(RecordKind.CONNECTED, self.plan.url.encode())
        for message in messages:
            self._note(RecordKind.SENT, message)
        return messages

    def on_message(self, message: bytes, ts_recv_ns: int) -> None:
        """Journal first, then route; the hot road.

        An update that is not in the journal must not change a book: when there is no room for it, the
        connection is cut, and its books are stale until the journal takes records again.
        """
        try:
            self._append(RecordKind.FRAME, message, ts_recv_ns)
        except REFUSALS:
            self.client.reconnect("journal_full")
            return
        key = self._take(message, ts_recv_ns)
        if key:
            self._heard(key)

    def on_disconnected(self, reason: str) -> None:
        """Tell the owner."""
        self.connected = False
        self._note(RecordKind.DISCONNECTED, reason.encode())
        self._on_lost(self, reason)

    # --- upkeep -----------------------------------------------------------------------------------------

    def resubscribe(self, streams: tuple[Stream, ...]) -> None:
        """End the subscriptions and make them again."""
        for message in self._feed.unsubscribe(streams, 2) + self._feed.subscribe(streams, 3):
            self._note(RecordKind.SENT, message)
            self.client.send(message)

    def revive(self, excused: Callable[[Stream], bool]) -> list[Stream]:
        """Look for silent streams, do what may bring them back, and return them.

        Silent alone, a stream is subscribed again; when that has not helped ``REVIVALS`` times, or when all
        streams are silent, the connection is made anew.
        """
        if not self.connected:
            return []
        silent = self._watch.silent(self._clock.monotonic_ns(), excused)
        if not silent:
            return []
        self.silences += 1
        streams = tuple(found.stream for found in silent)
        names = [stream.key.decode("utf-8", "replace") for stream in streams[:LOGGED_STREAMS]]
        log.error("channel_silent", connection=self.plan.name, streams=names, count=len(streams))
        if any(map(_beyond_revival, silent)):
            self.client.reconnect("silence")
        else:
            self.resubscribe(streams)
        return list(streams)

    def _note(self, kind: RecordKind, payload: bytes) -> None:
        try:
            self._append(kind, payload)
        except REFUSALS:
            self.client.reconnect("journal_full")


def _beyond_revival(found: SilentStream) -> bool:
    return not found.alone or found.alarms % (REVIVALS + 1) == 0
