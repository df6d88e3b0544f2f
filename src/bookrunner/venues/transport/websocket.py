"""A WebSocket connection that comes back: backoff, staggered lifetimes, resubscription, clean end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from urllib.parse import urlsplit

import msgspec
import structlog
from picows import WSCloseCode, WSError, WSHandshakeError, WSParsedURL, WSTransport, ws_connect

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import ConfigurationError, ConnectionLostError
from bookrunner.engine.ports.transport import RateLimit, StreamListener, StreamStats
from bookrunner.engine.ports.venue_feed import ConnectionPlan, ConnectionPolicy
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.dial import Dialler
from bookrunner.venues.transport.disconnect import Disconnect, DisconnectKind, refused
from bookrunner.venues.transport.lifetime import StaggeredLifetimes
from bookrunner.venues.transport.limit_headers import banned_for_s, retry_after_s
from bookrunner.venues.transport.session import Session
from bookrunner.venues.transport.token_bucket import TokenBucket

CONNECT_LIMIT = RateLimit(weight=300, window_s=300)
"""Connections to one host: Binance spot and Bybit allow 300 and 500 in 5 minutes from one address."""

_UNCOUNTED = (DisconnectKind.LIFETIME, DisconnectKind.CLOSING)
_log = structlog.get_logger(__name__)


class WebSocketSettings(msgspec.Struct, frozen=True):
    """Our side of every connection; durations in seconds."""

    max_retries: int | None = None
    """Attempts in a row without data before ``run`` gives up; ``None`` never does."""
    backoff: Backoff = Backoff(base_s=0.5, cap_s=30.0)
    connect_timeout_s: float = 10.0
    """Name, TCP, TLS and upgrade together."""
    close_timeout_s: float = 1.0
    """For the peer to answer our close frame; then the socket is cut."""
    max_message_bytes: int = 8 * 1024 * 1024
    """A larger message closes the connection with 1009."""
    receive_buffer_bytes: int | None = None
    """See ``dial.Dialler``."""
    ssl_context: ssl.SSLContext | None = None
    """``None``: certificates are verified against the system's authorities."""


class ReconnectingWebSocket:
    """One connection of a plan, kept up; implements ``engine.ports.transport.StreamClient``.

    Args:
        plan: where to connect; its name stands in logs.
        policy: the venue's rules.
        listener: told of everything, on the loop.
        settings: our own rules.
        clock: stamps messages; drives pacing, pings and ages.
        generator: draws the backoff.
        lifetimes: shared by all connections of the process.
        connect_bucket: shared by all connections to the host.
    """

    def __init__(
        self,
        plan: ConnectionPlan,
        policy: ConnectionPolicy,
        listener: StreamListener,
        *,
        settings: WebSocketSettings,
        clock: Clock,
        generator: random.Random,
        lifetimes: StaggeredLifetimes,
        connect_bucket: TokenBucket,
    ) -> None:
        self.stats = StreamStats()
        self._plan = plan
        self._policy = policy
        self._listener = listener
        self._settings = settings
        self._clock = clock
        self._generator = generator
        self._lifetimes = lifetimes
        self._connect_bucket = connect_bucket
        self._session: Session | None = None
        self._attempt: asyncio.Timeout | None = None
        self._closing = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""
        return self.stats.reconnects

    async def run(self) -> None:
        """Connect and stay connected until ``close``. Cancelling is safe anywhere: nothing is left behind.

        Raises:
            ConnectionLostError: ``max_retries`` attempts in a row brought no data.
            Exception: whatever the listener raised.
        """
        self._stopped.clear()
        try:
            await self._keep_connected()
        finally:
            self._stopped.set()

    def send(self, message: bytes) -> None:
        """Queue a message for its turn; dropped, with a count, while disconnected or at the queue's bound."""
        session = self._session
        if session is None or session.transport is None or session.ended is not None:
            self.stats.count_error("send_while_disconnected")
        else:
            session.send(message)

    def reconnect(self, reason: str) -> None:
        """Cut the connection and make a new one; does nothing while there is none."""
        session = self._session
        if session is not None and session.transport is not None:
            session.finish(Disconnect(DisconnectKind.REQUESTED, detail=reason))

    async def close(self) -> None:
        """Stop for good; ``run`` has returned when this returns. Cancelling leaves the stop in progress."""
        self._closing.set()
        if self._session is not None:
            self._session.finish(Disconnect(DisconnectKind.CLOSING))
        if self._attempt is not None and not self._attempt.expired():
            self._attempt.reschedule(asyncio.get_running_loop().time())
        await self._stopped.wait()

    async def _keep_connected(self) -> None:
        retries = 0
        while not self._closing.is_set():
            await self._pause(self._take_connect_turn_s())
            if self._closing.is_set():
                return
            session = await self._connect_once()
            ended = session.ended
            if session.failure is not None:
                raise session.failure
            if ended is None or self._closing.is_set():
                return
            if session.proven:
                retries = 0
                if ended.kind is DisconnectKind.LIFETIME:
                    continue
            retries += 1
            limit = self._settings.max_retries
            if limit is not None and retries > limit:
                raise ConnectionLostError(
                    "gave up reconnecting", connection=self._plan.name, retries=limit, reason=str(ended)
                )
            delay_s = ended.minimum_wait_s + self._settings.backoff.delay_s(retries, self._generator)
            _log.info("reconnecting", connection=self._plan.name, retry=retries, delay_s=round(delay_s, 3))
            await self._pause(delay_s)

    async def _connect_once(self) -> Session:
        """Make one connection and see it to its end."""
        session = Session(
            self._listener,
            self._policy,
            max_age_s=self._lifetimes.next_age_s(self._policy.lifetime_s),
            max_message_bytes=self._settings.max_message_bytes,
            stats=self.stats,
            clock=self._clock,
        )
        dialler = Dialler(self._settings.receive_buffer_bytes)
        self._session = session
        grace_s = 0.0
        try:
            refusal = await self._open(session, dialler)
            if refusal is not None:
                session.finish(refusal)
            else:
                _log.info("connected", connection=self._plan.name, connects=self.stats.connects)
            await session.attend()
            grace_s = self._settings.close_timeout_s
        finally:
            session.finish(Disconnect(DisconnectKind.CLOSING, detail="cancelled"))
            try:
                await self._end(session, dialler, grace_s)
            finally:
                self._session = None
        return session

    async def _open(self, session: Session, dialler: Dialler) -> Disconnect | None:
        """Connect; return why it failed, or ``None`` when the session is up."""

        async def dial(url: WSParsedURL) -> socket.socket:
            return await dialler.dial(url.host, url.port)

        try:
            async with asyncio.timeout(self._settings.connect_timeout_s) as self._attempt:
                await ws_connect(
                    lambda _request, _response: session,
                    self._plan.url,
                    ssl_context=self._settings.ssl_context,
                    # The timeout around covers name, TCP and TLS as well.
                    websocket_handshake_timeout=None,
                    max_frame_size=self._settings.max_message_bytes,
                    max_redirects=0,
                    socket_factory=dial,
                    logger_name="transport",
                )
        except TimeoutError:
            return Disconnect(DisconnectKind.CONNECT_TIMEOUT)
        except WSHandshakeError as error:
            return self._refusal(error)
        except OSError as error:
            return Disconnect(DisconnectKind.CONNECT_FAILED, detail=str(error))
        finally:
            self._attempt = None
        if session.transport is None:
            return Disconnect(DisconnectKind.CONNECT_FAILED, detail="closed during the handshake")
        return None

    def _refusal(self, error: WSHandshakeError) -> Disconnect:
        if error.response is None:
            return Disconnect(DisconnectKind.HANDSHAKE_REFUSED, detail=str(error))
        now_ns = self._clock.wall_ns()
        wait_s = max(
            retry_after_s(error.response.headers, now_ns) or 0.0,
            banned_for_s(error.raw_body or b"", now_ns) or 0.0,
        )
        return refused(int(error.response.status), wait_s)

    async def _end(self, session: Session, dialler: Dialler, grace_s: float) -> None:
        """Tell the listener, say goodbye, and leave no socket behind."""
        ended = session.ended
        if ended is None:
            return
        if ended.kind not in _UNCOUNTED:
            self.stats.count_error(ended.kind.value)
        _log.info("disconnected", connection=self._plan.name, reason=str(ended))
        if session.transport is None:
            dialler.abandon()
            return
        try:
            self._listener.on_disconnected(str(ended))
        finally:
            await _hang_up(session.transport, ended, grace_s)

    def _take_connect_turn_s(self) -> float:
        """Take a turn among all connections to the host; return the seconds until it comes."""
        now_ns = self._clock.monotonic_ns()
        wait_ns = self._connect_bucket.wait_ns(1, now_ns)
        self._connect_bucket.take(1, now_ns)
        return wait_ns / NANOSECONDS_PER_SECOND

    async def _pause(self, delay_s: float) -> None:
        """Wait, or return early when closing."""
        if delay_s > 0:
            try:
                async with asyncio.timeout(delay_s):
                    await self._closing.wait()
            except TimeoutError:
                return


