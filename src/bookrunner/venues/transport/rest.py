"""GET requests to a venue: in turn, bounded, retried, and never against the venue's wish."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec
import structlog

from bookrunner.core.clock import Clock
from bookrunner.core.errors import (
    BannedError,
    ConnectionLostError,
    MalformedFrameError,
    MessageTooLargeError,
    RateLimitedError,
    RequestTimeoutError,
    TransportError,
    VenueRejectError,
    VenueUnavailableError,
)
from bookrunner.core.lean_import import import_without
from bookrunner.engine.ports.venue_feed import RestRequest
from bookrunner.venues.transport.admission import Admission
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.limit_headers import banned_for_s, remaining_weight, retry_after_s
from bookrunner.venues.transport.request_gate import MAX_IN_FLIGHT, Block

if TYPE_CHECKING:
    import httpx  # imported where it is used: it costs a tenth of a second at start

KEEP_ALIVE_S = 60.0
"""An idle connection is kept this long for the next request."""

_OK = 200
_REQUEST_TIMEOUT = 408
_SERVER_ERROR = 500
_BLOCKS = {403: Block.FORBIDDEN, 418: Block.BANNED, 429: Block.RATE_LIMITED}
_log = structlog.get_logger(__name__)


class RestSettings(msgspec.Struct, frozen=True):
    """Our side of every request; durations in seconds."""

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    """Between two pieces of an answer."""
    total_timeout_s: float = 20.0
    """From sending to the last byte."""
    max_body_bytes: int = 64 * 1024 * 1024
    """Unpacked. The largest regular answer, an instrument list, is some 20 MB."""
    max_attempts: int = 4
    """Of one request, the first included."""
    backoff: Backoff = Backoff(base_s=0.5, cap_s=10.0)
    """Between attempts after a server error, a timeout or a lost connection."""
    max_block_wait_s: float = 60.0
    """A rate limit that lasts longer is raised instead of waited for."""


class RestStats(msgspec.Struct):
    """Counters since the client was made."""

    requests: int = 0
    """Sent, retries included."""
    retries: int = 0
    bytes: int = 0
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """Failed attempts by error code."""


class _ErrorBody(msgspec.Struct):
    """Binance's error form."""

    code: int = 0
    msg: str = ""


