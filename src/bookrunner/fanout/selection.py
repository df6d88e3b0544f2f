"""What a client is subscribed to: topics, and the books that they mean."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from bookrunner.core.errors import InvalidRequestError
from bookrunner.fanout.sources import BookSource, ConsolidatedSource, Sources
from bookrunner.wire.client_message import Kind, SubscriptionView
from bookrunner.wire.client_request import ALL, KINDS_UNLESS_NAMED, Subscribe, Topic, Unsubscribe

Topics: TypeAlias = frozenset[Topic]

EVERYTHING: Topics = frozenset((kind, ALL, ALL) for kind in KINDS_UNLESS_NAMED)
"""What a client gets that does not say what it wants."""


class Terms(msgspec.Struct, frozen=True):
    """One client's subscription; clients with equal terms share encodings."""

    topics: Topics
    depth: int
    throttle_slots: int
    """Time between book updates, in slots."""

    def view(self, slot_ms: int) -> SubscriptionView:
        """Return what the client is told."""
        topics = sorted((kind.value, venue, symbol) for kind, venue, symbol in self.topics)
        return SubscriptionView(topics, self.depth, self.throttle_slots * slot_ms)


class Resolved:
    """The books that a set of topics means, as of one generation of the sources."""

    __slots__ = ("announced", "books", "consolidated", "generation", "metrics", "traded")

    def __init__(self, topics: Topics, sources: Sources) -> None:
        self.generation = sources.generation
        self.metrics = (Kind.METRICS, ALL, ALL) in topics
        self.books = tuple(source for source in sources if _chosen(topics, Kind.BOOKS, source))
        self.traded = frozenset(source for source in sources if _chosen(topics, Kind.TRADES, source))
        self.consolidated = tuple(
            joined for joined in sources.consolidated() if _chosen_joined(topics, joined)
        )
        joined_members = {member for joined in self.consolidated for member in joined.members}
        self.announced = frozenset({*self.books, *self.traded, *joined_members})
        """Books whose changes of state the client is told."""


def _chosen(topics: Topics, kind: Kind, source: BookSource) -> bool:
    venue, symbol = source.live.venue, source.live.symbol
    return (
        (kind, venue, symbol) in topics
        or (kind, venue, ALL) in topics
        or (kind, ALL, symbol) in topics
        or (kind, ALL, ALL) in topics
    )


def _chosen_joined(topics: Topics, joined: ConsolidatedSource) -> bool:
    """A pair is chosen by its own name, or by any of its books; all its venues are always joined."""
    return (Kind.CONSOLIDATED, ALL, joined.pair) in topics or any(
        _chosen(topics, Kind.CONSOLIDATED, member) for member in joined.members
    )


def check_known(request: Subscribe | Unsubscribe, sources: Sources) -> None:
    """Refuse venues and symbols that no book has, and pairs of both that mean no book.

    Raises:
        InvalidRequestError: names the first one.
    """
    known = {(source.live.venue, source.live.symbol) for source in sources}
    venues = {venue for venue, _ in known} | {ALL}
    symbols = {symbol for _, symbol in known} | {joined.pair for joined in sources.consolidated()} | {ALL}
    for field, names, allowed in (("venues", request.venues, venues), ("symbols", request.symbols, symbols)):
        for name in names or ():
            if name not in allowed:
                raise InvalidRequestError(
                    f"unknown {field[:-1]}", field=field, value=name, rule="one that the list request names"
                )
    pairs = {joined.pair for joined in sources.consolidated()}
    for symbol in request.symbols or ():
        if symbol != ALL and symbol not in pairs and not _meant(symbol, request.venues, known):
            raise InvalidRequestError(
                "no such book", field="symbols", value=symbol, rule="a symbol of one of the venues named"
            )


def _meant(symbol: str, venues: list[str] | None, known: set[tuple[str, str]]) -> bool:
    return not venues or ALL in venues or any((venue, symbol) in known for venue in venues)


def without(topics: Topics, ended: Topics) -> Topics:
    """Return the topics that none of ``ended`` covers.

    Raises:
        InvalidRequestError: a venue and symbol in ``ended`` cover nothing.
    """
    effective = {pattern[1:] for pattern in ended if any(_covers(pattern, topic) for topic in topics)}
    for _, venue, symbol in ended:
        if (venue, symbol) not in effective:
            raise InvalidRequestError(
                "not subscribed",
                field="symbols" if symbol != ALL else "venues" if venue != ALL else "kinds",
                value=f"{venue}/{symbol}",
                rule="a topic of the subscription, or one that covers some; a * in it cannot be split",
            )
    return frozenset(topic for topic in topics if not any(_covers(pattern, topic) for pattern in ended))


def _covers(pattern: Topic, topic: Topic) -> bool:
    return pattern[0] is topic[0] and pattern[1] in {ALL, topic[1]} and pattern[2] in {ALL, topic[2]}
