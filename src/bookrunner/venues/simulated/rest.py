"""The venues' REST market data, and the simulator's own control requests. Pure: request in, response out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import msgspec
import structlog

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND
from bookrunner.core.errors import (
    BookrunnerError,
    InvalidRequestError,
    UnknownSymbolError,
    VenueRejectError,
)
from bookrunner.venues.simulated import binance, bybit
from bookrunner.venues.simulated.events import (
    BINANCE_COINM,
    BINANCE_SPOT,
    BINANCE_USDM,
    BYBIT_VENUES,
    Listing,
)
from bookrunner.venues.simulated.faults import FaultKind, Occasion, parse_fault, read_fault
from bookrunner.venues.simulated.limits import BANNED, OK, Admission, WeightLimiter
from bookrunner.venues.simulated.market import Market
from bookrunner.venues.simulated.truth import TruthBook, as_text

_log = structlog.get_logger(__name__)

JSON_TYPE = "application/json"
MAX_INSTRUMENTS = 1_000
DEFAULT_INSTRUMENTS = 500

_BINANCE_PREFIXES = {"/fapi/v1/": BINANCE_USDM, "/dapi/v1/": BINANCE_COINM, "/api/v3/": BINANCE_SPOT}
_WEIGHT_LIMITS = {BINANCE_USDM: 2_400, BINANCE_COINM: 2_400, BINANCE_SPOT: 6_000}
_BYBIT_REQUESTS_PER_MINUTE = 7_200
"""The venue's 600 requests in five seconds, counted by the minute."""
_FUTURES_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
_SPOT_DEPTH_WEIGHTS = ((100, 5), (500, 25), (1_000, 50), (5_000, 250))
_SPOT_EXCHANGE_INFO_WEIGHT = 20
_KLINE_WEIGHTS = ((99, 1), (499, 2), (1_000, 5), (1_500, 10))


