"""Requests of market-data clients: bytes in, checked values out.

Every refusal is an ``InvalidRequestError`` with the field, its value (shortened) and the rule it breaks.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from bookrunner.core.errors import InvalidRequestError
from bookrunner.wire.client_message import Encoding, Kind

ALL = "*"
"""Stands for every venue or every symbol in a topic."""
VALUE_CHARACTERS_MAX = 80
"""How much of a wrong value an error repeats."""
NAME_CHARACTERS_MAX = 64
"""Longest venue or symbol that a request may name."""
SEQUENCE_MAX = 2**63 - 1

Topic: TypeAlias = tuple[Kind, str, str]
"""Kind, venue or ``*``, symbol or ``*``."""

KINDS_UNLESS_NAMED = (Kind.BOOKS, Kind.TRADES, Kind.METRICS)
"""What a subscription without ``kinds`` brings: all but the consolidated books."""


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may ask for."""

    depth_max: int
    throttle_min_ms: int
    throttle_max_ms: int
    subscriptions_max: int
    """Topics that one client may hold."""


class _Request(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="op", forbid_unknown_fields=True
):
    id: str | int | None = None
    """The client's own mark, repeated in the answer."""


class Subscribe(_Request, frozen=True, kw_only=True, gc=False, tag="subscribe"):
    """Receive more: absent ``venues`` or ``symbols`` mean all, absent ``kinds`` ``KINDS_UNLESS_NAMED``.

    Without all three it changes depth and throttle only.
    """

    venues: list[str] | None = None
    symbols: list[str] | None = None
    kinds: list[Kind] | None = None
    depth: int | None = None
    throttle_ms: int | None = None

    @property
    def names_topics(self) -> bool:
        """Whether it says what to receive, not only how."""
        return not (self.venues is None and self.symbols is None and self.kinds is None)


class Unsubscribe(_Request, frozen=True, kw_only=True, gc=False, tag="unsubscribe"):
    """Receive less: every topic that these cover ends; what is absent covers all."""

    venues: list[str] | None = None
    symbols: list[str] | None = None
    kinds: list[Kind] | None = None


class Resume(_Request, frozen=True, kw_only=True, gc=False, tag="resume"):
    """Go on with an earlier session after its message ``sequence``."""

    session: str
    sequence: int


class Ping(_Request, frozen=True, kw_only=True, gc=False, tag="ping"):
    """Ask for a pong."""


class SnapshotNow(_Request, frozen=True, kw_only=True, gc=False, tag="snapshot"):
    """Ask for a fresh snapshot of all that is subscribed."""


class ListBooks(_Request, frozen=True, kw_only=True, gc=False, tag="list"):
    """Ask which books there are."""


Request: TypeAlias = Subscribe | Unsubscribe | Resume | Ping | SnapshotNow | ListBooks

_NAMED_FIELD = re.compile(r"field `([^`]{1,64})`")
_JSON: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_MSGPACK: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)


def decode_request(payload: bytes, encoding: Encoding, limits: RequestLimits) -> Request:
    """Read one request and check every value in it.

    Raises:
        InvalidRequestError: what is wrong, in ``field``, ``value`` and ``rule``.
    """
    decoder = _JSON if encoding is Encoding.JSON else _MSGPACK
    try:
        request = decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise _of_validation(error, payload, encoding) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = "JSON" if encoding is Encoding.JSON else "MessagePack"
        raise InvalidRequestError(
            f"the message is not {name}",
            field="message",
            value=_shortened(payload),
            rule=_shortened(str(error)),
        ) from error
    try:
        _check(request, limits)
    except InvalidRequestError as error:
        error.fields["id"] = _shortened(request.id)
        raise
    return request


def topics_of(request: Subscribe | Unsubscribe, limits: RequestLimits) -> frozenset[Topic]:
    """Return the topics that a request names: its kinds times its venues times its symbols.

    Raises:
        InvalidRequestError: there are more than one client may hold.
    """
    venues = request.venues or [ALL]
    symbols = request.symbols or [ALL]
    kinds = request.kinds
    if kinds is None:
        kinds = list(KINDS_UNLESS_NAMED if isinstance(request, Subscribe) else Kind)
        if isinstance(request, Unsubscribe) and (request.venues or request.symbols):
            kinds.remove(Kind.METRICS)
    named = [kind for kind in kinds if kind is not Kind.METRICS]
    count = len(named) * len(venues) * len(symbols)
    if count > limits.subscriptions_max:
        field = "symbols" if len(symbols) >= len(venues) else "venues"
        raise too_many_subscriptions(field, count, limits)
    topics: set[Topic] = {(kind, venue, symbol) for kind in named for venue in venues for symbol in symbols}
    if Kind.METRICS in kinds:
        topics.add((Kind.METRICS, ALL, ALL))
    return frozenset(topics)


def too_many_subscriptions(field: str, count: int, limits: RequestLimits) -> InvalidRequestError:
    """Return the refusal of more topics than one client may hold."""
    return InvalidRequestError(
        "too many subscriptions",
        field=field,
        value=count,
        rule=f"at most {limits.subscriptions_max} topics (kind, venue, symbol) a client",
    )


