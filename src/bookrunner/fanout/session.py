"""One client's stream of numbered messages, which outlives its connection for a while. No I/O.

    number   1 … n   n+1 … sent   sent+1 … sequence
                     └ kept for ┘ └ waiting for the ┘
                       a resume     socket or for a
                                    reconnect

What the client must get (trades, states) is numbered and, while its socket takes nothing, waits. What is only
the latest value (books, metrics, heartbeats) is given out when the session is ``ready`` and otherwise left
out: a client that was slow gets the newest book afterwards, not every book in between.

When too much waits, or nothing was taken for too long, the session lags: what waits is dropped, its numbers
are announced in a ``lagged`` message once the socket takes data again, and a fresh snapshot follows.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from bookrunner.wire.client_message import Body, WireForm

if TYPE_CHECKING:
    from bookrunner.fanout.group import Group
    from bookrunner.fanout.settings import FanoutSettings
    from bookrunner.fanout.sources import BookSource, ConsolidatedSource


class CloseCode(IntEnum):
    """Why we end a connection (RFC 6455, 7.4.1)."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009


class Link(Protocol):
    """A session's connection, while it has one."""

    writable: bool
    """Whether the socket takes data; set by the connection before it calls ``Session.on_writable``."""

    def send(self, payload: bytes, *, binary: bool, compressed: bool) -> None:
        """Hand one frame to the socket; may call ``Session.on_blocked`` before it returns."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame and end the connection."""
        ...

    def cut(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        ...


class Session:
    """See the module. ``ready`` is true while everything numbered so far was handed to the socket."""

    __slots__ = (
        "_cost",
        "_kept",
        "_queue_bytes",
        "_queue_messages",
        "_resume_bytes",
        "_resume_messages",
        "blocked_since_ns",
        "chosen",
        "detached_at_ns",
        "form",
        "fresh_since",
        "group",
        "lag_reason",
        "link",
        "missed",
        "ready",
        "sent",
        "sequence",
        "token",
        "waiting_cost",
    )

    def __init__(self, token: str, form: WireForm, settings: FanoutSettings) -> None:
        self.token = token
        self.form = form
        self.link: Link | None = None
        self.group: Group | None = None
        self.ready = False
        self.sequence = 0
        self.sent = 0
        self.lag_reason: str | None = None
        self.blocked_since_ns: int | None = None
        self.detached_at_ns: int | None = None
        self.chosen = False
        """Whether its client named topics, so that the next ones add to them."""
        self.fresh_since = 0
        """Stamp of its last snapshot: books prepared before it are not sent after it."""
        self.missed: set[BookSource | ConsolidatedSource] = set()
        """Books that were left out while it was not ready."""
        self.waiting_cost = 0
        self._kept: deque[Body] = deque()
        self._cost = 0
        self._queue_messages = settings.queue_messages
        self._queue_bytes = settings.queue_bytes
        self._resume_messages = settings.resume_messages
        self._resume_bytes = settings.resume_bytes

    # --- giving out ---------------------------------------------------------------------------------------

    def publish(self, body: Body) -> bool:
        """Number a message and send it, or let it wait; ``False`` when the session began to lag by it."""
        self.sequence += 1
        if self.ready:
            self._kept.append(body)
            self._cost += body.cost
            self._send(body, self.sequence)
            if self._cost > self._resume_bytes or len(self._kept) > self._resume_messages:
                self._trim()
            return True
        if self.lag_reason is not None:
            return True  # counted by its number in the announcement
        self._kept.append(body)
        self._cost += body.cost
        self.waiting_cost += body.cost
        if self.sequence - self.sent > self._queue_messages or self.waiting_cost > self._queue_bytes:
            self.lag("queue")
            return False
        if self._cost > self._resume_bytes or len(self._kept) > self._resume_messages:
            self._trim()
        return True

    def _send(self, body: Body, sequence: int) -> None:
        link = self.link
        if link is not None:
            self.sent = sequence
            link.send(body.numbered(sequence), binary=body.binary, compressed=body.compressed)

    def _trim(self) -> None:
        """Keep what a reconnect may ask for within its bounds; what waits is never trimmed."""
        kept = self._kept
        while kept and len(kept) > self.sequence - self.sent:
            if self._cost <= self._resume_bytes and len(kept) <= self._resume_messages:
                break
            self._cost -= kept.popleft().cost

    def _drain(self) -> None:
        """Send what waits until the socket takes no more."""
        link, kept = self.link, self._kept
        waiting = self.sequence - self.sent
        for index in range(len(kept) - waiting, len(kept)):
            if link is None or not link.writable:
                return
            body = kept[index]
            self.waiting_cost -= body.cost
            self._send(body, self.sent + 1)
        self._trim()

    # --- the socket ---------------------------------------------------------------------------------------

    def on_blocked(self, now_ns: int) -> None:
        """Note that the socket takes nothing for now."""
        self.ready = False
        if self.blocked_since_ns is None:
            self.blocked_since_ns = now_ns

    def on_writable(self) -> None:
        """Go on where the socket stopped taking; a session that lags stays so until it is announced."""
        self.blocked_since_ns = None
        if self.lag_reason is None:
            self._drain()
            self._update_ready()

    def _update_ready(self) -> None:
        link = self.link
        self.ready = (
            link is not None and link.writable and self.lag_reason is None and self.sent == self.sequence
        )

    # --- lagging ------------------------------------------------------------------------------------------

    def lag(self, reason: str) -> None:
        """Drop what waits (and what was kept: its numbers would not join on)."""
        self.ready = False
        if self.lag_reason is None:
            self.lag_reason = reason
        self._kept.clear()
        self._cost = self.waiting_cost = 0
        self.missed.clear()

    def recover(self) -> tuple[int, int, str]:
        """End the lag: return the first and last number that will not come, and why.

        The caller publishes the announcement and a fresh snapshot next.
        """
        first, last, reason = self.sent + 1, self.sequence, self.lag_reason or "queue"
        self.lag_reason = None
        self.sent = self.sequence
        self.missed.clear()
        self._update_ready()
        return first, last, reason

    # --- leaving and coming back --------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """Give a new session its connection."""
        self.link = link
        self.detached_at_ns = None
        self._update_ready()

    def detach(self, now_ns: int) -> None:
        """Lose the connection; messages wait from now on."""
        self.link = None
        self.ready = False
        self.blocked_since_ns = None
        self.detached_at_ns = now_ns

    def can_resume(self, sequence: int) -> bool:
        """Whether everything after ``sequence`` is still kept."""
        oldest = self.sequence - len(self._kept)
        return self.lag_reason is None and oldest <= sequence <= self.sequence

    def rewind(self, sequence: int) -> None:
        """Regard everything after ``sequence`` (see ``can_resume``) as not yet sent."""
        self.sent = sequence
        waiting = self.sequence - sequence
        self.waiting_cost = sum(
            self._kept[index].cost for index in range(len(self._kept) - waiting, len(self._kept))
        )

    def skip_to(self, sequence: int, reason: str) -> None:
        """Regard the client as having everything up to ``sequence``, and lag for the rest."""
        self.lag(reason)
        self.sent = min(sequence, self.sequence)
