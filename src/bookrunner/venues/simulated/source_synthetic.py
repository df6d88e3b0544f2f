"""A seeded market: random limit orders, cancels and market orders around a price that reverts to its mean.

Zero-intelligence order flow whose market orders excite the flow that follows, as in a Hawkes process. It is a
pure generator: the same seed and start time give the same events.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from random import Random
from zlib import crc32

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND
from bookrunner.core.errors import ConfigurationError
from bookrunner.venues.simulated.events import (
    BINANCE_SPOT,
    BYBIT_SPOT,
    BYBIT_VENUES,
    VENUES,
    BookReset,
    Candle,
    Depth,
    Event,
    Levels,
    Listing,
    Mark,
    Print,
    Quote,
)

LEVELS_KEPT = 40
"""Levels a side at most; the worst are taken away, so that a 50-level topic holds the whole book."""
LEVELS_WANTED = 20
"""Levels a side at least."""
SCATTER_TICKS = 8.0
"""Mean distance of a new order from the best price of the other side."""
REVERSION = 400.0
"""Ticks away from the mean price at which market orders only come back."""
HEAT_DECAY = 0.8
"""Excitation left from one step to the next."""
TAKE_FACTOR = 4
"""How many times larger market orders are than limit orders, so that the price moves."""
SHARE_ADDED, SHARE_CANCELLED = 0.6, 0.32
"""Of all orders; the rest are market orders."""
BOOK_STEPS_PER_SECOND = {True: 20.0, False: 10.0}
"""Book messages by default: Bybit (``True``) and Binance."""
FUNDING_MS = 8 * 3_600_000
MINUTE_MS = 60_000

_KNOWN = {
    "BTCUSDT": ("60000.00", "0.10", "0.001"),
    "ETHUSDT": ("2600.00", "0.01", "0.001"),
    "SOLUSDT": ("150.000", "0.010", "0.1"),
    "BNBUSDT": ("520.00", "0.01", "0.01"),
    "XRPUSDT": ("0.6000", "0.0001", "0.1"),
    "DOGEUSDT": ("0.10000", "0.00001", "1"),
    "ADAUSDT": ("0.3500", "0.0001", "1"),
    "LINKUSDT": ("11.000", "0.001", "0.1"),
    "LTCUSDT": ("65.00", "0.01", "0.1"),
    "AVAXUSDT": ("25.000", "0.001", "0.1"),
}


class Grid(msgspec.Struct, frozen=True):
    """Decimals of the texts, and the tick and lot in units of the last decimal."""

    price_decimals: int
    tick: int
    quantity_decimals: int
    lot: int

    def price(self, ticks: int) -> str:
        """Word a price as the venue does, with every decimal."""
        return _fixed(ticks * self.tick, self.price_decimals)

    def quantity(self, lots: int) -> str:
        """Word a quantity likewise."""
        return _fixed(lots * self.lot, self.quantity_decimals)


def _fixed(units: int, decimals: int) -> str:
    if not decimals:
        return str(units)
    digits = f"{units:0{decimals + 1}d}"
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def _units(text: str) -> tuple[int, int]:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)


class SyntheticPair(msgspec.Struct, frozen=True):
    """One symbol to make up."""

    venue: str
    symbol: str
    steps_per_second: float

    @classmethod
    def parse(cls, text: str) -> SyntheticPair:
        """Read ``bybit_linear:BTCUSDT`` or ``bybit_linear:BTCUSDT@50`` (book messages a second).

        Raises:
            ConfigurationError: not a known venue, no symbol, or a rate that is not positive.
        """
        venue, _, rest = text.strip().partition(":")
        symbol, _, rate = rest.partition("@")
        if venue not in VENUES or not symbol:
            raise ConfigurationError(
                "not a synthetic pair", field="synthetic", value=text, rule=f"VENUE:SYMBOL, venue in {VENUES}"
            )
        try:
            steps = float(rate) if rate else BOOK_STEPS_PER_SECOND[venue in BYBIT_VENUES]
        except ValueError:
            steps = 0.0
        if not 0.0 < steps < float("inf"):
            raise ConfigurationError("not a rate", field="synthetic", value=text, rule="a positive number")
        return cls(venue, symbol.upper(), steps)


class _Side:
    """Lots by tick of one side; ``sign`` is 1 for bids, -1 for asks."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.lots: dict[int, int] = {}
        self.touched: set[int] = set()

    @property
    def best(self) -> int:
        return max(self.lots) if self.sign > 0 else min(self.lots)

    @property
    def worst(self) -> int:
        return min(self.lots) if self.sign > 0 else max(self.lots)

    def put(self, tick: int, lots: int) -> None:
        self.touched.add(tick)
        if lots > 0:
            self.lots[tick] = lots
        else:
            self.lots.pop(tick, None)

    def levels(self, grid: Grid) -> Levels:
        ordered = sorted(self.lots.items(), reverse=self.sign > 0)
        return [(grid.price(tick), grid.quantity(lots)) for tick, lots in ordered]

    def changes(self, grid: Grid) -> Levels:
        ordered = sorted(self.touched, reverse=self.sign > 0)
        self.touched.clear()
        return [(grid.price(tick), grid.quantity(self.lots.get(tick, 0))) for tick in ordered]


