"""A server on loopback, a listener and a reconnecting client, on a loop whose time is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bookrunner.engine.ports.venue_feed import ConnectionPolicy
from bookrunner.venues.transport.websocket import ReconnectingWebSocket, WebSocketFactory, WebSocketSettings
from transport_rig import (
    LoopClock,
    ManualTimeLoop,
    Peer,
    Recorder,
    Venue,
    dice,
    plan,
    policy,
    run_by_hand,
    until,
)

BIG = b'{"stream":"btcusdt@depth","data":"' + b"x" * 600 + b'"}'


class Rig:
    """A server, a listener and a client that is running."""

    def __init__(self, loop: ManualTimeLoop) -> None:
        self.loop = loop
        self.venue = Venue()
        self.recorder = Recorder()
        self.client: ReconnectingWebSocket
        self.running: asyncio.Task[None]

    async def start(
        self, rules: ConnectionPolicy | None = None, *, connected: bool = True, **settings: Any
    ) -> None:
        if not self.venue.port:
            await self.venue.start()
        connect = WebSocketFactory(LoopClock(self.loop), dice(), WebSocketSettings(**settings))
        self.client = connect(plan(self.venue.url), rules or policy(), self.recorder)
        self.running = asyncio.create_task(self.client.run())
        if connected:
            await until(lambda: self.recorder.connected and self.venue.peers)
            await until(lambda: len(self.peer.messages) >= min(1, len(self.recorder.greetings)))

    @property
    def peer(self) -> Peer:
        return self.venue.peers[-1]

    async def deliver(self, message: bytes = BIG) -> None:
        """Send a message and see it arrive."""
        count = len(self.recorder.messages)
        self.peer.send(message)
        await until(lambda: len(self.recorder.messages) > count)

    async def prove(self) -> None:
        """Bring more messages than the client sent, so that the connection counts as good."""
        for _ in self.recorder.greetings:
            await self.deliver()
        await self.deliver()

    async def waiting(self) -> float:
        """Return how long the client waits before it tries again, once it does."""
        await until(lambda: self.client._session is None and self.loop.waits_s())
        return self.loop.waits_s()[0]

    async def reconnected(self, count: int) -> None:
        await until(lambda: self.recorder.connected == count and len(self.venue.peers) == count)

    async def stop(self) -> None:
        await self.client.close()
        await self.running
        await self.venue.stop()


def by_hand(test: Callable[[Rig], Awaitable[None]]) -> Callable[[], None]:
    """Give the test a rig on a loop of manual time."""

    def run() -> None:
        async def body(loop: ManualTimeLoop) -> None:
            await test(Rig(loop))

        run_by_hand(body)

    run.__name__ = test.__name__
    return run


def loops() -> list[Any]:
    """Return the loops that the client must work on."""
    import uvloop

    return [
        pytest.param(asyncio.SelectorEventLoop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ]
