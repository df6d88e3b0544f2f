"""The REST envelope: every answer of the API, and every error, in one shape.

``{"status":"ok","data":…,"timestamp":unix_s}``, or
``{"status":"error","error":{"code":…,"message":…,"details":…},"timestamp":unix_s}``; both with
``X-Request-ID``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import BookrunnerError, InvalidRequestError, NotFoundError, NotLiveError

JSON = "application/json"
REQUEST_ID = "X-Request-ID"
_REQUEST_ID_SHAPE = re.compile(r"[A-Za-z0-9._-]{1,64}")

HTTP_STATUS: dict[type[BookrunnerError], int] = {
    InvalidRequestError: 422,
    NotFoundError: 404,
    NotLiveError: 503,
}
"""Errors that are the client's to know; any other is a 500 and is told nothing about."""
HTTP_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}

log = structlog.get_logger(__name__)


class Envelope:
    """Makes answers, stamped by a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def timestamp_s(self) -> float:
        """Unix seconds, to the millisecond."""
        return round(self._clock.wall_ns() / NANOSECONDS_PER_SECOND, 3)

    def ok(self, data: object) -> Response:
        """Return an answer; ``data`` is anything msgspec can encode."""
        body = {"status": "ok", "data": data, "timestamp": self.timestamp_s()}
        return Response(msgspec.json.encode(body), media_type=JSON)

    def error(self, status: int, code: str, message: str, details: object = None) -> Response:
        """Return an error."""
        body = {
            "status": "error",
            "error": {"code": code, "message": message, "details": details},
            "timestamp": self.timestamp_s(),
        }
        return Response(msgspec.json.encode(body, enc_hook=str), status, media_type=JSON)

    def of(self, error: BookrunnerError) -> Response:
        """Return an error of the tree; those that clients need not know become ``INTERNAL``."""
        status = HTTP_STATUS.get(type(error))
        if status is None:
            log.error("request_failed", code=error.code, error=str(error))
            return self.internal()
        return self.error(status, error.code, error.message, error.fields or None)

    def internal(self) -> Response:
        """Return what a client is told about a bug: nothing but that it was one."""
        return self.error(500, "INTERNAL", "internal error; the request id finds it in the log")


def add_error_handlers(app: FastAPI, envelope: Envelope) -> None:
    """Answer every refusal of the framework, and every error of the tree, in the envelope."""

    async def on_bookrunner_error(_request: Request, error: Any) -> Response:
        return envelope.of(error)

    async def on_http_error(_request: Request, error: Any) -> Response:
        code = HTTP_CODES.get(error.status_code, f"HTTP_{error.status_code}")
        response = envelope.error(error.status_code, code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    async def on_invalid_request(_request: Request, error: Any) -> Response:
        details = [
            {
                "field": ".".join(str(part) for part in problem["loc"]),
                "value": str(problem.get("input"))[:80],
                "rule": problem["msg"],
            }
            for problem in error.errors()
        ]
        return envelope.error(422, InvalidRequestError.code, "the request is not valid", details)

    async def on_bug(_request: Request, _error: Exception) -> Response:
        return envelope.internal()

    app.add_exception_handler(Exception, on_bug)  # the framework raises it again for ``RequestIds`` to log
    app.add_exception_handler(BookrunnerError, on_bookrunner_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)


class RequestIds:
    """Outermost layer: names each request, and turns a bug into a 500 without a trace.

    A client's own ``X-Request-ID`` is kept when it is short and plain.
    """

    def __init__(self, app: ASGIApp, envelope: Envelope, started_ns: int) -> None:
        self._app = app
        self._envelope = envelope
        self._numbers: Callable[[], int] = count(1).__next__
        self._prefix = f"{started_ns:x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID_SHAPE.fullmatch(given) else f"{self._prefix}-{self._numbers():x}"
        begun = False

        async def named_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, named_send)
        except Exception:
            log.exception("request_died", request_id=request_id, path=scope["path"], method=scope["method"])
            if not begun:
                await self._envelope.internal()(scope, receive, named_send)
