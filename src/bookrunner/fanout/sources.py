"""What clients can be sent: books with a version that moves when they change, and their encoded views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from bookrunner.core.enums import BookState
from bookrunner.market.consolidated import consolidate
from bookrunner.market.instrument import Grid
from bookrunner.market.live_book import LiveBook, LiveBooks
from bookrunner.wire.client_message import (
    BookListing,
    BookView,
    ConsolidatedView,
    Encoding,
    encode_part,
)

TEXTS_MAX = 4_096
"""Decimal texts remembered per book and side of the grid; then forgotten and begun anew."""


class DecimalTexts(dict[int, str]):
    """Texts of the ticks or lots seen lately; the same few hundred prices come again and again."""

    def __init__(self, text_of: Callable[[int], str]) -> None:
        super().__init__()
        self._text_of = text_of

    def __missing__(self, steps: int) -> str:
        if len(self) >= TEXTS_MAX:
            self.clear()
        text = self[steps] = self._text_of(steps)
        return text


class BookSource:
    """One book as clients see it.

    ``version`` moves with every applied update and every change of state; views are encoded once for each
    version, depth and encoding, and only when somebody is due to get them.
    """

    __slots__ = ("_grid", "_lots", "_parts", "_ticks", "live", "ts_recv_ns", "version")

    def __init__(self, live: LiveBook) -> None:
        self.live = live
        self.version = 0
        self.ts_recv_ns = 0
        self._parts: dict[tuple[int, Encoding], tuple[int, msgspec.Raw]] = {}
        self._use_grid(live.instrument.grid)

    def _use_grid(self, grid: Grid) -> None:
        self._grid = grid
        self._ticks = DecimalTexts(grid.price)
        self._lots = DecimalTexts(grid.quantity)

    @property
    def is_live(self) -> bool:
        """Whether its levels may be shown."""
        return self.live.state is BookState.LIVE

    def part(self, depth: int, encoding: Encoding) -> msgspec.Raw:
        """Return the encoded view of the book as it is now."""
        known = self._parts.get((depth, encoding))
        if known is not None and known[0] == self.version:
            return known[1]
        part = encode_part(self.view(depth), encoding)
        self._parts[depth, encoding] = (self.version, part)
        return part

    def view(self, depth: int) -> BookView:
        """Return the top of the book; a book that is not live shows no levels."""
        live = self.live
        bids: list[tuple[str, str]] = []
        asks: list[tuple[str, str]] = []
        if self.is_live:
            if live.instrument.grid is not self._grid:
                self._use_grid(live.instrument.grid)
            ticks, lots = self._ticks, self._lots
            bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(depth)
            bids = [(ticks[t], lots[q]) for t, q in zip(bid_ticks, bid_lots, strict=True)]
            asks = [(ticks[t], lots[q]) for t, q in zip(ask_ticks, ask_lots, strict=True)]
        return BookView(
            live.venue, live.symbol, live.state.value, live.book.last_update_id, self.ts_recv_ns, bids, asks
        )

    def listing(self) -> BookListing:
        """Return its entry in the list of books."""
        live = self.live
        return BookListing(live.venue, live.symbol, live.instrument.pair, live.state.value)


class ConsolidatedSource:
    """The joined book of one pair as clients see it; changed whenever one of its books is."""

    __slots__ = ("_parts", "members", "pair")

    def __init__(self, pair: str) -> None:
        self.pair = pair
        self.members: list[BookSource] = []
        self._parts: dict[tuple[int, Encoding], tuple[int, msgspec.Raw]] = {}

    @property
    def version(self) -> int:
        """Moves whenever a member's does."""
        return sum(member.version for member in self.members)

    @property
    def ts_recv_ns(self) -> int:
        """When the newest update of any member was received."""
        return max(member.ts_recv_ns for member in self.members)

    def part(self, depth: int, encoding: Encoding) -> msgspec.Raw:
        """Return the encoded view of the joined book as it is now."""
        version = self.version
        known = self._parts.get((depth, encoding))
        if known is not None and known[0] == version:
            return known[1]
        joined = consolidate(self.pair, [member.live for member in self.members], depth)
        view = ConsolidatedView(
            joined.pair,
            joined.venues,
            [(level.price, level.quantity, level.venue) for level in joined.bids],
            [(level.price, level.quantity, level.venue) for level in joined.asks],
        )
        part = encode_part(view, encoding)
        self._parts[depth, encoding] = (version, part)
        return part


class Sources:
    """All books of the process, found by the object that the feeds hold.

    ``generation`` moves when a book is added, so that who has looked books up knows to look again.
    """

    def __init__(self, books: LiveBooks) -> None:
        self._books = books
        self._by_identity: dict[int, BookSource] = {}
        self._by_pair: dict[str, ConsolidatedSource] = {}
        self.generation = 0
        self.refresh()

    def of(self, live: LiveBook) -> BookSource:
        """Return the source of a book, adding it when it is new."""
        source = self._by_identity.get(id(live))
        return source if source is not None else self._add(live)

    def refresh(self) -> None:
        """Look for books that were added since."""
        if len(self._books) != len(self._by_identity):
            for live in self._books:
                self.of(live)

    def _add(self, live: LiveBook) -> BookSource:
        # The source keeps the book alive, so its identity stays its own.
        source = self._by_identity[id(live)] = BookSource(live)
        pair = live.instrument.pair
        joined = self._by_pair.get(pair)
        if joined is None:
            joined = self._by_pair[pair] = ConsolidatedSource(pair)
        joined.members.append(source)
        self.generation += 1
        return source

    def __iter__(self) -> Iterator[BookSource]:
        return iter(self._by_identity.values())

    def __len__(self) -> int:
        return len(self._by_identity)

    def consolidated(self) -> Iterable[ConsolidatedSource]:
        """Return the joined book of every pair."""
        return self._by_pair.values()
