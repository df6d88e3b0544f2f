"""The venue simulator: sources, markets, faults and the two ports, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Self

import msgspec
import structlog
from picows import WSListener, WSUpgradeRequest, ws_create_server

from bookrunner.core.clock import Clock, SystemClock
from bookrunner.core.errors import ConfigurationError
from bookrunner.venues.simulated import binance_session, bybit_session
from bookrunner.venues.simulated.connection import Connection
from bookrunner.venues.simulated.events import Event, Source
from bookrunner.venues.simulated.faults import Fault, FaultPlan, parse_fault
from bookrunner.venues.simulated.http import HttpServer
from bookrunner.venues.simulated.market import Market
from bookrunner.venues.simulated.pump import Gate, Pump
from bookrunner.venues.simulated.rest import RestApi
from bookrunner.venues.simulated.session import Session
from bookrunner.venues.simulated.truth import DecimalLevels

TIMEKEEPING_S = 0.25
"""Between two looks at pings, silences and ages."""
MAX_CONNECTIONS = 1_000

_log = structlog.get_logger(__name__)


class Simulator:
    """A loopback venue. ``async with Simulator([source]) as simulator: …``.

    Args:
        sources: what happens in the markets.
        faults: what goes wrong, from the start.
        host: address to listen on.
        port: WebSocket port; 0: a free one.
        rest_port: REST port; 0: a free one.
        time_scale: how many times faster the venue's own limits pass (pings, 24 hours, minutes of weight).
        clock: where times come from.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        faults: Iterable[Fault] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        rest_port: int = 0,
        time_scale: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self.plan = FaultPlan(faults)
        self._clock = clock or SystemClock()
        self.market = Market(self._clock, self.plan)
        self._gate = Gate()
        self._pumps = [Pump(source, self._publish, self._clock, self._gate) for source in sources]
        self._host, self._port, self._rest_port = host, port, rest_port
        self._time_scale = time_scale
        self._http = HttpServer(RestApi(self.market, self, self.venue_time_ns).respond)
        self._connections: set[Connection] = set()
        self._connection_ids = count(1)
        self._readers: asyncio.Future[None] | None = None
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open both ports; every book can be asked for when this returns.

        Raises:
            ConfigurationError: a port is taken, or a recording holds no snapshot.
        """
        for pump in self._pumps:
            pump.prime()
        try:
            self._server = await ws_create_server(
                self._accept, self._host, self._port, enable_auto_pong=False
            )
            self._port = self._server.sockets[0].getsockname()[1]
            self._rest_port = await self._http.start(self._host, self._rest_port)
        except OSError as error:
            await self.stop()
            raise ConfigurationError(
                "cannot listen", field="port", value=f"{self._port},{self._rest_port}", rule=str(error)
            ) from error
        self._tasks = [asyncio.create_task(pump.run(self._readers_ready)) for pump in self._pumps]
        self._tasks.append(asyncio.create_task(self._keep_time()))

    async def stop(self) -> None:
        """Close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.cut()
            await self._server.wait_closed()
            self._server = None
        await self._http.stop()

    async def wait(self) -> None:
        """Return when a source ends; raise what stopped it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    # --- where it is, and what is true ------------------------------------------------------------------

    @property
    def websocket_url(self) -> str:
        """Base of the venues' WebSocket URLs."""
        return f"ws://{self._host}:{self._port}"

    @property
    def rest_url(self) -> str:
        """Base of the venues' REST URLs, and of ``/simulator/…``."""
        return f"http://{self._host}:{self._rest_port}"

    def truth(self, venue: str, symbol: str) -> tuple[DecimalLevels, DecimalLevels, int]:
        """Return bids and asks (best first) and the last update's id, untouched by any fault.

        Raises:
            UnknownSymbolError: there is no such book.
        """
        return self.market.truth(venue, symbol)

    def status(self) -> dict[str, Any]:
        """Describe the running simulator."""
        return {
            "paused": not self._gate.is_open,
            "connections": len(self._connections),
            "events": self.market.events,
            "messages": self.market.messages,
            "books": [list(key) for key in self.market.books],
            "armed": [msgspec.to_builtins(fault) for fault in self.plan.armed],
            "struck": [msgspec.to_builtins(fault) for fault in self.plan.struck],
        }

    def venue_time_ns(self) -> int:
        """Time as the venue's limits count it."""
        return int(self._clock.monotonic_ns() * self._time_scale)

    # --- control ----------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop the sources: no event happens after this returns."""
        self._gate.shut()

    def resume(self) -> None:
        """Let the sources go on where they stopped."""
        self._gate.open()

    def emit(self, count: int = 1) -> int:
        """Publish the next ``count`` events at once, in their order, and return how many there were.

        Meant for a paused simulator, whose every event a test wants to choose.
        """
        for emitted in range(count):
            due = [(pump.due_ns, index) for index, pump in enumerate(self._pumps)]
            ready = [(due_ns, index) for due_ns, index in due if due_ns is not None]
            if not ready:
                return emitted
            self._pumps[min(ready)[1]].step()
        return count

    def inject(self, fault: Fault | str) -> None:
        """Arm a fault now.

        Raises:
            ConfigurationError: the text is not a fault.
        """
        self.plan.arm(parse_fault(fault) if isinstance(fault, str) else fault)

    def cut_all(self, venue: str | None = None) -> None:
        """Cut every connection, of one venue or of all."""
        for connection in list(self._connections):
            if venue in (None, connection.session.venue):
                connection.cut()

    def keep_time(self) -> None:
        """Look once at every connection's pings, silence and age."""
        for connection in list(self._connections):
            connection.keep_time()

    # --- connections ------------------------------------------------------------------------------------

    def joined(self, connection: Connection) -> None:
        """A client connected."""
        self._connections.add(connection)
        self._wake()

    def left(self, connection: Connection) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        self._wake()

    def drained(self) -> None:
        """A client has read what it was sent."""
        self._wake()

    def _accept(self, request: WSUpgradeRequest) -> WSListener | None:
        """Find the endpoint that a URL names; ``None`` is answered with 404."""
        target = request.path.decode("latin-1")
        connection_id = f"simulated-{next(self._connection_ids)}"
        session: Session | None = bybit_session.open_session(target, connection_id, self.market.is_listed)
        session = session or binance_session.open_session(target)
        if session is None or len(self._connections) >= MAX_CONNECTIONS:
            _log.warning("connection_refused", path=target.partition("?")[0][:80])
            return None
        return Connection(session, self.market, self, self.venue_time_ns)

    def _publish(self, event: Event) -> None:
        self.market.publish(event)
        for venue in self.market.cut_venues:
            self.cut_all(venue)
        self.market.cut_venues.clear()

    def _readers_ready(self) -> asyncio.Future[None] | None:
        """Return what a pump that follows the readers must wait for."""
        behind = any(connection.is_write_paused for connection in self._connections)
        if self.market.has_subscribers and not behind:
            return None
        if self._readers is None or self._readers.done():
            self._readers = asyncio.get_running_loop().create_future()
        return self._readers

    def _wake(self) -> None:
        if self._readers is not None and not self._readers.done():
            self._readers.set_result(None)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(TIMEKEEPING_S / self._time_scale if self._time_scale > 1 else TIMEKEEPING_S)
            self.keep_time()
