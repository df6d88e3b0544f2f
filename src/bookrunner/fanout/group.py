"""Clients with equal terms and one time slot: what changed is looked up and encoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from bookrunner.fanout.selection import Resolved, Terms
from bookrunner.fanout.session import Session
from bookrunner.fanout.sources import BookSource, ConsolidatedSource, Sources
from bookrunner.wire.client_message import Body, Books, Snapshot, WireForm, encode_body

Source: TypeAlias = BookSource | ConsolidatedSource


class Frame:
    """One tick's books message of a group: which books are in it, encoded when the first member gets it."""

    __slots__ = ("_body", "_encode", "newest_ts_recv_ns", "sources", "stamp")

    def __init__(self, sources: list[Source], stamp: int, encode: Callable[[list[Source]], Body]) -> None:
        self.sources = sources
        self.stamp = stamp
        self.newest_ts_recv_ns = max(source.ts_recv_ns for source in sources)
        self._encode = encode
        self._body: Body | None = None

    @property
    def body(self) -> Body:
        """The encoded message, the same for every member."""
        if self._body is None:
            self._body = self._encode(self.sources)
        return self._body


class Group:
    """Members, and which versions of their books they were last sent.

    Args:
        terms: what the members are subscribed to.
        form: how their messages are written.
        phase: their slot within the throttle.
        sources: where the books are.
    """

    def __init__(self, terms: Terms, form: WireForm, phase: int, sources: Sources) -> None:
        self.terms = terms
        self.form = form
        self.phase = phase
        self.members: dict[Session, None] = {}
        self.behind: set[Session] = set()
        """Members that missed a frame and are to be caught up at the next tick."""
        self.queued = False
        """Whether the group already waits for its turn to send."""
        self._sources = sources
        self._resolved = Resolved(terms.topics, sources)
        self._seen: dict[Source, int] = {}
        self.mark_all_seen()

    @property
    def resolved(self) -> Resolved:
        """The books that the terms mean now."""
        if self._resolved.generation != self._sources.generation:
            self._resolved = Resolved(self.terms.topics, self._sources)
        return self._resolved

    def mark_all_seen(self) -> None:
        """Regard the members as having everything: the first of them was just sent a snapshot."""
        everything: tuple[Source, ...] = (*self.resolved.books, *self.resolved.consolidated)
        self._seen = {source: source.version for source in everything}

    def next_frame(self, ts_ns: int, stamp: int) -> Frame | None:
        """Return the message with all that changed since the last one, or ``None``."""
        seen, resolved = self._seen, self.resolved
        changed: list[Source] = []
        for source in resolved.books:
            version = source.version
            if seen.get(source) != version:
                seen[source] = version
                if source.is_live:
                    changed.append(source)
        for pair in resolved.consolidated:
            version = pair.version
            if seen.get(pair) != version:
                seen[pair] = version
                changed.append(pair)
        if not changed:
            return None
        sharers = len(self.members)
        return Frame(changed, stamp, lambda sources: self._encode(sources, ts_ns, sharers))

    def catch_up(self, session: Session, frame: Frame | None, ts_ns: int) -> Body | None:
        """Return what brings a member that missed frames to the present; ``None`` when nothing does."""
        wanted = session.missed.union(frame.sources) if frame is not None else session.missed
        resolved = self.resolved
        sources: list[Source] = [source for source in resolved.books if source in wanted and source.is_live]
        sources += [pair for pair in resolved.consolidated if pair in wanted]
        session.missed = set()
        self.behind.discard(session)
        return self._encode(sources, ts_ns, 1) if sources else None

    def fall_behind(self, session: Session, sources: Iterable[Source]) -> None:
        """Remember what a member missed, for the first tick at which it is ready."""
        session.missed.update(sources)
        self.behind.add(session)

    def leave(self, session: Session) -> None:
        """Forget a member."""
        self.members.pop(session, None)
        self.behind.discard(session)

    def snapshot(self, metrics: msgspec.Raw, ts_ns: int) -> Body:
        """Return all books of the terms as they are now, those that are not live without levels."""
        resolved = self.resolved
        message = Snapshot(
            ts_ns,
            self._parts(resolved.books),
            self._parts(resolved.consolidated),
            metrics if resolved.metrics else None,
        )
        return encode_body(message, self.form)

    def _encode(self, sources: list[Source], ts_ns: int, sharers: int) -> Body:
        books = [source for source in sources if isinstance(source, BookSource)]
        joined = [source for source in sources if isinstance(source, ConsolidatedSource)]
        return encode_body(Books(ts_ns, self._parts(books), self._parts(joined)), self.form, sharers)

    def _parts(self, sources: Iterable[Source]) -> list[msgspec.Raw]:
        depth, encoding = self.terms.depth, self.form.encoding
        return [source.part(depth, encoding) for source in sources]
