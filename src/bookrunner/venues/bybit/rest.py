"""Bybit v5's REST answers: instrument lists by pages, order books, errors. Pure.

Sources: BB ``market/instrument``, ``market/orderbook``. Every answer is an envelope
``{"retCode":0,"retMsg":"OK","result":{...},"time":ms}``, with HTTP 200 even when it refuses.
"""

from __future__ import annotations

import msgspec

from bookrunner.core.enums import InstrumentStatus
from bookrunner.core.errors import MalformedFrameError, VenueRejectError
from bookrunner.engine.ports.venue_feed import RestRequest
from bookrunner.market.events import DepthSnapshot
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.venues.bybit.variants import Variant
from bookrunner.venues.decoding import Id, Levels, Time, decode_json, malformed, time_ns

STATUSES = {
    "PreLaunch": InstrumentStatus.HALTED,
    "Trading": InstrumentStatus.TRADING,
    "Delivering": InstrumentStatus.HALTED,
    "Closed": InstrumentStatus.CLOSED,
}
INSTRUMENTS_PER_PAGE = 1000
SNAPSHOT_LEVELS = 1000
MAX_CURSOR_CHARACTERS = 2_048
"""A longer cursor is taken for a fault, not followed."""


class _Envelope(msgspec.Struct, rename="camel"):
    ret_code: int
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.Raw()


class _Snapshot(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    bids: Levels = msgspec.field(name="b")
    asks: Levels = msgspec.field(name="a")
    update_id: Id = msgspec.field(name="u")
    ts: Time = 0


class _Page(msgspec.Struct):
    entries: list[msgspec.Raw] = msgspec.field(name="list")
    next_page_cursor: str = msgspec.field(name="nextPageCursor", default="")


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str


class _LotFilter(msgspec.Struct, rename="camel"):
    qty_step: str = ""
    base_precision: str = ""
    """Spot's name for the step; here it is a step, not a count of digits."""


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    base_coin: str
    quote_coin: str
    status: str
    price_filter: _PriceFilter
    lot_size_filter: _LotFilter
    contract_type: str = ""


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)
_PAGE = msgspec.json.Decoder(_Page)
_SYMBOL = msgspec.json.Decoder(_Symbol)


def result_of(body: bytes) -> msgspec.Raw:
    """Return the ``result`` of an answer.

    Raises:
        MalformedFrameError: not an envelope.
        VenueRejectError: ``retCode`` is not 0.
    """
    envelope = decode_json(_ENVELOPE, body)
    if envelope.ret_code:
        raise VenueRejectError("the venue refused", venue_code=envelope.ret_code, detail=envelope.ret_msg)
    if not bytes(envelope.result):
        raise malformed("missing_field", "result")
    return envelope.result


def snapshot_request(variant: Variant, symbol: str) -> RestRequest:
    """Ask for the order book. Its ``u`` matches the 1000-level stream only: the stream is the sync base."""
    params = (("category", variant.category), ("symbol", symbol), ("limit", str(SNAPSHOT_LEVELS)))
    return RestRequest("/v5/market/orderbook", params, 1)


def decode_snapshot(symbol: str, body: bytes) -> DepthSnapshot:
    """Read an order-book answer.

    Raises:
        MalformedFrameError: it is none, or another symbol's.
        VenueRejectError: it is a refusal.
    """
    answer = decode_json(_SNAPSHOT, result_of(body))
    if answer.symbol != symbol:
        raise malformed("wrong_symbol", answer.symbol[:80])
    return DepthSnapshot(symbol, answer.update_id, answer.bids, answer.asks, time_ns(answer.ts))


def instruments_request(variant: Variant, cursor: str = "") -> RestRequest:
    """Ask for a page of instruments, the first one without a cursor."""
    params = (("category", variant.category), ("limit", str(INSTRUMENTS_PER_PAGE)))
    page = (("cursor", cursor),) if cursor else ()
    return RestRequest("/v5/market/instruments-info", params + page, 1)


def next_instruments_request(variant: Variant, body: bytes) -> RestRequest | None:
    """Return the request for the page after ``body``, ``None`` after the last.

    Raises:
        MalformedFrameError: not an instrument list, or an endless cursor.
        VenueRejectError: it is a refusal.
    """
    cursor = decode_json(_PAGE, result_of(body)).next_page_cursor
    if len(cursor) > MAX_CURSOR_CHARACTERS:
        raise malformed("out_of_range", "nextPageCursor")
    return instruments_request(variant, cursor) if cursor else None


def decode_instruments(variant: Variant, body: bytes) -> list[Instrument]:
    """Read a page of instruments; what cannot be read is left out.

    Raises:
        MalformedFrameError: not an instrument list.
        VenueRejectError: it is a refusal.
    """
    page = decode_json(_PAGE, result_of(body))
    instruments = (_instrument(variant, raw) for raw in page.entries)
    return [instrument for instrument in instruments if instrument is not None]


def _instrument(variant: Variant, raw: msgspec.Raw) -> Instrument | None:
    try:
        symbol = decode_json(_SYMBOL, raw)
        lots = symbol.lot_size_filter
        return Instrument(
            venue=variant.venue,
            symbol=symbol.symbol,
            base=symbol.base_coin,
            quote=symbol.quote_coin,
            kind=variant.kinds[symbol.contract_type],
            grid=Grid.of(symbol.price_filter.tick_size, lots.qty_step or lots.base_precision),
            status=STATUSES[symbol.status],
        )
    except (MalformedFrameError, KeyError, ValueError):
        return None
