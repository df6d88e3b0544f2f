"""What the transport tests stand on: a loop whose time is moved by hand, and a scripted WebSocket server."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import selectors
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import msgspec
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from bookrunner.engine.ports.venue_feed import ConnectionPlan, ConnectionPolicy

HUNG_AFTER_S = 20.0
"""Real seconds after which a test is cancelled rather than left hanging."""


class ManualTimeLoop(asyncio.SelectorEventLoop):
    """Real sockets, but timers fire only when ``advance`` has moved the time past them."""

    def __init__(self) -> None:
        self._now_s = 1_000.0
        super().__init__(selectors.DefaultSelector())

    def time(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds

    def waits_s(self) -> list[float]:
        """How far off the timers are that are waiting, soonest first."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return sorted(timer.when() - self._now_s for timer in scheduled if not timer.cancelled())


class LoopClock:
    """Both hands show the loop's time."""

    def __init__(self, loop: ManualTimeLoop) -> None:
        self._loop = loop

    def wall_ns(self) -> int:
        return round(self._loop.time() * 1e9)

    monotonic_ns = wall_ns


Loop = TypeVar("Loop", bound=asyncio.AbstractEventLoop)


def run_by_hand(test: Callable[[ManualTimeLoop], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a loop of manual time; no task may be left when it ends."""
    run_on(ManualTimeLoop, test)


def run_on(
    loop_factory: Callable[[], Loop],
    test: Callable[[Loop], Coroutine[Any, Any, None]],
    expected_problem: str = "",
) -> None:
    """Run a test on a loop of this kind; no task may be left when it ends, and nothing unhandled."""
    problems: list[dict[str, Any]] = []

    async def guarded() -> None:
        loop = cast("Loop", asyncio.get_running_loop())
        task = asyncio.current_task()
        assert task is not None
        alarm = threading.Timer(HUNG_AFTER_S, lambda: loop.call_soon_threadsafe(task.cancel, "hung"))
        alarm.start()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        try:
            await test(loop)
            await settle()
            left = asyncio.all_tasks() - {task}
            assert not left, f"tasks left behind: {left}"
        finally:
            alarm.cancel()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(guarded())
    gc.collect(1)  # an exception that nobody retrieved is reported when its future dies
    unexpected = [problem for problem in problems if problem["message"] != expected_problem]
    assert not unexpected, f"the loop was told of: {unexpected}"


async def settle(rounds: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Run the loop, sockets included, until the condition holds."""
    while not condition():  # noqa: ASYNC110 - a turn of the loop, not a wait
        await asyncio.sleep(0)


def dice(seed: int = 7) -> random.Random:
    return random.Random(seed)


class Peer(WSListener):
    """The server's end of one connection: what came, and what the test wants sent."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.messages: list[bytes] = []
        self.pings = 0
        self.close_code: int | None = None
        self.gone = False
        self.answers_close = True
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.close_code = int(cast("int", frame.get_close_code()))
            if self.answers_close:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
        elif frame.msg_type == WSMsgType.PING:
            self.pings += 1
        elif frame.msg_type != WSMsgType.PONG:
            self.messages.append(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        self.gone = True

    def send(self, message: bytes, kind: WSMsgType = WSMsgType.TEXT, *, fin: bool = True) -> None:
        self.transport.send(kind, message, fin)

    def close(self, code: int, reason: bytes = b"") -> None:
        self.transport.send_close(WSCloseCode(code), reason)
        self.transport.disconnect()

    def abort(self) -> None:
        self.transport.disconnect(graceful=False)


class Venue:
    """A WebSocket server on a free port of the loopback interface."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.refuse_with: WSUpgradeResponse | None = None
        """Answer the next handshakes with this instead."""
        self.on_peer: Callable[[Peer], None] = lambda _peer: None
        self._server: asyncio.Server
        self.port = 0

    async def start(self, **options: Any) -> None:
        self._server = await ws_create_server(self._accept, "127.0.0.1", self.port, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for peer in self.peers:
            peer.abort()
        await until(lambda: all(peer.gone for peer in self.peers))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stream"

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        if self.refuse_with is not None:
            return WSUpgradeResponseWithListener(self.refuse_with, None)
        peer = Peer(request.path)
        self.peers.append(peer)
        self.on_peer(peer)
        return peer


class Recorder:
    """A stream listener that remembers what it was told."""

    def __init__(self, greetings: list[bytes] | None = None) -> None:
        self.greetings = [b'{"op":"subscribe"}'] if greetings is None else greetings
        self.messages: list[bytes] = []
        self.stamps_ns: list[int] = []
        self.connected = 0
        self.reasons: list[str] = []
        self.raise_on: dict[str, Exception] = {}

    def on_connected(self) -> list[bytes]:
        self.connected += 1
        self._maybe_raise("connected")
        return list(self.greetings)

    def on_message(self, message: bytes, ts_recv_ns: int) -> None:
        self._maybe_raise("message")
        self.messages.append(message)
        self.stamps_ns.append(ts_recv_ns)

    def on_disconnected(self, reason: str) -> None:
        self.reasons.append(reason)
        self._maybe_raise("disconnected")

    def _maybe_raise(self, where: str) -> None:
        if where in self.raise_on:
            raise self.raise_on[where]


def policy(**changes: Any) -> ConnectionPolicy:
    """A venue that never pings, cuts or hurries, but for the changes."""
    calm = ConnectionPolicy(
        ping_message=None,
        ping_interval_s=0.0,
        pong_timeout_s=10.0,
        lifetime_s=math.inf,
        messages_per_second=10,
        silence_s=60.0,
    )
    return msgspec.structs.replace(calm, **changes)


def plan(url: str) -> ConnectionPlan:
    return ConnectionPlan("venue/public/0", url, ())
