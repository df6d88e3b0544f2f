"""Instruments: what a venue trades, and the grid that its prices and quantities lie on."""

from __future__ import annotations

import msgspec

from bookrunner.core.enums import InstrumentKind, InstrumentStatus
from bookrunner.core.fixed import common_step, format_decimal, normalise, parse_decimal


class Grid(msgspec.Struct, frozen=True):
    """Tick and lot as exact integers: ``tick = tick_units * 10**-price_scale``, likewise the lot."""

    price_scale: int
    tick_units: int
    quantity_scale: int
    lot_units: int

    @classmethod
    def of(cls, tick_size: str, lot_step: str) -> Grid:
        """Build from decimal texts such as ``"0.10"`` and ``"0.001"``.

        Raises:
            ValueError: not positive decimals.
        """
        tick_units, price_scale = normalise(*parse_decimal(tick_size))
        lot_units, quantity_scale = normalise(*parse_decimal(lot_step))
        if tick_units == 0 or lot_units == 0:
            raise ValueError(f"tick and lot must be positive: {tick_size!r}, {lot_step!r}")
        return cls(price_scale, tick_units, quantity_scale, lot_units)

    @classmethod
    def inferred(cls, prices: list[str], quantities: list[str]) -> Grid:
        """Greatest common divisors of the values seen; for recordings without an instrument list."""
        tick_units, price_scale = common_step([parse_decimal(text) for text in prices])
        lot_units, quantity_scale = common_step([parse_decimal(text) for text in quantities])
        return cls(price_scale, tick_units, quantity_scale, lot_units)

    def refined(self, prices: list[str], quantities: list[str]) -> Grid:
        """Return the coarsest grid that holds this grid's values and the given ones."""
        tick = [(self.tick_units, self.price_scale), *map(parse_decimal, prices)]
        lot = [(self.lot_units, self.quantity_scale), *map(parse_decimal, quantities)]
        tick_units, price_scale = common_step(tick)
        lot_units, quantity_scale = common_step(lot)
        return Grid(price_scale, tick_units, quantity_scale, lot_units)

    @property
    def tick_size(self) -> str:
        """The tick as decimal text."""
        return format_decimal(self.tick_units, self.price_scale)

    @property
    def lot_step(self) -> str:
        """The lot as decimal text."""
        return format_decimal(self.lot_units, self.quantity_scale)

    def price(self, ticks: int) -> str:
        """Exact decimal text of a price in ticks."""
        return format_decimal(ticks * self.tick_units, self.price_scale)

    def quantity(self, lots: int) -> str:
        """Exact decimal text of a quantity in lots."""
        return format_decimal(lots * self.lot_units, self.quantity_scale)

    def ticks(self, price: str) -> int:
        """Return a price's count of ticks.

        Raises:
            ValueError: not a decimal, or not a whole number of ticks.
        """
        return _steps(price, self.tick_units, self.price_scale)

    def lots(self, quantity: str) -> int:
        """Return a quantity's count of lots.

        Raises:
            ValueError: not a decimal, or not a whole number of lots.
        """
        return _steps(quantity, self.lot_units, self.quantity_scale)


def _steps(text: str, units: int, scale: int) -> int:
    mantissa, text_scale = parse_decimal(text)
    numerator: int = mantissa * 10**scale
    denominator: int = units * 10**text_scale
    steps, rest = divmod(numerator, denominator)
    if rest:
        raise ValueError(f"{text!r} is not a multiple of {format_decimal(units, scale)}")
    return steps


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol at one venue, as of one version.

    A change of tick, lot or status makes a new version; books rescale or close by it.
    """

    venue: str
    """Venue id, such as ``binance_usdm``."""
    symbol: str
    """The venue's own name, upper case, such as ``BTCUSDT``."""
    base: str
    quote: str
    kind: InstrumentKind
    grid: Grid
    status: InstrumentStatus = InstrumentStatus.TRADING
    version: int = 1

    @property
    def pair(self) -> str:
        """Venue-neutral name, such as ``BTC/USDT:perpetual``; books of several venues are joined by it.

        Dated futures keep their symbol in it: two expiries are two instruments.
        """
        name = f"{self.base}/{self.quote}:{self.kind}"
        return f"{name}:{self.symbol}" if self.kind is InstrumentKind.FUTURE else name
