"""The Bybit v5 venues as data: what differs between the categories, and what changed when.

Sources: ``bybit-exchange/docs`` ``docs/v5/websocket/public/*``, ``websocket/wss-authentication``,
``market/*`` and its changelog (BB). What no document states is marked "ours".
"""

from __future__ import annotations

from datetime import date

import msgspec

from bookrunner.core.enums import Channel, InstrumentKind
from bookrunner.venues.formats import Dated, FieldNames, History

DEPTH_ONE_SNAPSHOTS = date(2025, 3, 20)
"""Since then ``orderbook.1`` is snapshot-only; before, it sent deltas too."""

Depths = tuple[int, ...]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One category of Bybit v5."""

    venue: str
    category: str
    """As in ``/v5/public/<category>`` and ``category=<category>``."""
    hosts: tuple[str, ...] = (".bybit.com", ".bytick.com")
    channels: frozenset[Channel]
    kinds: dict[str, InstrumentKind]
    """By the instrument list's ``contractType``, ``""`` where it has none."""
    depths: History[Depths]
    """Levels a side that ``orderbook.<depth>`` may ask for."""
    arguments_per_request: int
    events: dict[str, History[FieldNames]]
    """Keys of each message over time and of its ``data``; the decoders read all of them, in any order."""


_NOW = None
_DATA = ("s", "b", "a", "u", "seq")
_TRADE = ("T", "s", "S", "v", "p", "L", "i", "BT", "RPI", "seq")
_KLINE = (
    "start",
    "end",
    "interval",
    "open",
    "close",
    "high",
    "low",
    "volume",
    "turnover",
    "confirm",
    "timestamp",
)

LINEAR = Variant(
    venue="bybit_linear",
    category="linear",
    channels=frozenset(Channel),
    kinds={"LinearPerpetual": InstrumentKind.PERPETUAL, "LinearFutures": InstrumentKind.FUTURE},
    depths=(
        Dated(date(2025, 8, 14), (1, 50, 200, 500)),
        Dated(date(2025, 9, 11), (1, 50, 200, 500, 1000), "BB changelog 2025-08-14"),
        Dated(_NOW, (1, 50, 200, 1000), "BB changelog 2025-09-11; pybit#333"),
    ),
    # Ours: the documents set no count for linear.
    arguments_per_request=100,
    events={
        "orderbook": (Dated(_NOW, ("topic", "type", "ts", "data", "cts")),),
        "orderbook.data": (Dated(_NOW, _DATA),),
        "publicTrade": (Dated(_NOW, ("topic", "type", "ts", "data")),),
        "publicTrade.data": (Dated(_NOW, _TRADE),),
        "kline": (Dated(_NOW, ("topic", "data", "ts", "type")),),
        "kline.data": (Dated(_NOW, _KLINE),),
    },
)

SPOT = Variant(
    venue="bybit_spot",
    category="spot",
    channels=frozenset(Channel) - {Channel.MARK_PRICE},
    kinds={"": InstrumentKind.SPOT},
    depths=(Dated(_NOW, (1, 50, 200, 1000)),),
    arguments_per_request=10,
    events={
        "orderbook": (Dated(_NOW, ("topic", "ts", "type", "data", "cts")),),
        "orderbook.data": (Dated(_NOW, _DATA),),
        "publicTrade": (Dated(_NOW, ("topic", "ts", "type", "data")),),
        "publicTrade.data": (Dated(_NOW, ("i", "T", "p", "v", "S", "s", "BT", "RPI", "seq")),),
        "kline": (Dated(_NOW, ("topic", "ts", "type", "data")),),
        "kline.data": (Dated(_NOW, _KLINE),),
    },
)

VARIANTS: dict[str, Variant] = {variant.venue: variant for variant in (LINEAR, SPOT)}
