"""The market-data WebSocket as a service: a picows server around a ``Publisher``."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from logging import LoggerAdapter, getLogger
from typing import Any

import structlog
from picows import (
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import ConfigurationError, InvalidRequestError
from bookrunner.fanout.connection import ClientConnection
from bookrunner.fanout.handshake import name_upgrade_alone, negotiate, refusal
from bookrunner.fanout.listening import GatedSocket
from bookrunner.fanout.outbox import Left
from bookrunner.fanout.publisher import Publisher
from bookrunner.fanout.requests import RequestDesk, error_body
from bookrunner.fanout.session import CloseCode
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.market.live_book import LiveBooks
from bookrunner.wire.client_message import ErrorBody, ErrorDetails

_log = structlog.get_logger(__name__)

READ_BUFFER_BYTES = 2_048
"""First size of a connection's read buffer; it grows to the longest message that a client sends."""
BACKLOG = 1_024
"""Connections that the kernel holds until they are accepted; a crowd that reconnects comes at once."""
UNAVAILABLE = "UNAVAILABLE"
"""Error code of a connection refused for lack of room, or at the end."""
BACKGROUND_PAUSE_S = 0.001
"""Time between turns when only metrics and heartbeats are left: they must not crowd out what is due."""
SWEEP_INTERVAL_S = 0.25
"""Time between looks for clients that lag, stall or are silent."""