class SyntheticBook:
    """One symbol's orders and candle."""

    def __init__(self, pair: SyntheticPair, random: Random, start_ms: int) -> None:
        price, tick, lot = _KNOWN.get(pair.symbol) or _made_up(pair.symbol)
        tick_units, price_decimals = _units(tick)
        lot_units, quantity_decimals = _units(lot)
        self.grid = Grid(price_decimals, tick_units, quantity_decimals, lot_units)
        self.listing = Listing(pair.venue, pair.symbol, tick, lot)
        self._pair = pair
        self._random = random
        self._start_ms = start_ms
        self._mean = _units(price)[0] * 10**price_decimals // 10 ** _units(price)[1] // tick_units
        self._sides = {1: _Side(1), -1: _Side(-1)}
        self._heat = 0.0
        self._update_id = start_ms
        self._trade_id = start_ms % 10**9
        self._last_tick = self._mean
        self._quoted: tuple[int, int, int, int] | None = None
        self._candle: list[int] = []
        for side in self._sides.values():
            self._refill(side)

    def reset(self) -> BookReset:
        """Return the book as it begins."""
        bids, asks = (self._sides[sign].levels(self.grid) for sign in (1, -1))
        for side in self._sides.values():
            side.touched.clear()
        pair = self._pair
        return BookReset(pair.venue, pair.symbol, self._update_id, bids, asks, self.listing)

    def step(self, at_ms: int) -> Iterator[Event]:
        """One interval of order flow: trades, then the book's changes, then the quote."""
        trades: list[tuple[int, int, int]] = []
        self._heat *= HEAT_DECAY
        for _ in range(1 + int(self._random.expovariate(1.0 / (1.0 + self._heat)))):
            share = self._random.random()
            if share < SHARE_ADDED:
                self._add()
            elif share < SHARE_ADDED + SHARE_CANCELLED:
                self._cancel()
            else:
                trades += self._take()
                self._heat += 1.0
        for side in self._sides.values():
            self._refill(side)
        for tick, lots, taker in trades:
            yield self._print(tick, lots, taker, at_ms)
        yield from self._book_events()

    def candle(self, at_ms: int) -> Iterator[Event]:
        """Return the forming candle, or the closed one when its minute is over."""
        if self._candle:
            closed = at_ms >= self._candle[0] + MINUTE_MS
            yield self._worded_candle(closed=closed)
            if closed:
                self._candle = []

    def mark(self, at_ms: int) -> Mark:
        """Return mark price and funding."""
        price = self.grid.price((self._sides[1].best + self._sides[-1].best) // 2)
        funding_ms = (at_ms // FUNDING_MS + 1) * FUNDING_MS
        return Mark(self._pair.venue, self._pair.symbol, price, price, "0.00010000", funding_ms)

    def _size(self) -> int:
        return 1 + int(self._random.expovariate(1.0 / 50.0))

    def _add(self) -> None:
        side = self._sides[self._random.choice((1, -1))]
        distance = 1 + int(self._random.expovariate(1.0 / SCATTER_TICKS))
        tick = max(1, self._sides[-side.sign].best - side.sign * distance)
        if tick * side.sign < self._sides[-side.sign].best * side.sign:
            side.put(tick, side.lots.get(tick, 0) + self._size())

    def _cancel(self) -> None:
        side = self._sides[self._random.choice((1, -1))]
        tick = self._random.choice(list(side.lots))
        side.put(tick, side.lots[tick] - self._size())
        self._refill(side)

    def _take(self) -> list[tuple[int, int, int]]:
        """Take from the best levels: ``(tick, lots, taker's sign)``; far off the mean, rather back."""
        away = (self._last_tick - self._mean) / REVERSION
        taker = 1 if self._random.random() > 0.5 + 0.5 * away else -1
        side, left = self._sides[-taker], self._size() * TAKE_FACTOR
        trades = []
        while left > 0 and len(side.lots) > 1:
            tick = side.best
            lots = min(left, side.lots[tick])
            side.put(tick, side.lots[tick] - lots)
            left -= lots
            trades.append((tick, lots, taker))
        return trades

    def _refill(self, side: _Side) -> None:
        if not side.lots:
            side.put(self._last_tick - side.sign, self._size())
        while len(side.lots) < LEVELS_WANTED and side.worst - side.sign > 0:
            side.put(side.worst - side.sign * (1 + int(self._random.random() * 3)), self._size())
        while len(side.lots) > LEVELS_KEPT:
            side.put(side.worst, 0)

    def _print(self, tick: int, lots: int, taker: int, at_ms: int) -> Print:
        self._trade_id += 1
        self._last_tick = tick
        if not self._candle:
            self._candle = [at_ms // MINUTE_MS * MINUTE_MS, tick, tick, tick, tick, 0, 0, 0]
        candle = self._candle
        candle[2], candle[3], candle[4] = max(candle[2], tick), min(candle[3], tick), tick
        candle[5], candle[6], candle[7] = candle[5] + lots, candle[6] + lots * tick, candle[7] + 1
        price, quantity = self.grid.price(tick), self.grid.quantity(lots)
        return Print(self._pair.venue, self._pair.symbol, self._trade_id, price, quantity, taker < 0)

    def _book_events(self) -> Iterator[Event]:
        pair, grid = self._pair, self.grid
        bids, asks = self._sides[1].changes(grid), self._sides[-1].changes(grid)
        if bids or asks:
            previous = self._update_id
            skipped = 0 if pair.venue == BINANCE_SPOT else self._random.randint(0, 40)
            first = previous + 1 + skipped
            self._update_id = first + len(bids) + len(asks) - 1
            yield Depth(pair.venue, pair.symbol, first, self._update_id, previous, bids, asks)
        bid, ask = self._sides[1], self._sides[-1]
        quoted = bid.best, bid.lots[bid.best], ask.best, ask.lots[ask.best]
        if quoted != self._quoted:
            self._quoted = quoted
            bid_text, bid_size = grid.price(quoted[0]), grid.quantity(quoted[1])
            ask_text, ask_size = grid.price(quoted[2]), grid.quantity(quoted[3])
            yield Quote(pair.venue, pair.symbol, self._update_id, bid_text, bid_size, ask_text, ask_size)

    def _worded_candle(self, *, closed: bool) -> Candle:
        open_ms, *ticks, lots, turnover, trades = self._candle
        grid = self.grid
        first, high, low, last = (grid.price(tick) for tick in ticks)
        decimals = grid.price_decimals + grid.quantity_decimals
        turnover_text = _fixed(turnover * grid.tick * grid.lot, decimals)
        volume = grid.quantity(lots)
        pair = self._pair
        return Candle(
            pair.venue, pair.symbol, open_ms, first, high, low, last, volume, turnover_text, trades, closed
        )


def _seeded(seed: str) -> Random:
    """A generator of its own for one symbol."""
    return Random(seed)  # noqa: S311 - a market, not a secret


def _made_up(symbol: str) -> tuple[str, str, str]:
    """A price between 1 and 1000 that depends on the name alone."""
    return f"{1 + crc32(symbol.encode()) % 1000}.000", "0.001", "0.1"


class SyntheticSource:
    """Several made-up symbols in one stream of timed events.

    Args:
        pairs: what to make up.
        random: drawn from at construction only, one seed a symbol: adding a pair changes no other.
        start_ms: wall time of the first event; candles begin by it.
        speed: see ``Source``.
    """

    def __init__(
        self, pairs: Sequence[SyntheticPair], random: Random, start_ms: int, speed: float = 1.0
    ) -> None:
        self.speed = speed
        self._start_ms = start_ms
        seed = random.getrandbits(64)
        self._books = [
            (pair, SyntheticBook(pair, _seeded(f"{seed}:{pair.venue}:{pair.symbol}"), start_ms))
            for pair in pairs
        ]

    def events(self) -> Iterator[tuple[int, Event]]:
        """Yield for ever; every book's beginning first."""
        for _, book in self._books:
            yield 0, book.reset()
        streams = [self._timed(pair, book, index) for index, (pair, book) in enumerate(self._books)]
        for due_ns, _, event in heapq.merge(*streams, key=lambda entry: entry[:2]):
            yield due_ns, event

    def _timed(
        self, pair: SyntheticPair, book: SyntheticBook, index: int
    ) -> Iterator[tuple[int, int, Event]]:
        interval_ns = int(NANOSECONDS_PER_SECOND / pair.steps_per_second)
        due_ns = 1 + interval_ns * index // max(1, len(self._books))
        minor_ns = due_ns + NANOSECONDS_PER_SECOND
        derivative = pair.venue not in (BINANCE_SPOT, BYBIT_SPOT)
        while True:
            at_ms = self._start_ms + due_ns // NANOSECONDS_PER_MILLISECOND
            for event in book.step(at_ms):
                yield due_ns, index, event
            if due_ns >= minor_ns:
                minor_ns += NANOSECONDS_PER_SECOND
                for event in book.candle(at_ms):
                    yield due_ns, index, event
                if derivative:
                    yield due_ns, index, book.mark(at_ms)
            due_ns += interval_ns
