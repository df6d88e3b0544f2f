"""The messages that go to many clients, each prepared when its turn to be sent comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from bookrunner.core.clock import Clock
from bookrunner.core.enums import Side
from bookrunner.fanout.group import Frame, Group
from bookrunner.fanout.session import Session
from bookrunner.fanout.sources import BookSource
from bookrunner.market.events import Trade
from bookrunner.market.live_book import LiveBook
from bookrunner.wire.client_message import Message, Publication, Trades, TradeView

BATCH_TRADES_MAX = 256
"""Trades that one message joins; more begin another."""
SIDES = {Side.BUY: "buy", Side.SELL: "sell"}


class Audience(Protocol):
    """Who is there, and where figures go."""

    clock: Clock

    def next_stamp(self) -> int:
        """Return a number greater than every earlier one: what is older and what is newer."""
        ...

    def groups(self) -> Iterable[Group]:
        """Return every group."""
        ...

    def overflowed(self, session: Session) -> None:
        """Note that a session began to lag."""
        ...

    def record_sent(self, ts_recv_ns: int, frames: int, *, encoded: bool) -> None:
        """Note that a message was handed to ``frames`` sockets; ``ts_recv_ns`` is its newest content's."""
        ...


class BooksDelivery:
    """A group's tick: what changed, or for members that were not ready, what they missed."""

    def __init__(self, group: Group, audience: Audience) -> None:
        self._group = group
        self._audience = audience
        self._frame: Frame | None = None
        self._stamp = 0
        self._ts_ns = 0
        self._frames = 0
        group.queued = True

    def begin(self) -> Iterator[Session]:
        """Look up what changed; the members of this moment get it."""
        group = self._group
        group.queued = False
        self._stamp = self._audience.next_stamp()
        self._ts_ns = self._audience.clock.wall_ns()
        self._frame = group.next_frame(self._ts_ns, self._stamp)
        return iter(tuple(group.members if self._frame is not None else group.behind))

    def send(self, session: Session) -> None:
        """Send the group's frame, or the member's own when it missed some."""
        group, frame = self._group, self._frame
        if session.group is not group or session.fresh_since > self._stamp:
            return
        if session.ready:
            if session.missed:
                body = group.catch_up(session, frame, self._ts_ns)
            else:
                body = frame.body if frame is not None else None
            if body is not None:
                session.publish(body)
                self._frames += 1
        elif frame is not None and session.lag_reason is None:
            group.fall_behind(session, frame.sources)

    def done(self) -> None:
        """Record how old the newest update in the frame was when the last member had it."""
        if self._frame is not None and self._frames:
            self._audience.record_sent(self._frame.newest_ts_recv_ns, self._frames, encoded=True)

    def refused(self) -> None:
        """Leave the changes for the next tick."""
        self._group.queued = False


class EventDelivery:
    """A message that each of its clients must get: it waits for those that are not ready.

    Args:
        make: the message; called when its turn comes.
        source: the book that it is about.
        wanted: whether a group gets it.
        in_snapshots: whether a snapshot made after it says the same or newer (a state), so that a client
            with such a snapshot must not get it any more.
    """

    def __init__(
        self,
        make: Callable[[], Message],
        source: BookSource,
        wanted: Callable[[Group, BookSource], bool],
        ts_recv_ns: int,
        audience: Audience,
        *,
        in_snapshots: bool,
    ) -> None:
        self._stamp = audience.next_stamp() if in_snapshots else None
        self._make = make
        self._source = source
        self._wanted = wanted
        self._ts_recv_ns = ts_recv_ns
        self._audience = audience
        self._publication: Publication | None = None
        self._frames = 0

    def _sessions(self) -> list[Session]:
        return [
            session
            for group in self._audience.groups()
            if self._wanted(group, self._source)
            for session in group.members
        ]

    def begin(self) -> Iterator[Session]:
        """Encode the message; the subscribers of this moment get it."""
        sessions = self._sessions()
        if sessions:
            self._publication = Publication(self._make(), len(sessions))
        return iter(sessions)

    def send(self, session: Session) -> None:
        """Number it for one subscriber, unless it left or unsubscribed meanwhile."""
        group = session.group
        if group is None or self._publication is None or not self._wanted(group, self._source):
            return
        if self._stamp is not None and session.fresh_since > self._stamp:
            return
        self._frames += 1
        if not session.publish(self._publication.body(session.form)):
            self._audience.overflowed(session)

    def done(self) -> None:
        """Record how old the event was when the last subscriber had it."""
        if self._frames:
            self._audience.record_sent(self._ts_recv_ns, self._frames, encoded=False)

    def refused(self) -> None:
        """Tell the subscribers that they lag: this message will not come."""
        for session in self._sessions():
            if session.lag_reason is None:
                session.lag("overload")
                self._audience.overflowed(session)


class LatestDelivery:
    """A message of which only the newest matters: clients that are not ready do without.

    Args:
        message: the same for everyone.
        wanted: whether a group gets it.
    """

    def __init__(
        self, message: Callable[[Session], Message], wanted: Callable[[Group], bool], audience: Audience
    ) -> None:
        self._message = message
        self._wanted = wanted
        self._audience = audience
        self._publications: dict[object, Publication] = {}

    def begin(self) -> Iterator[Session]:
        """Return the clients of this moment."""
        groups = self._audience.groups()
        return iter([session for group in groups if self._wanted(group) for session in group.members])

    def send(self, session: Session) -> None:
        """Send it to a client that is ready."""
        if not session.ready:
            return
        encoding = session.form.encoding
        publication = self._publications.get(encoding)
        if publication is None:
            publication = self._publications[encoding] = Publication(self._message(session), 1)
        session.publish(publication.body(session.form))

    def done(self) -> None:
        """Nothing is recorded: these carry no market data."""

    def refused(self) -> None:
        """Do without: the next one is newer."""


class TradeBatch:
    """Trades of one book received together, on the grid that their ticks and lots are of."""

    __slots__ = ("_grid", "_live", "_trades", "ts_recv_ns")

    def __init__(self, live: LiveBook, ts_recv_ns: int) -> None:
        self._live = live
        self._grid = live.instrument.grid
        self._trades: list[Trade] = []
        self.ts_recv_ns = ts_recv_ns

    def accepts(self, live: LiveBook) -> bool:
        """Whether more trades of the book may join: its grid is still the same, and there is room."""
        return live.instrument.grid is self._grid and len(self._trades) < BATCH_TRADES_MAX

    def add(self, trades: list[Trade], ts_recv_ns: int) -> None:
        """Add trades in the venue's order."""
        self._trades += trades
        self.ts_recv_ns = ts_recv_ns

    def message(self) -> Message:
        """Return what subscribers get."""
        grid = self._grid
        views = [
            TradeView(
                trade.trade_id,
                grid.price(trade.price_ticks),
                grid.quantity(trade.quantity_lots),
                SIDES[trade.side],
                trade.ts_event_ns,
                trade.ts_match_ns,
            )
            for trade in self._trades
        ]
        return Trades(self._live.venue, self._live.symbol, self.ts_recv_ns, views)