class VenueRestClient:
    """GETs from one base URL; implements ``engine.ports.transport.RestClient``.

    Args:
        base_url: scheme, host and port.
        admission: the venue's limit, shared by all clients that it counts together.
        settings: our own rules.
        clock: wall time, which dates in headers are compared with.
        generator: draws the backoff.
        transport: replaces the network in tests.
    """

    def __init__(
        self,
        base_url: str,
        admission: Admission,
        *,
        settings: RestSettings,
        clock: Clock,
        generator: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.stats = RestStats()
        self._base_url = base_url
        self._admission = admission
        self._settings = settings
        self._clock = clock
        self._generator = generator
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def get(self, request: RestRequest, *, priority: int = 0) -> bytes:
        """Return the body of a 200 answer; lower ``priority`` goes first. Cancelling is safe.

        Raises:
            BannedError: at once, for as long as the venue refuses this address.
            RateLimitedError: after the attempts allowed, when the wait is long, or when the queue is full.
            RequestTimeoutError, ConnectionLostError, VenueUnavailableError: after the attempts allowed.
            VenueRejectError: another status; not retried.
            MessageTooLargeError, MalformedFrameError: the body is too large or does not unpack; not retried.
        """
        settings = self._settings
        for attempt in range(1, settings.max_attempts):
            try:
                return await self._attempt(request, priority)
            except BannedError:
                raise
            except RateLimitedError as error:
                if not _worth_waiting(error, settings.max_block_wait_s):
                    raise
                # The gate holds the next attempt back for as long as the venue asked.
            except TransportError:
                await asyncio.sleep(settings.backoff.delay_s(attempt, self._generator))
            self.stats.retries += 1
        return await self._attempt(request, priority)

    async def close(self) -> None:
        """Release the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _attempt(self, request: RestRequest, priority: int) -> bytes:
        await self._admission.enter(request.weight, priority)
        self.stats.requests += 1
        try:
            status, headers, body = await self._exchange(request)
            self._admission_news(headers)
            if status != _OK:
                raise self._refusal(request, status, headers, body)
        except (TransportError, VenueRejectError, MalformedFrameError, MessageTooLargeError) as error:
            self.stats.errors[error.code] = self.stats.errors.get(error.code, 0) + 1
            _log.warning("request_failed", venue=self._admission.venue, path=request.path, code=error.code)
            raise
        finally:
            self._admission.leave()
        self._admission.succeeded()
        return body

    async def _exchange(self, request: RestRequest) -> tuple[int, httpx.Headers, bytes]:
        """Send one request and read the whole answer."""
        connections = self._connections()
        import httpx

        where = {"venue": self._admission.venue, "path": request.path}
        try:
            async with (
                asyncio.timeout(self._settings.total_timeout_s),
                connections.stream("GET", request.path, params=request.params) as response,
            ):
                return response.status_code, response.headers, await self._read(response)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise RequestTimeoutError("no answer in time", **where) from error
        except httpx.DecodingError as error:
            raise MalformedFrameError("the body cannot be unpacked", **where) from error
        except httpx.RequestError as error:
            raise ConnectionLostError(type(error).__name__, **where) from error

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > self._settings.max_body_bytes:
                raise MessageTooLargeError(
                    "body too large", venue=self._admission.venue, limit_bytes=self._settings.max_body_bytes
                )
        self.stats.bytes += len(body)
        return bytes(body)

    def _admission_news(self, headers: httpx.Headers) -> None:
        remaining = remaining_weight(headers, self._admission.gate.bucket.usable)
        if remaining is not None:
            self._admission.observe_remaining(remaining)

    def _refusal(
        self, request: RestRequest, status: int, headers: httpx.Headers, body: bytes
    ) -> TransportError | VenueRejectError:
        """Return the error that an answer other than 200 is; block the gate where the venue asks for it."""
        where = {"venue": self._admission.venue, "path": request.path, "status": status}
        now_ns = self._clock.wall_ns()
        banned_s = banned_for_s(body, now_ns)
        block = _BLOCKS.get(status) if banned_s is None else Block.BANNED
        if block is not None:
            asked_s = [wait_s for wait_s in (banned_s, retry_after_s(headers, now_ns)) if wait_s is not None]
            blocked_s = self._admission.refuse(block, max(asked_s, default=None))
            if block is Block.RATE_LIMITED:
                return RateLimitedError("too many requests", retry_after_s=blocked_s, **where)
            return BannedError("the venue refuses this address", retry_after_s=blocked_s, **where)
        if status == _REQUEST_TIMEOUT:
            return RequestTimeoutError("the venue's own backend timed out", **where)
        if status >= _SERVER_ERROR:
            return VenueUnavailableError("the venue failed", **where)
        try:
            stated = msgspec.json.decode(body, type=_ErrorBody)
        except msgspec.DecodeError:
            stated = _ErrorBody()
        return VenueRejectError(
            "the venue refused the request", venue_code=stated.code, reason=stated.msg, **where
        )

    def _connections(self) -> httpx.AsyncClient:
        if self._client is None:
            import_without("httpx", "click", "rich")
            import httpx

            settings = self._settings
            self._client = httpx.AsyncClient(
                base_url=self._base_url,
                timeout=httpx.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
                limits=httpx.Limits(max_connections=MAX_IN_FLIGHT, keepalive_expiry=KEEP_ALIVE_S),
                follow_redirects=False,
                # Certificates take tens of milliseconds to load; plain http has no use for them.
                verify=not self._base_url.startswith("http://"),
                # Proxies are a setting's business, not the environment's.
                trust_env=False,
                transport=self._transport,
            )
        return self._client


def _worth_waiting(error: RateLimitedError, max_wait_s: float) -> bool:
    """Return whether a retry makes sense: the venue said 429, and the time it asks for is short."""
    wait_s = error.fields["retry_after_s"]
    return "status" in error.fields and isinstance(wait_s, float) and wait_s <= max_wait_s