async def _hang_up(transport: WSTransport, ended: Disconnect, grace_s: float) -> None:
    """Send the close frame, give the peer ``grace_s`` to answer, then cut."""
    transport.send_close(WSCloseCode(ended.close_code))
    try:
        async with asyncio.timeout(grace_s):
            await transport.wait_disconnected()
    except (TimeoutError, WSError):  # no answer in time; or what picows refused, which ``ended`` says
        pass
    finally:
        transport.disconnect(graceful=False)
        with contextlib.suppress(WSError):
            await transport.wait_disconnected()


class WebSocketFactory:
    """Makes the clients of one process; implements ``engine.ports.transport.StreamClientFactory``.

    Args:
        clock, generator: handed to every client.
        settings: likewise.
    """

    def __init__(
        self, clock: Clock, generator: random.Random, settings: WebSocketSettings | None = None
    ) -> None:
        self._clock = clock
        self._generator = generator
        self._settings = settings or WebSocketSettings()
        self._lifetimes = StaggeredLifetimes(generator)
        self._connect_buckets: dict[str, TokenBucket] = {}

    def __call__(
        self, plan: ConnectionPlan, policy: ConnectionPolicy, listener: StreamListener
    ) -> ReconnectingWebSocket:
        """Return a client that is not yet running.

        Raises:
            ConfigurationError: the plan's address is not a WebSocket URL.
        """
        address = urlsplit(plan.url)
        if address.scheme not in {"ws", "wss"} or not address.hostname:
            raise ConfigurationError(
                "not a WebSocket address",
                field=plan.name,
                value=address.scheme,
                rule="ws:// or wss:// and a host",
            )
        bucket = self._connect_buckets.get(address.hostname)
        if bucket is None:
            bucket = TokenBucket(CONNECT_LIMIT, self._clock.monotonic_ns())
            self._connect_buckets[address.hostname] = bucket
        return ReconnectingWebSocket(
            plan,
            policy,
            listener,
            settings=self._settings,
            clock=self._clock,
            generator=self._generator,
            lifetimes=self._lifetimes,
            connect_bucket=bucket,
        )