class FanoutService:
    """Serves market data to many clients; ``publisher`` is the ``MarketSink`` to feed.

    Args:
        books: every book of the process.
        metrics: the server's figures, asked for once per ``settings.metrics_s``.
        settings: address, limits and intervals.
        clock: time.
        token_source: where session tokens come from; ``random.SystemRandom`` in production.
        record_sent_ns: takes, per message, the time from receipt of its newest content to its last send.
    """

    name = "fanout"

    def __init__(
        self,
        books: LiveBooks,
        metrics: Callable[[], Mapping[str, Any]],
        settings: FanoutSettings,
        clock: Clock,
        token_source: random.Random,
        record_sent_ns: Callable[[int], None] | None = None,
    ) -> None:
        self.settings = settings
        self.publisher = Publisher(books, metrics, settings, clock, token_source, record_sent_ns)
        self.desk = RequestDesk(self.publisher)
        self._clock = clock
        self._connections: set[ClientConnection] = set()
        self._gate: GatedSocket | None = None
        self._port = settings.port
        self._server: asyncio.Server | None = None
        self._due = asyncio.Event()
        self._idle = asyncio.Event()
        """Nothing waits to be sent."""
        self._empty = asyncio.Event()
        """No client is connected."""
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None
        self._turn_planned = False
        self._stopping = False

    @property
    def websocket_connections_active(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    @property
    def listening(self) -> bool:
        """Whether new clients are taken: not before ``start``, nor once stopped or dead."""
        return self._server is not None

    @property
    def port(self) -> int:
        """The port in use; the one that was picked when the setting is 0."""
        return self._port

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Clients are served once ``run`` runs too.

        Raises:
            ConfigurationError: the address is in use or not ours.
        """
        settings = self.settings
        self.publisher.refresh_metrics()
        self.publisher.on_work = self._plan_turn
        self.publisher.on_retimed = self._due.set
        try:
            gate = GatedSocket.listening_on(settings.host, settings.port, settings.handshakes_max)
        except OSError as error:
            raise ConfigurationError(
                "cannot listen",
                field="fanout.port",
                value=f"{settings.host}:{settings.port}",
                rule=error.strerror,
            ) from error
        self._gate = gate
        self._port = int(gate.getsockname()[1])
        self._server = await ws_create_server(
            self._admit,
            sock=gate,
            backlog=BACKLOG,
            # An adapter, because picows makes a new logger for every connection of a plain one.
            logger_name=LoggerAdapter(getLogger("picows.fanout"), {}),
            websocket_handshake_timeout=settings.handshake_timeout_s,
            enable_auto_pong=False,
            max_frame_size=settings.request_bytes_max,
            read_buffer_init_size=READ_BUFFER_BYTES,
            use_aiofastnet=True,
        )
        _log.info("fanout_listening", host=settings.host, port=self.port)

    async def run(self) -> None:
        """Serve until ``stop``; a task that dies stops the service and raises.

        Cancelling is safe, but cuts clients without a close frame.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                ticks = tasks.create_task(self._tick_forever(), name="fanout-ticks")
                sweeps = tasks.create_task(self._sweep_forever(), name="fanout-sweeps")
                await self._stopped.wait()
                ticks.cancel()
                sweeps.cancel()
                if self._failure is not None:
                    raise self._failure
        finally:
            self._stop_listening()
            for connection in list(self._connections):
                connection.cut()

    async def stop(self) -> None:
        """Send what is due, close every client with 1001, and end ``run``; bounded by two timeouts."""
        self._stopping = True
        self._stop_listening()
        try:
            async with asyncio.timeout(self.settings.drain_timeout_s):
                if self.publisher.waiting:
                    await self._idle.wait()
        except TimeoutError:
            _log.warning("fanout_drain_incomplete", waiting=self.publisher.waiting)
        for connection in list(self._connections):
            connection.close(CloseCode.GOING_AWAY, "the server is shutting down")
        try:
            async with asyncio.timeout(self.settings.close_timeout_s):
                if self._connections:
                    await self._empty.wait()
        except TimeoutError:
            _log.warning("fanout_clients_cut", clients=len(self._connections))
            for connection in list(self._connections):
                connection.cut()
        self._stopped.set()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.publisher.tick()
            self._take_turn()
            wait_ns = self.publisher.next_due_ns() - self._clock.monotonic_ns()
            timer = loop.call_later(max(wait_ns, 0) / NANOSECONDS_PER_SECOND, self._due.set)
            await self._due.wait()
            self._due.clear()
            timer.cancel()

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.publisher.sweep()
            self._sweep_silent()
            if self._gate is not None:
                self.publisher.counters.handshakes_dropped = self._gate.dropped

    def _sweep_silent(self) -> None:
        """Ping clients that were not heard for a while; cut those that do not answer either."""
        now_ns = self._clock.monotonic_ns()
        for connection in list(self._connections):
            silent_s = (now_ns - connection.heard_at_ns) / NANOSECONDS_PER_SECOND
            if silent_s >= self.settings.silence_timeout_s:
                self.publisher.counters.cut_silent += 1
                _log.warning(
                    "client_cut",
                    reason="silent",
                    silent_s=round(silent_s, 1),
                    cut_silent=self.publisher.counters.cut_silent,
                )
                connection.cut()
            elif silent_s >= self.settings.heartbeat_s:
                connection.ping()

    # --- turns --------------------------------------------------------------------------------------------

    def _plan_turn(self) -> None:
        self._idle.clear()
        if not self._turn_planned:
            self._turn_planned = True
            asyncio.get_running_loop().call_soon(self._planned_turn)

    def _planned_turn(self) -> None:
        self._turn_planned = False
        try:
            self._take_turn()
        except Exception as error:  # noqa: BLE001 - raised again by ``run``
            self._failure = error
            self._stopped.set()

    def _take_turn(self) -> None:
        left = self.publisher.turn()
        if left is Left.URGENT:
            self._plan_turn()
        elif left is Left.BACKGROUND:
            asyncio.get_running_loop().call_later(BACKGROUND_PAUSE_S, self._plan_turn)
        else:
            self._idle.set()

    # --- connections --------------------------------------------------------------------------------------

    def _admit(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        """Answer an opening handshake."""
        try:
            if self._stopping:
                return self._turn_away("the server is shutting down", 0)
            if len(self._connections) >= self.settings.clients_max:
                return self._turn_away("too many clients", self.settings.clients_max)
            limits = self.settings.request_limits
            agreed = negotiate(request, limits, compression=self.settings.compression)
            if agreed is None:
                self.publisher.counters.refused += 1
                return None
            self.desk.check_opening(agreed.opening)
        except InvalidRequestError as error:
            self.publisher.counters.refused += 1
            _log.info("client_address_refused", error=error.message, **error.fields)
            return WSUpgradeResponseWithListener(refusal(HTTPStatus.BAD_REQUEST, error_body(error)), None)
        name_upgrade_alone(request.headers)
        response = WSUpgradeResponse.create_101_response(agreed.headers)
        return WSUpgradeResponseWithListener(response, ClientConnection(self, agreed.form, agreed.opening))

    def _turn_away(self, reason: str, clients_max: int) -> WSUpgradeResponseWithListener:
        self.publisher.counters.refused += 1
        _log.warning("client_turned_away", reason=reason)
        details = ErrorDetails("clients", len(self._connections), f"at most {clients_max}")
        error = ErrorBody(UNAVAILABLE, reason, details)
        return WSUpgradeResponseWithListener(refusal(HTTPStatus.SERVICE_UNAVAILABLE, error), None)

    def opened(self, connection: ClientConnection, transport: asyncio.WriteTransport) -> None:
        """Bound what the kernel and the process hold for a new client, and count it."""
        client: socket.socket = transport.get_extra_info("socket")
        if self._gate is not None:
            self._gate.admitted(client.fileno())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.settings.socket_buffer_bytes)
        transport.set_write_buffer_limits(high=self.settings.write_buffer_bytes)
        self._connections.add(connection)
        self._empty.clear()
        self.publisher.counters.accepted += 1

    def closed(self, connection: ClientConnection) -> None:
        """Forget a client that is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def end_later(self, connection: ClientConnection) -> None:
        """Cut a connection whose client does not answer our close frame in time."""
        asyncio.get_running_loop().call_later(self.settings.close_timeout_s, connection.cut)
