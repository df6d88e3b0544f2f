"""One WebSocket connection: frames in, paced messages and pings out, and how it ended.

There is no receive queue in the process. Frames are handed to the listener on the loop as they are parsed, so
what waits is bounded by picows' read buffer (about two frames of ``max_message_bytes``) and the kernel's;
past that, TCP holds the peer back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSCloseHandshake

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import MalformedFrameError, MessageTooLargeError
from bookrunner.engine.ports.transport import StreamListener, StreamStats
from bookrunner.engine.ports.venue_feed import ConnectionPolicy
from bookrunner.venues.transport.disconnect import LOST, Disconnect, DisconnectKind, closed_by_peer
from bookrunner.venues.transport.fragments import FragmentJoiner
from bookrunner.venues.transport.liveness import NEVER_NS, Liveness, PingStep, after_ns, span_ns
from bookrunner.venues.transport.pacing import Pacer

MAX_QUEUED_SENDS = 1024
"""Messages that wait for their turn. At the bound a new one is dropped and counted."""
MAX_CONTROL_PAYLOAD_BYTES = 125
"""RFC 6455, section 5.5: a larger frame is data."""
MAX_PONG_BYTES = 512
"""An application pong is no larger."""
PONG_MARKER = b"pong"
"""In every application pong of the venues (Bybit's five shapes, Deriv's)."""

_DATA_TYPES = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)


class Session(WSListener):
    """The picows listener of one connection.

    Args:
        listener: told of the messages; ``on_disconnected`` is left to the client.
        policy: the venue's rules.
        max_age_s: age at which the connection is ended on schedule.
        max_message_bytes: largest message, whole or joined.
        stats: counted into.
        clock: wall time stamps messages, monotonic time drives pings, pacing and age.
    """

    def __init__(
        self,
        listener: StreamListener,
        policy: ConnectionPolicy,
        *,
        max_age_s: float,
        max_message_bytes: int,
        stats: StreamStats,
        clock: Clock,
    ) -> None:
        self.transport: WSTransport | None = None
        self.ended: Disconnect | None = None
        self.failure: Exception | None = None
        """What the listener raised, if it did."""
        self.sent = 0
        self._listener = listener
        self._policy = policy
        self._max_age_s = max_age_s
        self._stats = stats
        self._messages_before = stats.messages
        self._clock = clock
        self._joiner = FragmentJoiner(max_message_bytes)
        self._fast_lane = self._make_fast_lane(max_message_bytes)
        self._queue: deque[bytes] = deque()
        self._pacer = Pacer(policy.messages_per_second)
        self._liveness = Liveness(policy.ping_interval_s, policy.pong_timeout_s, clock.monotonic_ns())
        self._max_age_ns = NEVER_NS
        self._wake = asyncio.Event()
        self._choose_lane()

    @property
    def proven(self) -> bool:
        """Whether it brought data: more messages came than could be replies to ours."""
        return self._stats.messages - self._messages_before > self.sent

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Queue the listener's first messages; frames may follow in the same read."""
        now_ns = self._clock.monotonic_ns()
        self.transport = transport
        self._max_age_ns = after_ns(now_ns, span_ns(self._max_age_s))
        self._liveness = Liveness(self._policy.ping_interval_s, self._policy.pong_timeout_s, now_ns)
        self._stats.reconnects += self._stats.connects > 0
        self._stats.connects += 1
        try:
            self._queue.extend(self._listener.on_connected())
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops the client
            self._listener_failed(error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Classify what nobody announced."""
        handshake: WSCloseHandshake | None = transport.close_handshake
        if handshake is not None and handshake.sent is not None:  # picows itself refused a frame
            self.finish(closed_by_peer(_number(handshake.sent.code), handshake.sent.reason))
        self.finish(LOST)

    # Frames. Most are whole messages and take the fast lane.

    def _make_fast_lane(self, max_message_bytes: int) -> Callable[[WSTransport, WSFrame], None]:
        """Return the callback for frames in ordinary times: stamp, count, hand on.

        A closure, because attributes of a picows listener are slow to read, and so is a frame's type: what is
        larger than a control frame may be and is final is a whole message while none is being joined.
        """
        wall_ns, stats, slow_lane = self._clock.wall_ns, self._stats, self._slow_lane
        on_message, failed = self._listener.on_message, self._listener_failed

        def fast_lane(transport: WSTransport, frame: WSFrame) -> None:
            ts_recv_ns = wall_ns()
            message = frame.get_payload_as_bytes()
            size = len(message)
            # The upper bound stands here too: picows still delivers a frame that it has refused as too large.
            if not MAX_CONTROL_PAYLOAD_BYTES < size <= max_message_bytes or not frame.fin:
                slow_lane(transport, frame)
                return
            stats.messages += 1
            stats.bytes += size
            stats.last_data_ns = ts_recv_ns
            try:
                on_message(message, ts_recv_ns)
            except Exception as error:  # noqa: BLE001 - whatever it is, it stops the client
                failed(error)

        return fast_lane

    def _slow_lane(self, _transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame that may be anything."""
        if self.ended is not None:
            return
        ts_recv_ns = self._clock.wall_ns()
        kind = frame.msg_type
        if kind in _DATA_TYPES:
            message = self._join(frame.get_payload_as_bytes(), frame, kind)
            if message is not None:
                self._stats.count_message(len(message), ts_recv_ns)
                self._deliver(message, ts_recv_ns)
        elif kind == WSMsgType.PONG:
            self._liveness.pong()
        elif kind == WSMsgType.CLOSE:
            self.finish(closed_by_peer(_number(frame.get_close_code()), frame.get_close_reason() or ""))
        self._choose_lane()

    def _join(self, payload: bytes, frame: WSFrame, kind: WSMsgType) -> bytes | None:
        """Return the message that this data frame completes, if it does."""
        try:
            message = self._joiner.add(
                payload, continuation=kind == WSMsgType.CONTINUATION, final=bool(frame.fin)
            )
        except MessageTooLargeError as error:
            self.finish(Disconnect(DisconnectKind.TOO_LARGE, detail=str(error)))
            return None
        except MalformedFrameError as error:
            self.finish(Disconnect(DisconnectKind.PROTOCOL, detail=str(error)))
            return None
        if message is not None and len(message) <= MAX_PONG_BYTES and PONG_MARKER in message:
            self._liveness.pong()
        return message

    def _deliver(self, message: bytes, ts_recv_ns: int) -> None:
        try:
            self._listener.on_message(message, ts_recv_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops the client
            self._listener_failed(error)

    def _choose_lane(self) -> None:
        """Look closely at frames while a message is being joined, a pong is awaited, or the end has come."""
        closely = self.ended is not None or self._joiner.joining or self._liveness.awaiting_pong
        # picows looks its callback up for each frame, so an instance's attribute can stand in for the method.
        self.on_ws_frame = self._slow_lane if closely else self._fast_lane  # type: ignore[assignment, method-assign]

    def _listener_failed(self, error: Exception) -> None:
        self.failure = self.failure or error
        self.finish(Disconnect(DisconnectKind.LISTENER_FAILED, detail=type(error).__name__))

    # What the client calls.

    def send(self, message: bytes) -> None:
        """Queue a message, or drop it with a count at the bound."""
        if len(self._queue) >= MAX_QUEUED_SENDS:
            self._stats.count_error("send_queue_full")
            return
        self._queue.append(message)
        self._wake.set()

    def finish(self, reason: Disconnect) -> None:
        """Begin to end the connection; the first reason stands, and no message is delivered after it."""
        if self.ended is None:
            self.ended = reason
            self._choose_lane()
            self._wake.set()

    async def attend(self) -> Disconnect:
        """Send, ping and watch the age until the connection ends; return why."""
        while self.ended is None:
            now_ns = self._clock.monotonic_ns()
            due_ns = self._tend(now_ns)
            if self.ended is None:
                delay_s = None if due_ns == NEVER_NS else (due_ns - now_ns) / NANOSECONDS_PER_SECOND
                await self._sleep(delay_s)
        return self.ended

    async def _sleep(self, delay_s: float | None) -> None:
        """Wait until woken, or until it is time."""
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _tend(self, now_ns: int) -> int:
        """Do what is due; return when something is due next."""
        if now_ns >= self._max_age_ns:
            self.finish(Disconnect(DisconnectKind.LIFETIME))
        step = self._liveness.step(now_ns)
        if step is PingStep.DEAD:
            self.finish(Disconnect(DisconnectKind.NO_PONG))
        elif step is PingStep.PING:
            self._choose_lane()
            if self._policy.ping_message is not None:
                self._queue.appendleft(self._policy.ping_message)
            elif self.transport is not None:
                self.transport.send_ping()
                self._pacer.sent(now_ns)
                self._stats.sent += 1
        due_ns = min(self._max_age_ns, self._liveness.due_ns)
        while self._queue and self.ended is None and self.transport is not None:
            wait_ns = self._pacer.wait_ns(now_ns)
            if wait_ns > 0:
                return min(due_ns, now_ns + wait_ns)
            self.transport.send(WSMsgType.TEXT, self._queue.popleft())
            self._pacer.sent(now_ns)
            self.sent += 1
            self._stats.sent += 1
        return due_ns


def _number(code: WSCloseCode) -> int:
    """Return a close code as a number; picows' stub hides that its enumerations are integers."""
    return int(cast("int", code))
