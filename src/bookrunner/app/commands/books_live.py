"""``bookrunner books`` without a recording: the books of a running process, over its WebSocket."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import msgspec
from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from bookrunner.app.settings import Settings
from bookrunner.core.errors import ConnectionLostError

THROTTLE_MS = 250
"""How often each book is redrawn."""
CONNECT_TIMEOUT_S = 5.0
"""For the connection, and for the first snapshot after it."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A snapshot of a thousand books at full depth stays below."""


class _Books(WSListener):
    """Keeps the newest form of every book."""

    def __init__(self) -> None:
        self.books: dict[tuple[str, str], dict[str, Any]] = {}
        self.changed = asyncio.Event()
        self.has_snapshot = False
        self._parts = bytearray()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Join fragments; decode whole messages."""
        if frame.msg_type not in {WSMsgType.TEXT, WSMsgType.CONTINUATION}:
            return
        self._parts += frame.get_payload_as_memoryview()
        if len(self._parts) > MAX_MESSAGE_BYTES:
            transport.disconnect()
        elif frame.fin:
            message = msgspec.json.decode(self._parts)
            self._parts.clear()
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] in {"snapshot", "books"}:
            for book in message["books"]:
                self.books[book["venue"], book["symbol"]] = book
            self.has_snapshot = True
        elif message["type"] == "state":
            book = self.books.get((message["venue"], message["symbol"]))
            if book is not None:
                book["state"] = message["state"]
        self.changed.set()


def live_books(settings: Settings, venue: str | None, depth: int, *, as_json: bool) -> int:
    """Show the books of the running process until interrupted; return the exit code.

    Args:
        settings: say where the market-data WebSocket is.
        venue: only this venue's books.
        depth: levels a side.
        as_json: print the books once, as one JSON object, and end.

    Raises:
        ConnectionLostError: no process serves there, or it went away.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_follow(settings, venue, depth, as_json=as_json))
    return 0


async def _follow(settings: Settings, venue: str | None, depth: int, *, as_json: bool) -> None:
    query: dict[str, object] = {
        "kinds": "books",
        "depth": min(depth, settings.book.levels),
        "throttle_ms": THROTTLE_MS,
    }
    if venue is not None:
        query["venues"] = venue
    url = f"ws://{settings.fanout.host}:{settings.fanout.port}/?{urlencode(query)}"
    listener = _Books()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, _ = await ws_connect(lambda: listener, url, max_frame_size=MAX_MESSAGE_BYTES)
    except WSHandshakeError as error:
        raise ConnectionLostError("the server refused the subscription", reason=str(error)) from error
    except (OSError, WSError, TimeoutError) as error:
        raise ConnectionLostError(
            "no running bookrunner answers; start one with `bookrunner run`", url=url.partition("?")[0]
        ) from error
    gone = asyncio.create_task(transport.wait_disconnected())
    try:
        if as_json:
            await _print_once(listener, gone)
        else:
            await _draw(listener, gone)
    finally:
        transport.disconnect()
    if gone.done() and not (as_json and listener.has_snapshot):
        raise ConnectionLostError("the process went away", url=url.partition("?")[0])


async def _print_once(listener: _Books, gone: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while not listener.has_snapshot and not gone.done():
                await _next(listener, gone)
    except TimeoutError as error:
        raise ConnectionLostError("no snapshot came in time", timeout_s=CONNECT_TIMEOUT_S) from error
    if not listener.has_snapshot:
        return
    document = {"books": list(listener.books.values())}
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


async def _draw(listener: _Books, gone: asyncio.Task[None]) -> None:
    from rich.console import Group
    from rich.live import Live

    from bookrunner.app.book_tables import ladder

    with Live(auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while not gone.done():
            await _next(listener, gone)
            live.update(Group(*(ladder(book) for _, book in sorted(listener.books.items()))), refresh=True)


async def _next(listener: _Books, gone: asyncio.Task[None]) -> None:
    listener.changed.clear()
    change = asyncio.create_task(listener.changed.wait())
    await asyncio.wait({change, gone}, return_when=asyncio.FIRST_COMPLETED)
    change.cancel()
