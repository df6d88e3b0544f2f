"""The opening handshake: address, subprotocol, compression. Request in, response out; no I/O."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from multidict import CIMultiDict
from picows import WSUpgradeRequest, WSUpgradeResponse

from bookrunner.wire.client_deflate import accept_offer
from bookrunner.wire.client_message import Encoding, ErrorBody, WireForm
from bookrunner.wire.client_request import Opening, RequestLimits, decode_query

PATHS = frozenset({b"/", b"/ws"})
SUBPROTOCOLS = {"bookrunner.json": Encoding.JSON, "bookrunner.msgpack": Encoding.MSGPACK}
RETRY_AFTER_S = 5
"""What a client that is refused for lack of room is told to wait."""


class Handshake(msgspec.Struct, frozen=True):
    """What was agreed with a client."""

    form: WireForm
    opening: Opening
    headers: list[tuple[str, str]]
    """What our response says about it."""


def negotiate(request: WSUpgradeRequest, limits: RequestLimits, *, compression: bool) -> Handshake | None:
    """Agree on the form of messages and read the address; ``None`` when there is nothing at it.

    Raises:
        InvalidRequestError: the query is wrong.
    """
    path, _, query = request.path.partition(b"?")
    if path not in PATHS:
        return None
    opening = decode_query(query.decode("ascii", "replace"), limits)
    headers: list[tuple[str, str]] = []
    encoding = Encoding.JSON
    for name in _listed(request.headers, "Sec-WebSocket-Protocol"):
        if name in SUBPROTOCOLS:
            encoding = SUBPROTOCOLS[name]
            headers.append(("Sec-WebSocket-Protocol", name))
            break
    answer = accept_offer(request.headers.getall("Sec-WebSocket-Extensions", [])) if compression else None
    if answer is not None:
        headers.append(("Sec-WebSocket-Extensions", answer))
    return Handshake(WireForm(encoding, answer is not None), opening, headers)


def name_upgrade_alone(headers: CIMultiDict[str]) -> None:
    """Reduce ``Connection: keep-alive, Upgrade`` (Firefox) to the one word that picows accepts."""
    if "upgrade" in (word.lower() for word in _listed(headers, "Connection")):
        headers["Connection"] = "Upgrade"


def _listed(headers: CIMultiDict[str], name: str) -> list[str]:
    return [word.strip() for value in headers.getall(name, []) for word in value.split(",")]


def refusal(status: HTTPStatus, error: ErrorBody) -> Any:
    """Return the HTTP response that refuses a connection."""
    headers = [("Content-Type", "application/json")]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    body = msgspec.json.encode({"type": "error", "error": error})
    return WSUpgradeResponse.create_error_response(status, body, headers)
