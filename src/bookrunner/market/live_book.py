"""One live order book: the venue's updates held to the venue's rule."""

from __future__ import annotations

from collections.abc import Iterator, ValuesView

from bookrunner.core.enums import BookState
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Instrument


class LiveBook:
    """A book that is right or says that it is not."""

    instrument: Instrument
    book: OrderBook
    state: BookState
    resyncs: int

    @property
    def venue(self) -> str:
        """Venue id, such as ``binance_usdm``."""
        return self.instrument.venue

    @property
    def symbol(self) -> str:
        """The venue's own name."""
        return self.instrument.symbol


class LiveBooks:
    """All live books of this process, by venue and symbol."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, str], LiveBook] = {}

    def add(self, live: LiveBook) -> None:
        """Register a book; one per venue and symbol."""
        self._books[live.venue, live.symbol] = live

    def get(self, venue: str, symbol: str) -> LiveBook | None:
        """Return the book, or ``None`` when nobody follows it."""
        return self._books.get((venue, symbol))

    def __iter__(self) -> Iterator[LiveBook]:
        return iter(self._books.values())

    def __len__(self) -> int:
        return len(self._books)

    def values(self) -> ValuesView[LiveBook]:
        """Return a live view of the books."""
        return self._books.values()
