"""Market events in, numbered messages to many clients out. No I/O: time, chance and sockets are handed in.

A book update only moves its version. When a group of clients is due, what changed is encoded once and sent to
its members; trades and changes of state go out at once. ``turn`` sends a bounded number of frames, so whoever
drives the publisher can read sockets in between.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import structlog

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Clock
from bookrunner.fanout.deliveries import BooksDelivery, EventDelivery, LatestDelivery, TradeBatch
from bookrunner.fanout.group import Group
from bookrunner.fanout.outbox import Lane, Left, Outbox
from bookrunner.fanout.schedule import SlotCalendar
from bookrunner.fanout.selection import Terms
from bookrunner.fanout.session import Session
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.fanout.sources import BookSource, Sources
from bookrunner.market.events import Bar, BookStateChanged, MarkPrice, Quote, Trade
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.wire.client_message import (
    Body,
    Encoding,
    Heartbeat,
    Lagged,
    Message,
    Metrics,
    State,
    WireForm,
    encode_body,
    encode_part,
)

_log = structlog.get_logger(__name__)


class FanoutCounters(msgspec.Struct):
    """What happened since the start."""

    accepted: int = 0
    refused: int = 0
    """Handshakes refused: too many clients, a wrong address, shutting down."""
    frames_sent: int = 0
    """Market-data frames handed to sockets."""
    frames_encoded: int = 0
    """Books messages encoded; each served all members of its group."""
    lagged: int = 0
    overloaded: int = 0
    """Deliveries refused because a lane was full."""
    resumed: int = 0
    resume_refused: int = 0
    invalid_requests: int = 0
    oversized_requests: int = 0
    rate_limited: int = 0
    protocol_errors: int = 0
    cut_stalled: int = 0
    cut_silent: int = 0
    handshakes_dropped: int = 0
    sessions_expired: int = 0


def _nothing() -> None:
    """Stand in for a callback that nobody gave."""


class Publisher:
    """Sessions, their groups, and what is on its way to them; a ``MarketSink``.

    Args:
        books: every book of the process.
        metrics: the server's figures, asked for once per interval.
        settings: limits and intervals.
        clock: time.
        token_source: where session tokens come from; unguessable in production (``random.SystemRandom``).
        record_sent_ns: takes, per message, the time from receipt of its newest content to its last send.
    """

    def __init__(
        self,
        books: LiveBooks,
        metrics: Callable[[], Mapping[str, Any]],
        settings: FanoutSettings,
        clock: Clock,
        token_source: random.Random,
        record_sent_ns: Callable[[int], None] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.counters = FanoutCounters()
        self.sources = Sources(books)
        self.sessions: dict[str, Session] = {}
        self.on_work: Callable[[], None] = _nothing
        """Called when ``turn`` has something to do."""
        self.on_retimed: Callable[[], None] = _nothing
        """Called when something may be due earlier than ``next_due_ns`` last said."""
        self._metrics = metrics
        self._metrics_parts: dict[Encoding, msgspec.Raw] = {}
        self._metrics_values: Mapping[str, Any] = {}
        self._token_source = token_source
        self._record_sent_ns = record_sent_ns
        self._groups: dict[tuple[Terms, WireForm], list[Group]] = {}
        self._calendar: SlotCalendar[Group] = SlotCalendar(
            settings.slot_ms * NANOSECONDS_PER_MILLISECOND, clock.monotonic_ns()
        )
        self._outbox = Outbox(settings.sends_per_turn, settings.deliveries_max)
        self._stamp = 0
        self._detached: dict[str, Session] = {}
        self._trades: dict[BookSource, TradeBatch] = {}
        now_ns = clock.monotonic_ns()
        self._metrics_due_ns = now_ns
        self._heartbeat_due_ns = now_ns + self._interval_ns(settings.heartbeat_s)

    @staticmethod
    def _interval_ns(seconds: float) -> int:
        return round(seconds * NANOSECONDS_PER_SECOND)

    # --- MarketSink ---------------------------------------------------------------------------------------

    def on_book(self, live: LiveBook, ts_recv_ns: int) -> None:
        """Note that a book changed; clients get it when they are due."""
        source = self.sources.of(live)
        source.version += 1
        source.ts_recv_ns = ts_recv_ns

    def on_trades(self, live: LiveBook, trades: list[Trade], ts_recv_ns: int) -> None:
        """Send trades at once; those that arrive together share a message."""
        if not self.sessions:
            return
        source = self.sources.of(live)
        batch = self._trades.get(source)
        if batch is None or not batch.accepts(live):
            if batch is not None:
                self._put_trades(source, batch)
            batch = self._trades[source] = TradeBatch(live, ts_recv_ns)
            self.on_work()
        batch.add(trades, ts_recv_ns)

    def on_book_state(self, live: LiveBook, change: BookStateChanged) -> None:
        """Announce a change of state at once."""
        source = self.sources.of(live)
        source.version += 1
        if not self.sessions:
            return

        def message() -> Message:
            # Clients drop the levels of a book that is not live, so frames after this carry it again.
            source.version += 1
            return State(change.venue, change.symbol, change.state.value, change.reason, change.ts_ns)

        delivery = EventDelivery(message, source, _announces, change.ts_ns, self, in_snapshots=True)
        self._put(Lane.BOOKS, delivery)

    def on_quote(self, live: LiveBook, quote: Quote, ts_recv_ns: int) -> None:
        """Ignored: the books carry the best bid and ask."""

    def on_bar(self, live: LiveBook, bar: Bar, ts_recv_ns: int) -> None:
        """Ignored: no client kind carries it."""

    def on_mark_price(self, live: LiveBook, mark: MarkPrice, ts_recv_ns: int) -> None:
        """Ignored: no client kind carries it."""

    def _put_trades(self, source: BookSource, batch: TradeBatch) -> None:
        delivery = EventDelivery(batch.message, source, _trades, batch.ts_recv_ns, self, in_snapshots=False)
        self._put(Lane.EVENTS, delivery)

    def _put(self, lane: Lane, delivery: BooksDelivery | EventDelivery | LatestDelivery) -> None:
        if not self._outbox.put(lane, delivery):
            self.counters.overloaded += 1
            _log.warning("fanout_overloaded", lane=lane.name.lower(), overloaded=self.counters.overloaded)
        self.on_work()

    # --- time ---------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Queue everything that is due by now."""
        now_ns = self.clock.monotonic_ns()
        self.sources.refresh()
        for group in self._calendar.take_due(now_ns):
            if not group.queued:
                self._put(Lane.BOOKS, BooksDelivery(group, self))
        if now_ns >= self._metrics_due_ns:
            self._metrics_due_ns = now_ns + self._interval_ns(self.settings.metrics_s)
            self.refresh_metrics()
            self._put(Lane.BACKGROUND, LatestDelivery(self._metrics_message, _measures, self))
        if now_ns >= self._heartbeat_due_ns:
            self._heartbeat_due_ns = now_ns + self._interval_ns(self.settings.heartbeat_s)
            self._put(Lane.BACKGROUND, LatestDelivery(self._heartbeat_message, _everyone, self))

    def next_due_ns(self) -> int:
        """Return the monotonic time at which ``tick`` next has something to do."""
        due_ns = self._calendar.next_due_ns()
        other_ns = min(self._metrics_due_ns, self._heartbeat_due_ns)
        return other_ns if due_ns is None else min(due_ns, other_ns)

    def turn(self) -> Left:
        """Send a bounded number of frames; return what is left to be sent."""
        if self._trades:
            batches, self._trades = self._trades, {}
            for source, batch in batches.items():
                self._put_trades(source, batch)
        return self._outbox.turn()

    @property
    def waiting(self) -> int:
        """Deliveries not yet completed."""
        return self._outbox.waiting + len(self._trades)

    def sweep(self) -> None:
        """Find clients that lag or stall, and sessions that nobody came back to."""
        now_ns = self.clock.monotonic_ns()
        lag_ns = self._interval_ns(self.settings.lag_after_s)
        stall_ns = self._interval_ns(self.settings.stall_timeout_s)
        for session in list(self.sessions.values()):
            link = session.link
            if link is None:
                continue
            since_ns = session.blocked_since_ns
            if since_ns is None:
                if session.lag_reason is not None:
                    self._recover(session)
            elif now_ns - since_ns >= stall_ns:
                self.counters.cut_stalled += 1
                _log.warning(
                    "client_cut",
                    reason="stalled",
                    missed=session.sequence - session.sent,
                    cut_stalled=self.counters.cut_stalled,
                )
                link.cut()
            elif now_ns - since_ns >= lag_ns and session.lag_reason is None:
                session.lag("stalled")
                self.overflowed(session)
        resume_ns = self._interval_ns(self.settings.resume_s)
        for session in list(self._detached.values()):
            if now_ns - (session.detached_at_ns or now_ns) < resume_ns:
                break  # the others left later
            self._expire(session)

    def refresh_metrics(self) -> None:
        """Ask for the server's figures; snapshots and metrics messages carry these until the next time."""
        self._metrics_values = self._metrics()
        self._metrics_parts.clear()

    def metrics_part(self, encoding: Encoding) -> msgspec.Raw:
        """Return the encoded figures."""
        part = self._metrics_parts.get(encoding)
        if part is None:
            part = self._metrics_parts[encoding] = encode_part(self._metrics_values, encoding)
        return part

    def _metrics_message(self, session: Session) -> Message:
        return Metrics(self.clock.wall_ns(), self.metrics_part(session.form.encoding))

    def _heartbeat_message(self, session: Session) -> Message:
        del session
        return Heartbeat(self.clock.wall_ns())

    # --- Audience -----------------------------------------------------------------------------------------

    def next_stamp(self) -> int:
        """Return a number greater than every earlier one."""
        self._stamp += 1
        return self._stamp

    def groups(self) -> Iterator[Group]:
        """Return every group."""
        for groups in self._groups.values():
            yield from groups

    def overflowed(self, session: Session) -> None:
        """Count and log a session that began to lag."""
        self.counters.lagged += 1
        if session.lag_reason == "overload":
            return  # logged once for all of them, by ``_put``
        missed = session.sequence - session.sent
        _log.warning("client_lagged", reason=session.lag_reason, missed=missed, lagged=self.counters.lagged)

    def record_sent(self, ts_recv_ns: int, frames: int, *, encoded: bool) -> None:
        """Count frames, and record the time since their newest content was received."""
        self.counters.frames_sent += frames
        self.counters.frames_encoded += encoded
        if self._record_sent_ns is not None and ts_recv_ns:
            self._record_sent_ns(self.clock.wall_ns() - ts_recv_ns)

    # --- sessions -----------------------------------------------------------------------------------------

    def open_session(self, form: WireForm) -> Session:
        """Return a new session that has neither a connection nor terms yet."""
        token = f"{self._token_source.getrandbits(128):032x}"
        session = self.sessions[token] = Session(token, form, self.settings)
        return session

    def join(self, session: Session, terms: Terms) -> None:
        """Give a session terms, in a group with room; the caller then sends it what the terms mean."""
        self._leave_group(session)
        groups = self._groups.setdefault((terms, session.form), [])
        group = next((g for g in groups if len(g.members) < self.settings.clients_per_slot), None)
        if group is None:
            phase = self._calendar.least_loaded(terms.throttle_slots)
            group = next((g for g in groups if g.phase == phase), None)
            if group is None:
                group = Group(terms, session.form, phase, self.sources)
                groups.append(group)
                self._calendar.add(group, terms.throttle_slots, phase)
                self.on_retimed()
        group.members[session] = None
        session.group = group
        self._calendar.change_load(group, 1)

    def _leave_group(self, session: Session) -> None:
        group = session.group
        if group is None:
            return
        session.group = None
        session.missed = set()
        group.leave(session)
        self._calendar.change_load(group, -1)
        if not group.members:
            self._calendar.remove(group)
            groups = self._groups[group.terms, group.form]
            groups.remove(group)
            if not groups:
                del self._groups[group.terms, group.form]

    def send_snapshot(self, session: Session) -> None:
        """Send everything that a session is subscribed to, as it is now."""
        group = session.group
        if group is None:
            return
        session.fresh_since = self.next_stamp()
        session.missed = set()
        group.behind.discard(session)
        part = self.metrics_part(session.form.encoding)
        self.publish_body(session, group.snapshot(part, self.clock.wall_ns()))

    def publish(self, session: Session, message: Message) -> None:
        """Number a message for one session."""
        self.publish_body(session, encode_body(message, session.form))

    def publish_body(self, session: Session, body: Body) -> None:
        """Number an encoded message for one session."""
        if not session.publish(body):
            self.overflowed(session)

    def on_blocked(self, session: Session) -> None:
        """Note that a session's socket takes nothing for now."""
        session.on_blocked(self.clock.monotonic_ns())

    def on_writable(self, session: Session) -> None:
        """Go on with a session whose socket takes data again."""
        session.on_writable()
        if session.lag_reason is not None:
            self._recover(session)

    def _recover(self, session: Session) -> None:
        first, last, reason = session.recover()
        self.publish(session, Lagged(first, last, reason))
        self.send_snapshot(session)

    def detach(self, session: Session) -> None:
        """Keep a session whose connection is gone for as long as it may be resumed."""
        session.detach(self.clock.monotonic_ns())
        if not self.settings.resume_s or self.sessions.get(session.token) is not session:
            self.forget(session)
            return
        self._detached[session.token] = session
        if len(self._detached) > self.settings.sessions_detached_max:
            self._expire(next(iter(self._detached.values())))

    def reattached(self, session: Session) -> None:
        """Note that a session has a connection again."""
        self._detached.pop(session.token, None)

    def _expire(self, session: Session) -> None:
        self.counters.sessions_expired += 1
        self.forget(session)

    def forget(self, session: Session) -> None:
        """End a session for good."""
        self._leave_group(session)
        self._detached.pop(session.token, None)
        self.sessions.pop(session.token, None)


def _announces(group: Group, source: BookSource) -> bool:
    return source in group.resolved.announced


def _trades(group: Group, source: BookSource) -> bool:
    return source in group.resolved.traded


def _measures(group: Group) -> bool:
    return group.resolved.metrics


def _everyone(group: Group) -> bool:
    del group
    return True