class Opening(msgspec.Struct, frozen=True, gc=False):
    """What a connection's address asks for."""

    subscribe: Subscribe | None
    resume: Resume | None


_LISTS = frozenset({"venues", "symbols", "kinds"})
_NUMBERS = frozenset({"depth", "throttle_ms", "sequence"})


def decode_query(query: str, limits: RequestLimits) -> Opening:
    """Read a connection's query: ``symbols=BTCUSDT,ETHUSDT&throttle_ms=100`` or ``session=…&sequence=…``.

    Raises:
        InvalidRequestError: what is wrong, in ``field``, ``value`` and ``rule``.
    """
    values: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=16)
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidRequestError(
            "the query cannot be read", field="query", value=_shortened(query), rule=_shortened(str(error))
        ) from error
    for name, text in pairs:
        if name in values:
            raise InvalidRequestError("given twice", field=name, value=_shortened(text), rule="once each")
        values[name] = _query_value(name, text)
    resuming: dict[str, Any] = {name: values.pop(name) for name in ("session", "sequence") if name in values}
    subscribe = _converted(values, Subscribe, limits) if values else None
    return Opening(subscribe, _converted(resuming, Resume, limits) if resuming else None)


def _query_value(name: str, text: str) -> object:
    if name in _LISTS:
        return text.split(",") if text else []
    if name in _NUMBERS:
        return int(text) if text.isascii() and text.isdecimal() and len(text) < VALUE_CHARACTERS_MAX else text
    return text


_Asked = Subscribe | Resume


def _converted(values: dict[str, Any], kind: type[Any], limits: RequestLimits) -> Any:
    try:
        request: _Asked = msgspec.convert({"op": kind.__struct_config__.tag, **values}, kind)
    except msgspec.ValidationError as error:
        raise _of_validation(error, msgspec.json.encode(values), Encoding.JSON) from error
    _check(request, limits)
    return request


def _check(request: Request, limits: RequestLimits) -> None:
    match request:
        case Subscribe():
            _check_names(request)
            _check_range("depth", request.depth, 1, limits.depth_max)
            _check_range("throttle_ms", request.throttle_ms, limits.throttle_min_ms, limits.throttle_max_ms)
        case Unsubscribe():
            _check_names(request)
        case Resume():
            _check_range("sequence", request.sequence, 0, SEQUENCE_MAX)
        case _:
            pass
    if isinstance(request.id, int):
        _check_range("id", request.id, -SEQUENCE_MAX, SEQUENCE_MAX)
    elif request.id is not None and len(request.id) > NAME_CHARACTERS_MAX:
        raise InvalidRequestError(
            "the id is too long",
            field="id",
            value=_shortened(request.id),
            rule=f"at most {NAME_CHARACTERS_MAX} characters",
        )


def _check_names(request: Subscribe | Unsubscribe) -> None:
    for field, names in (("venues", request.venues), ("symbols", request.symbols), ("kinds", request.kinds)):
        if names is None:
            continue
        if not names:
            raise InvalidRequestError(
                "a subscription to nothing",
                field=field,
                value=[],
                rule="at least one; leave the field out for all",
            )
        for name in names:
            if not 0 < len(name) <= NAME_CHARACTERS_MAX:
                raise InvalidRequestError(
                    "a name that no book has",
                    field=field,
                    value=_shortened(name),
                    rule=f"1 to {NAME_CHARACTERS_MAX} characters",
                )


def _check_range(field: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidRequestError(
            f"{field} is out of range", field=field, value=_shortened(value), rule=f"between {low} and {high}"
        )


def _of_validation(error: msgspec.ValidationError, payload: bytes, encoding: Encoding) -> InvalidRequestError:
    """Turn msgspec's sentence (``Expected `int`, got `str` - at `$.depth` ``) into field, value, rule."""
    rule, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    named = _NAMED_FIELD.search(rule)
    field = path or (named[1] if named else "message")
    decode = msgspec.json.decode if encoding is Encoding.JSON else msgspec.msgpack.decode
    try:
        value: Any = decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = payload  # the typed decoder stopped before the part that cannot be read
    for step in field.replace("[", ".[").split("."):
        if isinstance(value, list) and step[1:-1].isdecimal():
            value = value[int(step[1:-1])]
        elif isinstance(value, dict):
            value = value.get(step)
    return InvalidRequestError(
        "the request is not valid", field=_shortened(field), value=_shortened(value), rule=_shortened(rule)
    )


def _shortened(value: object) -> object:
    """Return a value that is safe and small enough to repeat to the client."""
    if value is None or isinstance(value, bool | int | float):
        return (
            value
            if not isinstance(value, int) or abs(value) <= SEQUENCE_MAX
            else str(value)[:VALUE_CHARACTERS_MAX]
        )
    if isinstance(value, bytes):
        value = value[: VALUE_CHARACTERS_MAX * 4].decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"
