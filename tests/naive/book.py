"""The order book in the plainest way: a dict a side, sorted when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field

Side = dict[int, int]
Changes = list[tuple[int, int]]
"""(tick, lots); 0 lots delete."""


@dataclass
class NaiveBook:
    """Ticks to lots."""

    bids: Side = field(default_factory=dict)
    asks: Side = field(default_factory=dict)

    def snapshot(self, bids: Changes, asks: Changes) -> None:
        self.bids, self.asks = {}, {}
        self.apply(bids, asks)

    def apply(self, bids: Changes, asks: Changes) -> None:
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for tick, lots in changes:
                side.pop(tick, None)
                if lots:
                    side[tick] = lots

    def trim(self, low: int, high: int) -> int:
        before = len(self.bids) + len(self.asks)
        self.bids = {tick: lots for tick, lots in self.bids.items() if low <= tick <= high}
        self.asks = {tick: lots for tick, lots in self.asks.items() if low <= tick <= high}
        return before - len(self.bids) - len(self.asks)

    def scale(self, price: int, quantity: int) -> None:
        self.bids = {tick * price: lots * quantity for tick, lots in self.bids.items()}
        self.asks = {tick * price: lots * quantity for tick, lots in self.asks.items()}

    def sorted_bids(self) -> Changes:
        return sorted(self.bids.items(), reverse=True)

    def sorted_asks(self) -> Changes:
        return sorted(self.asks.items())

    def best_bid(self) -> int | None:
        return max(self.bids, default=None)

    def best_ask(self) -> int | None:
        return min(self.asks, default=None)
