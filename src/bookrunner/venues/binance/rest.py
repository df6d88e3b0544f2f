"""Binance's REST answers: depth snapshots, instrument lists, errors. Pure.

Sources: BND ``Order-Book``, ``Exchange-Information``, ``common-definition``, ``general-info``; BNS
``rest-api.md``, ``filters.md``.
"""

from __future__ import annotations

import msgspec

from bookrunner.core.enums import InstrumentKind, InstrumentStatus
from bookrunner.core.errors import MalformedFrameError, VenueRejectError
from bookrunner.engine.ports.venue_feed import RestRequest
from bookrunner.market.events import DepthSnapshot
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.venues.binance.variants import Variant
from bookrunner.venues.decoding import Id, Levels, Time, decode_json, time_ns

STATUSES = {
    "TRADING": InstrumentStatus.TRADING,
    # Futures.
    "PENDING_TRADING": InstrumentStatus.HALTED,
    "PRE_DELIVERING": InstrumentStatus.HALTED,
    "DELIVERING": InstrumentStatus.HALTED,
    "PRE_SETTLE": InstrumentStatus.HALTED,
    "SETTLING": InstrumentStatus.HALTED,
    "DELIVERED": InstrumentStatus.CLOSED,
    "CLOSE": InstrumentStatus.CLOSED,
    # Spot.
    "PRE_TRADING": InstrumentStatus.HALTED,
    "POST_TRADING": InstrumentStatus.HALTED,
    "END_OF_DAY": InstrumentStatus.HALTED,
    "AUCTION_MATCH": InstrumentStatus.HALTED,
    "HALT": InstrumentStatus.HALTED,
    "BREAK": InstrumentStatus.HALTED,
}
KINDS = {
    "PERPETUAL": InstrumentKind.PERPETUAL,
    "TRADIFI_PERPETUAL": InstrumentKind.PERPETUAL,
    "PERPETUAL_DELIVERING": InstrumentKind.PERPETUAL,
    "PERPETUAL DELIVERING": InstrumentKind.PERPETUAL,
    "CURRENT_MONTH": InstrumentKind.FUTURE,
    "NEXT_MONTH": InstrumentKind.FUTURE,
    "CURRENT_QUARTER": InstrumentKind.FUTURE,
    "NEXT_QUARTER": InstrumentKind.FUTURE,
    "CURRENT_QUARTER DELIVERING": InstrumentKind.FUTURE,
    "NEXT_QUARTER DELIVERING": InstrumentKind.FUTURE,
}


class _Snapshot(msgspec.Struct, rename="camel"):
    last_update_id: Id
    bids: Levels
    asks: Levels
    sent: Time = msgspec.field(name="E", default=0)
    """Futures only."""


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: str = ""
    step_size: str = ""


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]
    status: str = ""
    contract_status: str = ""
    """COIN-M's name for ``status``."""
    contract_type: str = ""


class _Symbols(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _Fault(msgspec.Struct):
    code: int
    msg: str = ""


_SNAPSHOT = msgspec.json.Decoder(_Snapshot)
_SYMBOLS = msgspec.json.Decoder(_Symbols)
_SYMBOL = msgspec.json.Decoder(_Symbol)
_FAULT = msgspec.json.Decoder(_Fault)


def fault_of(body: bytes) -> tuple[int, str] | None:
    """Return ``(code, text)`` of an error body such as ``{"code":-1121,"msg":"Invalid symbol."}``."""
    try:
        fault = decode_json(_FAULT, body)
    except MalformedFrameError:
        return None
    return fault.code, fault.msg


def _reject_or(error: MalformedFrameError, body: bytes) -> VenueRejectError | MalformedFrameError:
    fault = fault_of(body)
    if fault is None:
        return error
    return VenueRejectError("the venue refused", venue_code=fault[0], detail=fault[1])


def snapshot_request(variant: Variant, symbol: str) -> RestRequest:
    """Ask for the deepest snapshot the venue gives."""
    params = (("symbol", symbol), ("limit", str(variant.depth_limit)))
    return RestRequest(variant.depth_path, params, variant.depth_weight)


def decode_snapshot(symbol: str, body: bytes) -> DepthSnapshot:
    """Read a depth answer.

    Raises:
        MalformedFrameError: it is none.
        VenueRejectError: it is the venue's error form.
    """
    try:
        answer = decode_json(_SNAPSHOT, body)
    except MalformedFrameError as error:
        raise _reject_or(error, body) from error
    return DepthSnapshot(symbol, answer.last_update_id, answer.bids, answer.asks, time_ns(answer.sent))


def instruments_request(variant: Variant) -> RestRequest:
    """Ask for every instrument; one page."""
    return RestRequest(variant.instruments_path, (), variant.instruments_weight)


def decode_instruments(variant: Variant, body: bytes) -> list[Instrument]:
    """Read an ``exchangeInfo`` answer; what cannot be read is left out.

    Raises:
        MalformedFrameError: not an instrument list.
        VenueRejectError: it is the venue's error form.
    """
    try:
        answer = decode_json(_SYMBOLS, body)
    except MalformedFrameError as error:
        raise _reject_or(error, body) from error
    instruments = (_instrument(variant, raw) for raw in answer.symbols)
    return [instrument for instrument in instruments if instrument is not None]


def _instrument(variant: Variant, raw: msgspec.Raw) -> Instrument | None:
    """Read one symbol; ``pricePrecision`` and ``quantityPrecision`` are not tick and step."""
    try:
        symbol = decode_json(_SYMBOL, raw)
        filters = {entry.filter_type: entry for entry in symbol.filters}
        grid = Grid.of(filters["PRICE_FILTER"].tick_size, filters["LOT_SIZE"].step_size)
        status = STATUSES[symbol.status or symbol.contract_status]
        kind = variant.default_kind or KINDS[symbol.contract_type]
    except (MalformedFrameError, KeyError, ValueError):
        return None
    return Instrument(
        venue=variant.venue,
        symbol=symbol.symbol,
        base=symbol.base_asset,
        quote=symbol.quote_asset,
        kind=kind,
        grid=grid,
        status=status,
    )
