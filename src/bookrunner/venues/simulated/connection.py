"""The server's end of one client connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.venues.simulated.events import channel_of
from bookrunner.venues.simulated.fault_stage import Outgoing
from bookrunner.venues.simulated.faults import Fault, FaultKind, Occasion
from bookrunner.venues.simulated.limits import MessageLimiter
from bookrunner.venues.simulated.market import Market
from bookrunner.venues.simulated.session import Action, Say, Session, Subscribe, Unsubscribe

MAX_UNREAD_BYTES = 64 * 1024 * 1024
"""Sent but unread bytes at which a client is cut, as venues cut slow consumers."""
MAX_REQUEST_BYTES = 64 * 1024
"""Longest message accepted from a client."""

_log = structlog.get_logger(__name__)


class Owner(Protocol):
    """Who keeps the connections."""

    def joined(self, connection: Connection) -> None:
        """A client connected."""
        ...

    def left(self, connection: Connection) -> None:
        """A client is gone."""
        ...

    def drained(self) -> None:
        """A client has read what it was sent."""
        ...


class Connection(WSListener):
    """Carries out a session's actions on a socket, and undergoes its faults."""

    def __init__(
        self, session: Session, market: Market, owner: Owner, venue_time_ns: Callable[[], int]
    ) -> None:
        super().__init__()
        self.session = session
        self.is_write_paused = False
        self._market = market
        self._owner = owner
        self._venue_time_ns = venue_time_ns
        self._limiter = MessageLimiter(session.rules.messages_per_second)
        self._streams: dict[str, Subscribe] = {}
        self._muted = False
        self._transport: WSTransport
        self._fragments = b""
        self._began_ns = self._heard_ns = self._pinged_ns = venue_time_ns()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin with the streams that the URL named."""
        self._transport = transport
        self._owner.joined(self)
        self._perform(self.session.opened())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count the message, then answer it."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        now_ns = self._venue_time_ns()
        if not self._limiter.admit(now_ns):
            self._close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
            return
        self._heard_ns = now_ns
        if kind == WSMsgType.PING and self.session.answers_pings:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._received(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget the client's streams."""
        del transport
        for stream in list(self._streams.values()):
            self._unsubscribe(stream.name)
        self._owner.left(self)

    def pause_writing(self) -> None:
        """The client reads slower than it is sent to."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.is_write_paused = False
        self._owner.drained()

    def deliver(self, name: str, message: Outgoing) -> None:
        """Send one stream message, unless the socket is mute or full."""
        transport = self._transport
        if self._muted or transport.is_disconnected:
            return
        if self.is_write_paused:
            unread = transport.underlying_transport.get_write_buffer_size()
            if unread > MAX_UNREAD_BYTES:
                _log.warning("slow_client_cut", venue=self.session.venue, unread_bytes=unread)
                transport.disconnect(graceful=False)
                return
        frame = self.session.wrapped(name, message.payload)
        if message.fragments == 1:
            transport.send(WSMsgType.TEXT, frame)
            return
        size = -(-len(frame) // message.fragments)
        for start in range(0, len(frame), size):
            kind = WSMsgType.CONTINUATION if start else WSMsgType.TEXT
            transport.send(kind, frame[start : start + size], fin=start + size >= len(frame))

    def suffer(self, fault: Fault) -> None:
        """Undergo a fault of the connection itself."""
        match fault.fault:
            case FaultKind.ABRUPT_CLOSE:
                self._transport.disconnect(graceful=False)
            case FaultKind.CLOSE_1008:
                self._close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
            case FaultKind.MUTE_SOCKET:
                self._muted = True
            case FaultKind.NO_PONG:
                self.session.answers_pings = False

    def cut(self) -> None:
        """End the connection as a venue does at its age limit: without a close frame."""
        self._muted = True  # what happens from now on must not slip out behind what is still unsent
        self._transport.disconnect()

    def keep_time(self) -> None:
        """Ping when it is time, and cut a client that is silent or too old."""
        rules, now_ns = self.session.rules, self._venue_time_ns()

        def is_over(limit_s: float, since_ns: int) -> bool:
            return bool(limit_s) and now_ns - since_ns >= limit_s * NANOSECONDS_PER_SECOND

        if is_over(rules.lifetime_s, self._began_ns) or is_over(rules.silence_s, self._heard_ns):
            self.cut()
        elif is_over(rules.ping_interval_s, self._pinged_ns):
            self._pinged_ns = now_ns
            self._transport.send_ping(str(self._market.now_ms()).encode())

    def _received(self, frame: WSFrame) -> None:
        self._fragments += frame.get_payload_as_bytes()
        if len(self._fragments) > MAX_REQUEST_BYTES:
            self._close(WSCloseCode.MESSAGE_TOO_BIG, "message too big")
        elif frame.fin:
            message, self._fragments = self._fragments, b""
            self._perform(self.session.received(message))

    def _perform(self, actions: list[Action]) -> None:
        """Carry out actions in order; a planned fault may put a subscription before its acknowledgement."""
        begun = [action for action in actions if isinstance(action, Subscribe)]
        faults = {action.name: self._struck(action) for action in begun}
        if any(FaultKind.SNAPSHOT_BEFORE_ACK in kinds for kinds in faults.values()):
            actions = sorted(actions, key=lambda action: not isinstance(action, Subscribe))
        for action in actions:
            match action:
                case Say():
                    self._transport.send(WSMsgType.TEXT, action.payload)
                case Subscribe():
                    if FaultKind.ACK_ONLY not in faults[action.name]:
                        self._subscribe(action)
                case Unsubscribe():
                    self._unsubscribe(action.name)

    def _struck(self, action: Subscribe) -> set[FaultKind]:
        venue = self.session.venue
        plan = self._market.plan
        struck = plan.strike(Occasion.SUBSCRIBE, venue, action.symbol, channel_of(action.kind))
        return {fault.fault for fault in struck}

    def _subscribe(self, stream: Subscribe) -> None:
        self._streams[stream.name] = stream
        self._market.subscribe(self.session.venue, stream.symbol, stream.kind, stream.name, self)

    def _unsubscribe(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            self._market.unsubscribe(self, self.session.venue, stream.symbol, stream.kind, name)

    def _close(self, code: WSCloseCode, reason: str) -> None:
        self._muted = True
        self._transport.send_close(code, reason.encode())
        self._transport.disconnect()
