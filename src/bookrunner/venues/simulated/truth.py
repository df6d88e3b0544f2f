"""The simulator's own book, which no fault touches."""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Decimal
from itertools import islice

from bookrunner.venues.simulated.events import Levels

DecimalLevels = dict[Decimal, Decimal]
ZERO = Decimal(0)


class TruthSide:
    """One side: quantities by price, and the prices ascending."""

    def __init__(self, levels: Levels = (), *, descending: bool = False) -> None:  # type: ignore[assignment]
        self._descending = descending
        self.quantities: DecimalLevels = {}
        self._prices: list[Decimal] = []
        self.apply(levels)

    def apply(self, levels: Levels) -> None:
        """Set each level to its absolute quantity; 0 removes, also what is not there."""
        quantities, prices = self.quantities, self._prices
        for price_text, quantity_text in levels:
            price, quantity = Decimal(price_text), Decimal(quantity_text)
            if quantity:
                if price not in quantities:
                    insort(prices, price)
                quantities[price] = quantity
            elif quantities.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]

    def top(self, depth: int) -> DecimalLevels:
        """Return the best ``depth`` levels, best first."""
        ordered = reversed(self._prices) if self._descending else iter(self._prices)
        quantities = self.quantities
        return {price: quantities[price] for price in islice(ordered, depth)}

    def __len__(self) -> int:
        return len(self._prices)


class TruthBook:
    """A whole book and the id of the last update in it."""

    def __init__(self, bids: Levels, asks: Levels, last_update_id: int) -> None:
        self.bids = TruthSide(bids, descending=True)
        self.asks = TruthSide(asks)
        self.last_update_id = last_update_id
        self.first_snapshot = (bids, asks, last_update_id)
        """The book as it began: what a too-old snapshot answers."""

    def apply(self, bids: Levels, asks: Levels, last_update_id: int) -> None:
        """Apply one update."""
        self.bids.apply(bids)
        self.asks.apply(asks)
        self.last_update_id = last_update_id


def as_text(levels: DecimalLevels) -> Levels:
    """Word levels as a venue does: plain decimals with the digits that came in."""
    return [(format(price, "f"), format(quantity, "f")) for price, quantity in levels.items()]


class DepthWindow:
    """The best ``depth`` levels as last told to subscribers; yields what changed since."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._bids: DecimalLevels = {}
        self._asks: DecimalLevels = {}

    def snapshot(self, book: TruthBook) -> tuple[Levels, Levels]:
        """Return the window's levels now, and remember them as told."""
        self._bids, self._asks = book.bids.top(self.depth), book.asks.top(self.depth)
        return as_text(self._bids), as_text(self._asks)

    def changes(self, book: TruthBook) -> tuple[Levels, Levels]:
        """Return levels to set and to remove (quantity 0), and remember the new state as told."""
        bids, asks = book.bids.top(self.depth), book.asks.top(self.depth)
        told = _changes(self._bids, bids), _changes(self._asks, asks)
        self._bids, self._asks = bids, asks
        return told

    def forget(self) -> None:
        """Tell everything anew with the next changes."""
        self._bids, self._asks = {}, {}


def _changes(before: DecimalLevels, after: DecimalLevels) -> Levels:
    changed = {price: quantity for price, quantity in after.items() if before.get(price) != quantity}
    changed.update((price, ZERO) for price in before if price not in after)
    return as_text(changed)
