"""Binance's connections: routes, live subscription, and the silence of a wrong route.

Source: the venue's page on live subscribing and unsubscribing, and its notice on routed URLs.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from bookrunner.venues.simulated.binance import is_served_on, stream_of
from bookrunner.venues.simulated.events import BINANCE_COINM, BINANCE_SPOT, BINANCE_USDM, BINANCE_VENUES
from bookrunner.venues.simulated.session import (
    Action,
    ConnectionRules,
    Say,
    Subscribe,
    Unsubscribe,
)

MAX_STREAMS = 1_024
"""Streams on one connection."""
UNKNOWN_PROPERTY, BAD_VALUE, INVALID_REQUEST, INVALID_JSON = 0, 1, 2, 3
"""Error codes of the venue."""

_DAY_S = 86_400.0
_RULES = {
    BINANCE_USDM: ConnectionRules(180.0, 600.0, 10, _DAY_S),
    BINANCE_COINM: ConnectionRules(180.0, 600.0, 10, _DAY_S),
    BINANCE_SPOT: ConnectionRules(20.0, 60.0, 5, _DAY_S),
}
_ROUTES = ("public", "market")


class _Request(msgspec.Struct):
    method: str
    params: list[Any] = []
    id: int | str | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


def open_session(target: str) -> BinanceSession | None:
    """Read a URL's path and query; ``None`` when no Binance endpoint is there.

    ``/public/…`` and ``/market/…`` are USD-M, ``/stream`` and ``/ws`` spot. A leading ``/<venue id>`` chooses
    another: ``/binance_coinm/stream`` is COIN-M, ``/binance_usdm/ws`` the old USD-M URL without a route.
    """
    parts = urlsplit(target)
    path = [part for part in parts.path.split("/") if part]
    venue = path.pop(0) if path and path[0] in BINANCE_VENUES else ""
    route = path.pop(0) if path and path[0] in _ROUTES else ""
    if not path or path[0] not in ("stream", "ws") or (route and venue == BINANCE_SPOT):
        return None
    venue = venue or (BINANCE_USDM if route else BINANCE_SPOT)
    combined = path[0] == "stream"
    names = path[1:]
    if combined:
        names = [name for text in parse_qs(parts.query).get("streams", []) for name in text.split("/")]
    if venue == BINANCE_USDM and not route:
        route = "public"  # an unrouted URL brings only these
    return BinanceSession(venue, route, [name for name in names if name], combined=combined)


class BinanceSession:
    """One connection to a futures route or to spot."""

    def __init__(self, venue: str, route: str, names: list[str], *, combined: bool) -> None:
        self.venue = venue
        self.rules = _RULES[venue]
        self.answers_pings = True
        self._route = route
        self._combined = combined
        self._first_names = names
        self._names: dict[str, None] = {}

    def opened(self) -> list[Action]:
        """Subscribe to the URL's streams."""
        return self._subscribe(self._first_names)

    def wrapped(self, name: str, payload: bytes) -> bytes:
        """Wrap for ``/stream``; raw for ``/ws``."""
        return b'{"stream":"%b","data":%b}' % (name.encode(), payload) if self._combined else payload

    def received(self, message: bytes) -> list[Action]:
        """Answer one request."""
        try:
            request = _decode_request(message)
        except msgspec.ValidationError as error:
            return [_error(INVALID_REQUEST, f"Invalid request: {error}")]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return [_error(INVALID_JSON, f"Invalid JSON: {error}")]
        match request.method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                return self._change(request)
            case "LIST_SUBSCRIPTIONS":
                return [_result(list(self._names), request.id)]
            case "SET_PROPERTY" | "GET_PROPERTY":
                return self._property(request)
        return [
            _error(INVALID_REQUEST, f"Invalid request: unknown variant {request.method[:40]}", request.id)
        ]

    def _change(self, request: _Request) -> list[Action]:
        names = [name for name in request.params if isinstance(name, str)]
        if not names or len(names) != len(request.params):
            return [_error(INVALID_REQUEST, "Invalid request: params must be stream names", request.id)]
        if request.method == "UNSUBSCRIBE":
            for name in names:
                self._names.pop(name, None)
            return [_result(None, request.id), *map(Unsubscribe, names)]
        if len(self._names.keys() | set(names)) > MAX_STREAMS:
            return [_error(INVALID_REQUEST, f"Invalid request: more than {MAX_STREAMS} streams", request.id)]
        return [_result(None, request.id), *self._subscribe(names)]

    def _subscribe(self, names: list[str]) -> list[Action]:
        """Acknowledged streams that do not exist here, or not on this route, stay silent, as at the venue."""
        actions: list[Action] = []
        for name in names[:MAX_STREAMS]:
            if name in self._names:
                continue
            self._names[name] = None
            stream = stream_of(self.venue, name)
            if stream is not None and is_served_on(self._route, stream[1]):
                actions.append(Subscribe(name, *stream))
        return actions

    def _property(self, request: _Request) -> list[Action]:
        if not request.params or request.params[0] != "combined":
            return [_error(UNKNOWN_PROPERTY, "Unknown property", request.id)]
        if request.method == "GET_PROPERTY":
            return [_result(self._combined, request.id)]
        value = request.params[1] if len(request.params) > 1 else None
        if not isinstance(value, bool):
            return [_error(BAD_VALUE, "Invalid value type: expected Boolean", request.id)]
        self._combined = value
        return [_result(None, request.id)]


def _result(value: object, request_id: int | str | None) -> Say:
    return Say(msgspec.json.encode({"result": value, "id": request_id}))


def _error(code: int, text: str, request_id: int | str | None = None) -> Say:
    body: dict[str, object] = {"code": code, "msg": text}
    return Say(msgspec.json.encode(body if request_id is None else body | {"id": request_id}))
