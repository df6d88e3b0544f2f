"""Bybit v5's public connections: topics, acknowledgements, the pong of each product.

Source: the venue's v5 page on WebSocket authentication and connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bookrunner.venues.simulated.bybit import CATEGORIES, topic_of
from bookrunner.venues.simulated.events import BYBIT_SPOT
from bookrunner.venues.simulated.session import Action, ConnectionRules, Say, Subscribe, Unsubscribe

MAX_ARGS_CHARACTERS = 21_000
"""All topics of one connection together."""
MAX_SPOT_ARGS = 10
"""Topics in one spot request."""

_RULES = ConnectionRules(ping_interval_s=0.0, silence_s=600.0, messages_per_second=0, lifetime_s=0.0)
_PATH = ["v5", "public"]


class _Request(msgspec.Struct):
    op: str
    args: list[Any] = []
    req_id: str | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


def open_session(
    target: str, connection_id: str, is_listed: Callable[[str, str], bool]
) -> BybitSession | None:
    """Read a URL's path; ``None`` when no Bybit endpoint is there."""
    path = [part for part in urlsplit(target).path.split("/") if part]
    venue = CATEGORIES.get(path[-1]) if path[:-1] == _PATH else None
    return None if venue is None else BybitSession(venue, connection_id, is_listed)


class BybitSession:
    """One connection to ``/v5/public/{linear,spot}``."""

    def __init__(self, venue: str, connection_id: str, is_listed: Callable[[str, str], bool]) -> None:
        self.venue = venue
        self.rules = _RULES
        self.answers_pings = True
        self._connection_id = connection_id
        self._is_listed = is_listed
        self._topics: dict[str, None] = {}

    def opened(self) -> list[Action]:
        """Nothing: the URL names no topics."""
        return []

    def wrapped(self, name: str, payload: bytes) -> bytes:
        """Put the topic in front."""
        return b'{"topic":"%b",%b' % (name.encode(), payload)

    def received(self, message: bytes) -> list[Action]:
        """Answer one request."""
        try:
            request = _decode_request(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [self._answer("", "error:invalid json", None, success=False)]
        topics = [topic for topic in request.args if isinstance(topic, str)]
        match request.op:
            case "ping":
                return [self._pong(request)] if self.answers_pings else []
            case "subscribe":
                return self._subscribe(request, topics)
            case "unsubscribe":
                for topic in topics:
                    self._topics.pop(topic, None)
                return [self._answer(request.op, "", request.req_id), *map(Unsubscribe, topics)]
        return [self._answer(request.op, "error:unknown op", request.req_id, success=False)]

    def _subscribe(self, request: _Request, topics: list[str]) -> list[Action]:
        """One bad topic fails the whole request."""
        problem = self._problem(topics)
        if problem:
            return [self._answer(request.op, problem, request.req_id, success=False)]
        self._topics.update(dict.fromkeys(topics))
        streams = [(topic, topic_of(topic)) for topic in topics]
        begun = [Subscribe(topic, *stream) for topic, stream in streams if stream is not None]
        text = "subscribe" if self.venue == BYBIT_SPOT else ""
        return [self._answer(request.op, text, request.req_id), *begun]

    def _problem(self, topics: list[str]) -> str:
        if not topics:
            return "error:no args"
        if self.venue == BYBIT_SPOT and len(topics) > MAX_SPOT_ARGS:
            return f"args size >{MAX_SPOT_ARGS}"
        if sum(map(len, [*self._topics, *topics])) > MAX_ARGS_CHARACTERS:
            return f"error:args characters >{MAX_ARGS_CHARACTERS}"
        for topic in topics:
            if topic in self._topics:
                return f"error:already subscribed,topic:{topic}"
            stream = topic_of(topic)
            if stream is None or not self._is_listed(self.venue, stream[0]):
                return f"error:handler not found,topic:{topic}"
        return ""

    def _pong(self, request: _Request) -> Say:
        body: dict[str, Any] = {"success": True, "ret_msg": "pong", "conn_id": self._connection_id}
        if self.venue != BYBIT_SPOT:
            body["req_id"] = request.req_id or ""
        return Say(msgspec.json.encode(body | {"op": "ping"}))

    def _answer(self, op: str, text: str, request_id: str | None, *, success: bool = True) -> Say:
        body: dict[str, Any] = {"success": success, "ret_msg": text, "conn_id": self._connection_id}
        if request_id is not None:
            body["req_id"] = request_id
        return Say(msgspec.json.encode(body | {"op": op}))
