"""One client's WebSocket connection: frames in, requests out; payloads in, frames out."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSCloseHandshake

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import InvalidRequestError
from bookrunner.fanout.publisher import Publisher
from bookrunner.fanout.requests import RequestDesk
from bookrunner.fanout.session import CloseCode, Session
from bookrunner.wire.client_deflate import inflate
from bookrunner.wire.client_message import Encoding, WireForm
from bookrunner.wire.client_request import Opening, decode_request

_log = structlog.get_logger(__name__)

_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY})
CLOSE_REASON_BYTES_MAX = 123
"""What RFC 6455 leaves in a control frame beside the code."""


class NotUtf8Error(InvalidRequestError):
    """A text frame is not UTF-8; RFC 6455, 8.1 has the connection fail for it."""


class Connections(Protocol):
    """Who looks after all connections."""

    publisher: Publisher
    desk: RequestDesk

    def opened(self, connection: ClientConnection, transport: asyncio.WriteTransport) -> None:
        """Note a connection that completed its handshake."""
        ...

    def closed(self, connection: ClientConnection) -> None:
        """Note that it is gone."""
        ...

    def end_later(self, connection: ClientConnection) -> None:
        """See that the connection ends when its client does not answer the close frame."""
        ...


class RequestAllowance:
    """A token bucket: how many messages a client may still send now."""

    __slots__ = ("_burst", "_per_second", "_tokens", "_ts_ns")

    def __init__(self, per_second: int, burst: int, now_ns: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._ts_ns = now_ns

    def take(self, now_ns: int) -> bool:
        """Use one; ``False`` when none is left."""
        earned = (now_ns - self._ts_ns) / NANOSECONDS_PER_SECOND * self._per_second
        self._tokens = min(self._burst, self._tokens + earned)
        self._ts_ns = now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class ClientConnection(WSListener):
    """See the module; implements ``session.Link``."""

    __slots__ = (
        "_allowance",
        "_assembled",
        "_assembled_compressed",
        "_assembled_type",
        "_clock",
        "_connections",
        "_opening",
        "_settings",
        "_transport",
        "close_code",
        "form",
        "heard_at_ns",
        "session",
        "writable",
    )

    def __init__(self, connections: Connections, form: WireForm, opening: Opening) -> None:
        publisher = connections.publisher
        self.form = form
        self.session: Session | None = None
        """Its ``link`` is another connection once the client resumed it there."""
        self.writable = True
        self.close_code: CloseCode | None = None
        """Code of the close frame we sent, once we did."""
        self._connections = connections
        self._opening = opening
        self._settings = publisher.settings
        self._clock: Clock = publisher.clock
        self.heard_at_ns = self._clock.monotonic_ns()
        self._allowance = RequestAllowance(
            self._settings.requests_per_second, self._settings.requests_burst, self.heard_at_ns
        )
        self._transport: WSTransport | None = None
        self._assembled: list[bytes] = []
        self._assembled_type: WSMsgType | None = None
        self._assembled_compressed = False

    # --- from picows --------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin the session."""
        self._transport = transport
        self._connections.opened(self, transport.underlying_transport)
        session = self._connections.desk.connect(self, self.form, self._opening)
        self._use(session)

    def _use(self, session: Session) -> None:
        self.session = session
        if not self.writable:
            self._connections.publisher.on_blocked(session)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the session to be resumed."""
        # picows itself refuses a frame that announces more than the bound, and gives no other sign of it.
        handshake: WSCloseHandshake | None = transport.close_handshake
        sent = handshake.sent if handshake is not None else None
        if sent is not None and self.close_code is None and sent.code == WSCloseCode.MESSAGE_TOO_BIG:
            self._connections.publisher.counters.oversized_requests += 1
            _log.warning("client_frame_too_long", bytes_max=self._settings.request_bytes_max)
        self._assembled.clear()
        session, self.session = self.session, None
        if session is not None and session.link is self:
            self._connections.publisher.detach(session)
        self._connections.closed(self)
        self._transport = None

    def pause_writing(self) -> None:
        """Stop sending: the socket takes nothing, and the buffer beside it is full."""
        self.writable = False
        if self.session is not None and self.session.link is self:
            self._connections.publisher.on_blocked(self.session)

    def resume_writing(self) -> None:
        """Go on sending."""
        self.writable = True
        if self.session is not None and self.session.link is self:
            self._connections.publisher.on_writable(self.session)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame."""
        if self.close_code is not None and frame.msg_type != WSMsgType.CLOSE:
            return
        now_ns = self.heard_at_ns = self._clock.monotonic_ns()
        kind = frame.msg_type
        if kind == WSMsgType.PONG:
            return
        if kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        if not self._allowance.take(now_ns):
            self._connections.publisher.counters.rate_limited += 1
            limit = f"{self._settings.requests_per_second} a second"
            self._refuse("too many messages", "rate", None, f"at most {limit} in the long run")
            self.close(CloseCode.POLICY_VIOLATION, f"too many messages: at most {limit}")
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        else:
            self._on_data(frame)

    # --- messages -----------------------------------------------------------------------------------------

    def _on_data(self, frame: WSFrame) -> None:
        """Join fragments (RFC 6455, 5.4) within the bound of one message."""
        first = frame.msg_type in _DATA
        if first is not (self._assembled_type is None) or frame.rsv2 or frame.rsv3:
            self._protocol_error("a fragment out of order, or reserved bits set")
            return
        if frame.rsv1 and not (first and self.form.compressed):
            self._protocol_error("a compressed frame where compression was not agreed")
            return
        if first:
            self._assembled_type = frame.msg_type
            self._assembled_compressed = frame.rsv1
        self._assembled.append(frame.get_payload_as_bytes())
        bytes_max = self._settings.request_bytes_max
        if sum(map(len, self._assembled)) + len(self._assembled) > bytes_max:
            self._too_long()
        elif frame.fin:
            payload = b"".join(self._assembled)
            kind = self._assembled_type
            self._assembled.clear()
            self._assembled_type = None
            self._on_message(kind, payload, compressed=self._assembled_compressed)

    def _on_message(self, kind: WSMsgType | None, payload: bytes, *, compressed: bool) -> None:
        """Read one whole message and do what it asks."""
        session = self.session
        if session is None:
            return
        try:
            message = inflate(payload, self._settings.request_bytes_max) if compressed else payload
            if message is None:
                self._too_long()
                return
            self._check_type(kind, message)
            request = decode_request(message, self.form.encoding, self._settings.request_limits)
            answered = self._connections.desk.handle(session, self, request)
            if answered is not session:
                self._use(answered)
        except NotUtf8Error as error:
            self._answer_with(error)
            self.close(CloseCode.INVALID_TEXT, error.message)
        except InvalidRequestError as error:
            self._answer_with(error)

    def _check_type(self, kind: WSMsgType | None, message: bytes) -> None:
        """Check that a text frame holds UTF-8 and that the frame's type fits the encoding.

        Raises:
            InvalidRequestError: it is not so.
        """
        if kind == WSMsgType.TEXT:
            try:
                message.decode()
            except UnicodeDecodeError as error:
                rule = f"UTF-8 in text frames; byte {error.start}: {error.reason}"
                raise NotUtf8Error(
                    "the text is not UTF-8", field="message", value=message[:16].hex(), rule=rule
                ) from error
        if (kind == WSMsgType.BINARY) is not (self.form.encoding is Encoding.MSGPACK):
            raise InvalidRequestError(
                "the frame's type does not fit the encoding",
                field="frame",
                value="binary" if kind == WSMsgType.BINARY else "text",
                rule="text frames for JSON, binary frames for MessagePack (subprotocol bookrunner.msgpack)",
            )

    def _refuse(self, message: str, field: str, value: object, rule: str) -> None:
        self._answer_with(InvalidRequestError(message, field=field, value=value, rule=rule))

    def _answer_with(self, error: InvalidRequestError) -> None:
        self._connections.publisher.counters.invalid_requests += 1
        _log.info("client_request_refused", error=error.message, **error.fields)
        if self.session is not None:
            self._connections.desk.refuse(self.session, error)

    def _too_long(self) -> None:
        self._connections.publisher.counters.oversized_requests += 1
        bytes_max = self._settings.request_bytes_max
        self._refuse("the message is too long", "message", None, f"at most {bytes_max} bytes, inflated")
        self.close(CloseCode.MESSAGE_TOO_BIG, f"a message may have {bytes_max} bytes")

    def _protocol_error(self, reason: str) -> None:
        self._connections.publisher.counters.protocol_errors += 1
        _log.info("client_broke_protocol", reason=reason)
        self.close(CloseCode.PROTOCOL_ERROR, reason)

    # --- Link ---------------------------------------------------------------------------------------------

    def send(self, payload: bytes, *, binary: bool, compressed: bool) -> None:
        """Hand one frame to the socket."""
        if self._transport is not None:
            kind = WSMsgType.BINARY if binary else WSMsgType.TEXT
            self._transport.send(kind, payload, rsv1=compressed)

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._transport is not None and self.writable:
            self._transport.send_ping()

    def close(self, code: CloseCode, reason: str) -> None:
        """Send a close frame; the connection ends when the client answers, or soon after."""
        if self._transport is None or self.close_code is not None:
            return
        self.close_code = code
        self._assembled.clear()
        self._transport.send_close(WSCloseCode(code), reason.encode()[:CLOSE_REASON_BYTES_MAX])
        self._connections.end_later(self)

    def cut(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
