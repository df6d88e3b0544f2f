"""A paused simulator on a clock that stands still, and a client on its wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bookrunner.core.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, ManualClock
from bookrunner.venues.simulated.events import Source
from bookrunner.venues.simulated.faults import parse_fault
from bookrunner.venues.simulated.server import Simulator
from bookrunner.venues.simulated.source_recorded import Recording
from bookrunner.venues.simulated.source_synthetic import SyntheticPair, SyntheticSource

PATIENCE_S = 5.0
"""A bound for hanging tests; nothing waits for it."""
LINEAR, USDM, SPOT = "bybit_linear", "binance_usdm", "binance_spot"
USDM_DEPTH = "/public/stream?streams=btcusdt@depth@100ms"


def seeded(seed: int) -> Random:
    return Random(seed)


def synthetic(*pairs: str, seed: int = 1, start_ms: int = 1_700_000_000_000) -> SyntheticSource:
    return SyntheticSource([SyntheticPair.parse(pair) for pair in pairs], seeded(seed), start_ms)


def tiny_recording(updates: int) -> Recording:
    """USD-M BTCUSDT: a snapshot, then ``updates`` depth updates of ids 10 apart, one a millisecond."""
    lines = ['{"lastUpdateId":100,"E":1,"T":1,"bids":[["100.0","5"]],"asks":[["102.0","5"]]}']
    for number in range(updates):
        data = {"e": "depthUpdate", "E": 1_700_000_000_000 + number, "T": 1_700_000_000_000 + number}
        data |= {"s": "BTCUSDT", "U": 95 + 10 * number, "u": 104 + 10 * number, "pu": 94 + 10 * number}
        data |= {"b": [[f"{99 - number % 7}.5", f"{number % 3}"]], "a": [[f"{103 + number % 5}.0", "1"]]}
        lines.append(json.dumps({"stream": "btcusdt@depth@0ms", "data": data}, separators=(",", ":")))
    lines.insert(0, lines[1])  # the snapshot carries no symbol: it is that of the depth before it
    stamped = [f"{1_700_000_000_000 + number}000000 {line}".encode() for number, line in enumerate(lines)]
    return Recording("tiny.ndlog", lambda: stamped)


class Scene:
    def __init__(self, simulator: Simulator, clock: ManualClock) -> None:
        self.simulator = simulator
        self.clock = clock

    @asynccontextmanager
    async def client(self, path: str) -> AsyncIterator[Wire]:
        url = self.simulator.websocket_url + path
        # a full queue would hide that the server closed
        async with connect(
            url, ping_interval=None, compression=None, max_size=None, max_queue=None
        ) as connection:
            yield Wire(connection, self)

    def tick(self) -> None:
        """Keep clear of the venue's messages-per-second limit."""
        self.clock.advance(NANOSECONDS_PER_SECOND)


class Wire:
    """A client that knows when it has read everything that was sent to it."""

    def __init__(self, connection: ClientConnection, scene: Scene) -> None:
        self.connection = connection
        self._scene = scene

    async def raw(self) -> bytes:
        message = await asyncio.wait_for(self.connection.recv(decode=False), PATIENCE_S)
        assert isinstance(message, bytes)
        return message

    async def next(self) -> Any:
        return json.loads(await self.raw())

    async def send(self, message: object) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        await self.connection.send(text)

    async def ask(self, message: object) -> Any:
        self._scene.tick()
        await self.send(message)
        return await self.next()

    async def collect(self) -> list[bytes]:
        """Everything sent so far: what comes before the answer to a question put now."""
        self._scene.tick()
        bybit = "/v5/" in self.connection.request.path if self.connection.request else False
        question = {"op": "ping"} if bybit else {"method": "GET_PROPERTY", "params": ["combined"], "id": 999}
        await self.send(question)
        messages: list[bytes] = []
        while True:
            message = await self.raw()
            if b'"ret_msg":"pong"' in message or b'"id":999}' in message:
                return messages
            messages.append(message)

    async def emitted(self, events: int) -> list[bytes]:
        """What ``events`` events bring to this client."""
        self._scene.simulator.emit(events)
        return await self.collect()

    async def closed(self) -> int:
        """The close code, once the connection is closed; 1006 when there was no close frame."""
        await asyncio.wait_for(self.connection.wait_closed(), PATIENCE_S)
        code = self.connection.close_code
        assert code is not None
        return code


@asynccontextmanager
async def scene(
    *sources: Source, faults: Sequence[str] = (), time_scale: float = 1.0, start_ms: int = 1_700_000_000_000
) -> AsyncIterator[Scene]:
    clock = ManualClock(start_ms * NANOSECONDS_PER_MILLISECOND)
    plan = [parse_fault(fault) for fault in faults]
    simulator = Simulator(sources, plan, clock=clock, time_scale=time_scale)
    simulator.pause()
    async with simulator:
        yield Scene(simulator, clock)


class NaiveBook:
    """Levels by price; what a client holds that believes every message."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
        self.last = 0

    def replace(self, bids: list[list[str]], asks: list[list[str]], last: int) -> None:
        self.sides = {"b": {}, "a": {}}
        self.apply(bids, asks, last)

    def apply(self, bids: list[list[str]], asks: list[list[str]], last: int) -> None:
        for side, levels in (("b", bids), ("a", asks)):
            for price, quantity in levels:
                self.sides[side].pop(Decimal(price), None)
                if Decimal(quantity):
                    self.sides[side][Decimal(price)] = Decimal(quantity)
        self.last = last

    def equals(self, truth: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal], int]) -> bool:
        return (self.sides["b"], self.sides["a"], self.last) == truth
