"""A small HTTP/1.1 server for the REST port: keep-alive, bounded requests, one answer at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools
import structlog

from bookrunner.venues.simulated.rest import JSON_TYPE, Response

MAX_REQUEST_BYTES = 64 * 1024
"""Target, headers and body of one request."""

_log = structlog.get_logger(__name__)

Respond = Callable[[str, str, bytes], Response]


class HttpProtocol(asyncio.Protocol):
    """One client connection, answered in order; while an answer is held back, nothing is read."""

    def __init__(self, respond: Respond, connections: set[HttpProtocol]) -> None:
        self._respond = respond
        self._connections = connections
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body = b""
        self._size = 0
        self._delayed: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Response, bool]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        # uvloop's transports are no subclasses of asyncio's, so this cannot be checked.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and an answer that nobody waits for."""
        del exc
        self._connections.discard(self)
        if self._delayed is not None:
            self._delayed.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse; whole requests are answered by the parser's callbacks below."""
        self._size += len(data)
        if self._size > MAX_REQUEST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(HTTPStatus.BAD_REQUEST)
        except httptools.HttpParserError as error:
            _log.warning("http_request_malformed", reason=str(error))
            self._refuse(HTTPStatus.BAD_REQUEST)

    def close(self) -> None:
        """Drop the client."""
        self._transport.close()

    # --- the parser's callbacks -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request."""
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._target += url

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer the request."""
        self._size = 0
        method = self._parser.get_method().decode("ascii")
        response = self._respond(method, self._target.decode("latin-1"), self._body)
        self._waiting.append((response, self._parser.should_keep_alive()))
        if self._delayed is None:
            self._answer_next()

    def _answer_next(self) -> None:
        self._delayed = None
        while self._waiting:
            response, keep_alive = self._waiting[0]
            if response.delay_s:
                self._transport.pause_reading()
                held = Response(response.status, response.body, response.headers)
                self._waiting[0] = held, keep_alive
                loop = asyncio.get_running_loop()
                self._delayed = loop.call_later(response.delay_s, self._answer_next)
                return
            del self._waiting[0]
            self._write(response, keep_alive=keep_alive)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _write(self, response: Response, *, keep_alive: bool) -> None:
        status = HTTPStatus(response.status)
        headers = {"Content-Type": JSON_TYPE, "Content-Length": str(len(response.body))} | response.headers
        if not keep_alive:
            headers["Connection"] = "close"
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._transport.write((head + lines + "\r\n").encode("latin-1") + response.body)
        if not keep_alive:
            self._transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        self._write(Response(status.value, b"{}"), keep_alive=False)


class HttpServer:
    """The listening port."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._connections: set[HttpProtocol] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (a free one for 0)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpProtocol(self._respond, self._connections), host, port
        )
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.close()
            await self._server.wait_closed()
            self._server = None
