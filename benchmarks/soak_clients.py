"""Clients of the market-data WebSocket for the soak, each of a temper of its own.

One keeps up, one is slow, one never reads, one comes and goes. All check that messages are numbered without a
jump that was not announced.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

KEEPS_UP = "keeps up"
DEEPEST = 100
QUICK_THROTTLE_MS, DEEP_THROTTLE_MS = 100, 50
SLOW_PAUSE_S = 0.5
"""What a slow client does after each message."""
MUTE_S = 45.0
"""Longer than the server lets a socket take nothing."""
VISIT_MESSAGES = 300
"""After so many messages a visitor leaves, and comes back with its session."""
RESUMED_SHARE = 0.5
QUEUE_FRAMES = 4
"""What the library reads ahead: little, so that a slow reader is slow on the wire."""


class Tally:
    """What one kind of client saw."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.metrics: dict[str, Any] = {}
        """The newest."""

    def check(self, message: dict[str, Any], last: int) -> int:
        """Count a message, and return its number; ``last`` is that of the one before, 0 at first."""
        kind, number = message["type"], int(message["sequence"])
        self.counts[kind] += 1
        if kind == "metrics":
            self.metrics = message["metrics"]
        announced = kind in {"lagged", "resumed", "welcome"}
        if last and number != last + 1 and not announced:
            self.counts["unannounced_jumps"] += 1
        if kind == "books" and any(book["state"] != "live" for book in message["books"]):
            self.counts["books_not_live"] += 1
        return number


@contextlib.asynccontextmanager
async def _connected(url: str, tally: Tally) -> AsyncIterator[ClientConnection]:
    """Connect; a connection that the server ends is counted by its code, not raised."""
    try:
        async with connect(url, max_queue=QUEUE_FRAMES, compression=None, close_timeout=1.0) as connection:
            tally.counts["connections"] += 1
            try:
                yield connection
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else "none"
                tally.counts[f"closed_{code}"] += 1
    except (OSError, TimeoutError) as error:
        tally.counts[type(error).__name__] += 1
        await asyncio.sleep(1.0)


async def follow(
    url: str, tally: Tally, *, kinds: str, depth: int, throttle_ms: int, pause_s: float = 0.0
) -> None:
    """Read everything, with a pause after each message; connect again when cut."""
    address = f"{url}/?kinds={kinds}&depth={depth}&throttle_ms={throttle_ms}"
    while True:
        async with _connected(address, tally) as connection:
            last = 0
            async for text in connection:
                last = tally.check(json.loads(text), last)
                if pause_s:
                    await asyncio.sleep(pause_s)


async def stay_mute(url: str, tally: Tally) -> None:
    """Ask for everything and never read, until the server has had enough; then again."""
    host, _, port = url.removeprefix("ws://").partition(":")
    request = "\r\n".join(
        [
            f"GET /?depth={DEEPEST}&throttle_ms={DEEP_THROTTLE_MS} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "\r\n",
        ]
    )
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, int(port), limit=1_024)
        except OSError as error:
            tally.counts[type(error).__name__] += 1
            await asyncio.sleep(1.0)
            continue
        tally.counts["connections"] += 1
        writer.write(request.encode())
        await asyncio.sleep(MUTE_S)
        with contextlib.suppress(OSError):
            while await reader.read(65_536):  # what the two kernels held
                pass
        tally.counts["cut"] += 1
        writer.close()


async def come_and_go(url: str, tally: Tally, dice: random.Random) -> None:
    """Connect, read a little, leave without a word; half of the times come back to the same session."""
    session, last = "", 0
    while True:
        query = (
            f"?session={session}&sequence={last}" if session and dice.random() < 0.5 else "?throttle_ms=100"
        )
        async with _connected(f"{url}/{query}", tally) as connection:
            last = 0
            for _ in range(VISIT_MESSAGES):
                message = json.loads(await connection.recv())
                last = tally.check(message, last)
                session = message.get("session", session)
            connection.transport.abort()


def clients(url: str, dice: random.Random) -> dict[str, tuple[Tally, list[Coroutine[Any, Any, None]]]]:
    """Return by kind the tally and the coroutines to run."""
    quick, all_kinds, slow, mute, visitor = (Tally() for _ in range(5))
    every = "books,trades,metrics,consolidated"

    def keep_up() -> Coroutine[Any, Any, None]:
        return follow(url, quick, kinds="books,metrics", depth=5, throttle_ms=QUICK_THROTTLE_MS)

    def take_all(tally: Tally, pause_s: float = 0.0) -> Coroutine[Any, Any, None]:
        return follow(url, tally, kinds=every, depth=DEEPEST, throttle_ms=DEEP_THROTTLE_MS, pause_s=pause_s)

    return {
        KEEPS_UP: (quick, [keep_up() for _ in range(3)]),
        "takes everything": (all_kinds, [take_all(all_kinds)]),
        "is slow": (slow, [take_all(slow, SLOW_PAUSE_S) for _ in range(2)]),
        "never reads": (mute, [stay_mute(url, mute)]),
        "comes and goes": (visitor, [come_and_go(url, visitor, dice)]),
    }