class Response(msgspec.Struct, frozen=True):
    """An HTTP answer, and how long it is to be held back."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    delay_s: float = 0.0


class Controls(Protocol):
    """What the control requests do."""

    def pause(self) -> None:
        """Stop the sources."""
        ...

    def resume(self) -> None:
        """Let them go on."""
        ...

    def emit(self, count: int) -> int:
        """Publish events while paused; return how many there were."""
        ...

    def status(self) -> dict[str, Any]:
        """Describe the running simulator."""
        ...


def _json(status: int, body: object, **rest: Any) -> Response:
    return Response(status, msgspec.json.encode(body), **rest)


class RestApi:
    """Answers every path of both ports' protocols."""

    def __init__(self, market: Market, controls: Controls, venue_time_ns: Callable[[], int]) -> None:
        self._market = market
        self._controls = controls
        self._venue_time_ns = venue_time_ns
        self._limiters = {venue: WeightLimiter(limit) for venue, limit in _WEIGHT_LIMITS.items()}
        self._limiters |= {venue: WeightLimiter(_BYBIT_REQUESTS_PER_MINUTE) for venue in BYBIT_VENUES}

    def respond(self, method: str, target: str, body: bytes) -> Response:
        """Answer one request; never raises on bad input."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        if parts.path.startswith("/simulator/"):
            return self._control(method, parts.path.removeprefix("/simulator/"), query, body)
        if method != "GET":
            return _json(405, {"code": -1, "msg": "Method not allowed"})
        for prefix, venue in _BINANCE_PREFIXES.items():
            if parts.path.startswith(prefix):
                return self._binance(venue, parts.path.removeprefix(prefix), query)
        if parts.path.startswith("/v5/market/"):
            return self._bybit(parts.path.removeprefix("/v5/market/"), query)
        return _json(404, {"code": -1, "msg": "Not found"})

    # --- Binance ----------------------------------------------------------------------------------------

    def _binance(self, venue: str, name: str, query: Mapping[str, str]) -> Response:
        try:
            limit = _limit(query, {"depth": 100 if venue == BINANCE_SPOT else 500}.get(name, 500))
            weight = _weight(venue, name, limit)
        except VenueRejectError as error:
            return _json(400, error.fields)
        refusal, admission = self._admitted(venue, query.get("symbol", ""), weight)
        headers = {"X-MBX-USED-WEIGHT-1M": str(admission.used_weight)}
        if refusal is not None:
            return refusal
        try:
            answer = self._binance_body(venue, name, query, limit)
        except VenueRejectError as error:
            return _json(400, error.fields, headers=headers)
        if answer is None:
            return _json(404, {"code": -1, "msg": "Not found"}, headers=headers)
        body, delay_s = answer
        return _json(200, body, headers=headers, delay_s=delay_s)

    def _binance_body(
        self, venue: str, name: str, query: Mapping[str, str], limit: int
    ) -> tuple[object, float] | None:
        now_ms = self._market.now_ms()
        match name:
            case "ping":
                return {}, 0.0
            case "time":
                return {"serverTime": now_ms}, 0.0
            case "exchangeInfo":
                listings = self._listings(venue, query.get("symbol"))
                return binance.exchange_info_body(venue, listings, now_ms), 0.0
            case "depth":
                symbol = self._symbol(venue, query)
                book, delay_s = self._snapshot_book(venue, symbol)
                return binance.depth_body(venue, book, limit, now_ms), delay_s
            case "klines":
                symbol = self._symbol(venue, query)
                candles = list(self._market.candles.get((venue, symbol), ()))[-limit:]
                return [binance.candle_row(candle) for candle in candles], 0.0
        return None

    def _symbol(self, venue: str, query: Mapping[str, str]) -> str:
        symbol = query.get("symbol", "")
        if not symbol:
            text = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            raise VenueRejectError(code=-1102, msg=text)
        if not self._market.is_listed(venue, symbol):
            raise VenueRejectError(code=-1121, msg="Invalid symbol.")
        return symbol

    # --- Bybit ------------------------------------------------------------------------------------------

    def _bybit(self, name: str, query: Mapping[str, str]) -> Response:
        now_ms = self._market.now_ms()
        envelope = {"retCode": 0, "retMsg": "OK", "result": {}, "retExtInfo": {}, "time": now_ms}
        if name == "time":
            nano = now_ms * NANOSECONDS_PER_MILLISECOND
            result = {"timeSecond": str(now_ms // 1_000), "timeNano": str(nano)}
            return _json(200, envelope | {"result": result})
        venue = bybit.CATEGORIES.get(query.get("category", ""))
        if venue is None:
            return _json(200, envelope | {"retCode": 10001, "retMsg": "Illegal category"})
        refusal, _ = self._admitted(venue, query.get("symbol", ""), 1)
        if refusal is not None:
            return refusal
        try:
            answer = self._bybit_result(venue, name, query)
        except VenueRejectError as error:
            failure = {"retCode": error.fields["code"], "retMsg": error.fields["msg"]}
            return _json(200, envelope | failure)
        if answer is None:
            return _json(404, {})
        result, delay_s = answer
        return _json(200, envelope | {"result": result}, delay_s=delay_s)

    def _bybit_result(
        self, venue: str, name: str, query: Mapping[str, str]
    ) -> tuple[dict[str, Any], float] | None:
        category = query["category"]
        if name == "instruments-info":
            return self._instruments_page(venue, category, query), 0.0
        symbol = query.get("symbol", "")
        if not self._market.is_listed(venue, symbol):
            raise VenueRejectError(code=10001, msg="params error: symbol invalid")
        if name == "orderbook":
            book, delay_s = self._snapshot_book(venue, symbol)
            limit = _limit(query, 25 if category == "linear" else 1)
            return bybit.order_book_result(symbol, book, limit, self._market.now_ms()), delay_s
        if name == "kline":
            candles = list(self._market.candles.get((venue, symbol), ()))[-_limit(query, 200) :]
            rows = [bybit.candle_row(candle) for candle in reversed(candles)]
            return {"symbol": symbol, "category": category, "list": rows}, 0.0
        return None

    def _instruments_page(self, venue: str, category: str, query: Mapping[str, str]) -> dict[str, Any]:
        """One page; the cursor is the index of the next one's first entry."""
        listings = self._listings(venue, query.get("symbol"))
        size = min(_limit(query, DEFAULT_INSTRUMENTS), MAX_INSTRUMENTS)
        cursor = query.get("cursor", "")
        start = int(cursor) if cursor.isdecimal() else 0
        page = [bybit.instrument_info(venue, listing) for listing in listings[start : start + size]]
        following = str(start + size) if start + size < len(listings) else ""
        return {"category": category, "list": page, "nextPageCursor": following}

    # --- both -------------------------------------------------------------------------------------------

    def _listings(self, venue: str, symbol: str | None) -> list[Listing]:
        listed = [listing for listing in self._market.listings.values() if listing.venue == venue]
        return [listing for listing in listed if symbol in (None, listing.symbol)]

    def _snapshot_book(self, venue: str, symbol: str) -> tuple[TruthBook, float]:
        """Return the book that a snapshot request is answered from, and its delay."""
        book = self._market.books[venue, symbol]
        delay_s = 0.0
        for fault in self._market.plan.strike(Occasion.SNAPSHOT_REQUEST, venue, symbol):
            _log.info("fault_struck", fault=fault.fault, venue=venue, symbol=symbol)
            if fault.fault is FaultKind.OLD_SNAPSHOT:
                book = TruthBook(*book.first_snapshot)
            else:
                delay_s = fault.seconds
        return book, delay_s

    def _admitted(self, venue: str, symbol: str, weight: int) -> tuple[Response | None, Admission]:
        now_ns = self._venue_time_ns()
        limiter = self._limiters[venue]
        for fault in self._market.plan.strike(Occasion.REQUEST, venue, symbol):
            _log.info("fault_struck", fault=fault.fault, venue=venue, symbol=symbol)
            if fault.fault is FaultKind.UNAVAILABLE:
                return _json(503, {"code": -1, "msg": "Service Unavailable"}), Admission(503, 0)
            limiter.exhaust(now_ns, fault.seconds)
        admission = limiter.admit(weight, now_ns)
        if admission.status == OK:
            return None, admission
        if venue in BYBIT_VENUES:
            return _json(403, {"retCode": 403, "retMsg": "access too frequent"}), admission
        until_ms = self._market.now_ms() + admission.retry_after_s * 1_000
        text = f"Too many requests; current limit is {_WEIGHT_LIMITS[venue]} request weight per 1 MINUTE."
        if admission.status == BANNED:
            text = f"Way too many requests; IP banned until {until_ms}. Please use the websocket."
        headers = {"Retry-After": str(admission.retry_after_s)}
        headers["X-MBX-USED-WEIGHT-1M"] = str(admission.used_weight)
        return _json(admission.status, {"code": -1003, "msg": text}, headers=headers), admission

    # --- the simulator's own ----------------------------------------------------------------------------

    def _control(self, method: str, name: str, query: Mapping[str, str], body: bytes) -> Response:
        try:
            return _json(200, self._controlled(method, name, query, body))
        except UnknownSymbolError as error:
            return _json(404, {"code": error.code, "message": error.message, **error.fields})
        except BookrunnerError as error:
            return _json(400, {"code": error.code, "message": error.message, **error.fields})

    def _controlled(self, method: str, name: str, query: Mapping[str, str], body: bytes) -> object:
        match method, name:
            case "GET", "status":
                return self._controls.status()
            case "GET", "truth":
                return self._truth(query.get("venue", ""), query.get("symbol", ""))
            case "POST", "pause":
                self._controls.pause()
                return {"paused": True}
            case "POST", "resume":
                self._controls.resume()
                return {"paused": False}
            case "POST", "emit":
                count = query.get("count", "1")
                if not count.isdecimal():
                    raise InvalidRequestError("not a count", field="count", value=count, rule="an integer")
                return {"emitted": self._controls.emit(int(count))}
            case "POST", "faults":
                return self._arm(body)
        raise InvalidRequestError("no such control", field="path", value=name, rule="see the manual")

    def _truth(self, venue: str, symbol: str) -> dict[str, Any]:
        bids, asks, last = self._market.truth(venue, symbol)
        levels = {"bids": as_text(bids), "asks": as_text(asks)}
        return {"venue": venue, "symbol": symbol, "last_update_id": last} | levels

    def _arm(self, body: bytes) -> dict[str, Any]:
        """Arm a fault: ``"dropped:after=3"``, an object, or a list of either."""
        try:
            asked = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise InvalidRequestError("not JSON", field="body", value="", rule=str(error)) from None
        entries = asked if isinstance(asked, list) else [asked]
        faults = [parse_fault(entry) if isinstance(entry, str) else read_fault(entry) for entry in entries]
        for fault in faults:
            self._market.plan.arm(fault)
        return {"armed": [msgspec.to_builtins(fault) for fault in faults]}


def _limit(query: Mapping[str, str], default: int) -> int:
    text = query.get("limit", str(default))
    if not text.isdecimal() or int(text) == 0:
        raise VenueRejectError(code=-1130, msg="Data sent for parameter 'limit' is not valid.")
    return int(text)


def _weight(venue: str, name: str, limit: int) -> int:
    """Return the request weight, by the venue's tables."""
    if name == "depth":
        if venue != BINANCE_SPOT and limit not in _FUTURES_DEPTH_WEIGHTS:
            raise VenueRejectError(code=-4021, msg=f"{limit} is not valid depth limit")
        if venue != BINANCE_SPOT:
            return _FUTURES_DEPTH_WEIGHTS[limit]
        return next((weight for bound, weight in _SPOT_DEPTH_WEIGHTS if limit <= bound), 250)
    if name == "exchangeInfo" and venue == BINANCE_SPOT:
        return _SPOT_EXCHANGE_INFO_WEIGHT
    if name == "klines":
        return next((weight for bound, weight in _KLINE_WEIGHTS if limit <= bound), 10)
    return 1
