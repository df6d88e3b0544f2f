"""The REST client over a scripted transport, with time moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from bookrunner.core.errors import (
    BannedError,
    BookrunnerError,
    ConnectionLostError,
    MalformedFrameError,
    MessageTooLargeError,
    RateLimitedError,
    RequestTimeoutError,
    TransportError,
    VenueRejectError,
    VenueUnavailableError,
)
from bookrunner.engine.ports.transport import RateLimit, RestClient
from bookrunner.engine.ports.venue_feed import RestRequest
from bookrunner.venues.transport.admission import Admission
from bookrunner.venues.transport.rest import RestSettings, VenueRestClient
from transport_rig import LoopClock, ManualTimeLoop, dice, run_by_hand, settle, until

DEPTH = RestRequest("/fapi/v1/depth", (("symbol", "BTCUSDT"), ("limit", "1000")), 20)
Answer = httpx.Response | Exception


class Rig:
    """A client whose venue answers from a script; an empty script answers 200."""

    def __init__(self, loop: ManualTimeLoop) -> None:
        self.loop = loop
        self.clock = LoopClock(loop)
        self.script: list[Answer] = []
        self.seen: list[httpx.Request] = []
        self.held: asyncio.Event | None = None
        """While set, answers wait for it."""
        self.admission = Admission("binance_usdm", RateLimit(2400, 60), self.clock)

    def client(self, **settings: Any) -> VenueRestClient:
        return VenueRestClient(
            "https://venue.test",
            self.admission,
            settings=RestSettings(**settings),
            clock=self.clock,
            generator=dice(),
            transport=httpx.MockTransport(self._answer),
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if self.held is not None:
            await self.held.wait()
        answer = self.script.pop(0) if self.script else httpx.Response(200, content=b"{}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def after_waits(self, getting: asyncio.Task[bytes], waits: int) -> list[float]:
        """Let the request sleep this many times, skipping each wait; return the waits."""
        slept = []
        for _ in range(waits):
            await until(lambda: getting.done() or self._sleeping())
            assert not getting.done(), "it did not wait"
            seen = len(self.seen)
            slept.append(self._sleeping()[0])
            self.loop.advance(slept[-1])
            await until(lambda seen=seen: len(self.seen) > seen)  # type: ignore[misc]
        return slept

    def _sleeping(self) -> list[float]:
        # While a request is on its way, the timer is its own timeout.
        return [] if self.admission.gate.in_flight else self.loop.waits_s()


def by_hand(test: Callable[[Rig], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def body(loop: ManualTimeLoop) -> None:
            await test(Rig(loop))

        run_by_hand(body)

    run.__name__ = test.__name__
    return run


async def fails(awaitable: Awaitable[bytes], kind: type[BookrunnerError]) -> BookrunnerError:
    with pytest.raises(kind) as caught:
        await awaitable
    assert type(caught.value) is kind
    assert "BTCUSDT" not in str(caught.value)  # no query in errors: it may hold a secret one day
    return caught.value


@by_hand
async def test_an_answer(rig: Rig) -> None:
    client: RestClient = rig.client()
    rig.script = [httpx.Response(200, content=b'{"lastUpdateId":1}')]
    assert await client.get(DEPTH) == b'{"lastUpdateId":1}'
    assert str(rig.seen[0].url) == "https://venue.test/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    assert rig.admission.gate.in_flight == 0
    await client.close()


@by_hand
async def test_server_errors_are_retried_with_growing_jitter_and_then_raised(rig: Rig) -> None:
    client = rig.client(max_attempts=4)
    rig.script = [httpx.Response(status) for status in (500, 502, 503, 504)]
    getting = asyncio.create_task(client.get(DEPTH))
    waits = await rig.after_waits(getting, 3)
    assert all(0 <= wait <= ceiling for wait, ceiling in zip(waits, (0.5, 1.0, 2.0), strict=True))
    error = await fails(getting, VenueUnavailableError)
    assert error.fields == {"venue": "binance_usdm", "path": "/fapi/v1/depth", "status": 504}
    assert client.stats.requests == 4
    assert client.stats.retries == 3
    assert client.stats.errors == {"VENUE_UNAVAILABLE": 4}
    await client.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.ReadTimeout("late"), RequestTimeoutError),
        (httpx.ConnectTimeout("late"), RequestTimeoutError),
        (httpx.PoolTimeout("late"), RequestTimeoutError),
        (httpx.ConnectError("no route"), ConnectionLostError),
        (httpx.RemoteProtocolError("cut"), ConnectionLostError),
        (httpx.Response(408), RequestTimeoutError),
        (httpx.Response(503), VenueUnavailableError),
    ],
)
def test_what_may_pass_is_retried(answer: Answer, kind: type[TransportError]) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        client = rig.client(max_attempts=2)
        rig.script = [answer]
        getting = asyncio.create_task(client.get(DEPTH))
        await rig.after_waits(getting, 1)
        assert await getting == b"{}"
        assert client.stats.errors == {kind.code: 1}
        await client.close()

    test()


@by_hand
async def test_an_answer_that_drips_for_ever_times_out(rig: Rig) -> None:
    client = rig.client(max_attempts=1, total_timeout_s=20.0)
    rig.held = asyncio.Event()
    getting = asyncio.create_task(client.get(DEPTH))
    await until(lambda: rig.seen)
    rig.loop.advance(20.0)
    await fails(getting, RequestTimeoutError)
    await client.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"code":-1121,"msg":"Invalid symbol."}', -1121), (b"<html>", 0), (b"[]", 0), (b"\xff", 0)],
)
def test_a_refusal_is_not_retried(body: bytes, code: int) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        client = rig.client()
        rig.script = [httpx.Response(400, content=body)]
        error = await fails(client.get(DEPTH), VenueRejectError)
        assert (error.fields["status"], error.fields["venue_code"]) == (400, code)
        assert len(rig.seen) == 1
        await client.close()

    test()


@by_hand
async def test_a_redirect_is_not_followed(rig: Rig) -> None:
    client = rig.client()
    rig.script = [httpx.Response(302, headers={"Location": "https://elsewhere.test/"})]
    await fails(client.get(DEPTH), VenueRejectError)
    await client.close()


@by_hand
async def test_429_holds_every_client_of_the_venue_for_as_long_as_it_asks(rig: Rig) -> None:
    first, second = rig.client(), rig.client()
    rig.script = [httpx.Response(429, headers={"Retry-After": "17"})]
    one = asyncio.create_task(first.get(DEPTH))
    await until(lambda: rig.admission.gate.blocked_s(rig.clock.monotonic_ns()))
    two = asyncio.create_task(second.get(DEPTH))
    await settle()
    rig.loop.advance(16.9)
    await settle()
    assert len(rig.seen) == 1
    rig.loop.advance(0.2)
    assert [await one, await two] == [b"{}", b"{}"]
    assert len(rig.seen) == 3
    for client in (first, second):
        await client.close()


@pytest.mark.parametrize("header", ["soon", "-5", "1e3", "", "99999999999", "Fri, 99 Foo 2026 00:00:00 GMT"])
def test_a_malformed_retry_after_falls_back_to_our_own(header: str) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        client = rig.client()
        rig.script = [httpx.Response(429, headers={"Retry-After": header})]
        getting = asyncio.create_task(client.get(DEPTH))
        assert await rig.after_waits(getting, 1) == [pytest.approx(5.0)]
        assert await getting == b"{}"
        await client.close()

    test()


@by_hand
async def test_repeated_429_grow_and_end(rig: Rig) -> None:
    client = rig.client(max_attempts=4)
    rig.script = [httpx.Response(429) for _ in range(4)]
    getting = asyncio.create_task(client.get(DEPTH))
    assert await rig.after_waits(getting, 3) == [pytest.approx(wait) for wait in (5.0, 10.0, 20.0)]
    error = await fails(getting, RateLimitedError)
    assert error.fields["retry_after_s"] == pytest.approx(40.0)
    await client.close()


@by_hand
async def test_a_long_rate_limit_is_raised_at_once(rig: Rig) -> None:
    client = rig.client(max_block_wait_s=60.0)
    rig.script = [httpx.Response(429, headers={"Retry-After": "61"})]
    error = await fails(client.get(DEPTH), RateLimitedError)
    assert error.fields["retry_after_s"] == pytest.approx(61.0)
    await client.close()


BANNED = b'{"code":-1003,"msg":"Way too many requests; IP banned until 1700000000000."}'


@pytest.mark.parametrize(
    ("answer", "least_s"),
    [
        (httpx.Response(418, headers={"Retry-After": "300"}), 300.0),
        (httpx.Response(418), 120.0),
        (httpx.Response(403), 600.0),
        (httpx.Response(418, content=BANNED), 3 * 24 * 3600.0),
        (
            httpx.Response(429, headers={"Retry-After": "1"}, content=BANNED),
            259200.0,
        ),
    ],
)
def test_a_ban_fails_everything_at_once_until_it_is_over(answer: httpx.Response, least_s: float) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        client = rig.client()
        rig.held = asyncio.Event()
        rig.script = [answer]
        tasks = [asyncio.create_task(client.get(DEPTH)) for _ in range(6)]
        await until(lambda: len(rig.seen) == 4 and rig.admission.gate.waiting == 2)
        rig.held.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        # Three were on their way and were answered; two waited and were told.
        assert [type(outcome) for outcome in outcomes] == [
            BannedError,
            *[bytes] * 3,
            BannedError,
            BannedError,
        ]
        error = await fails(client.get(DEPTH), BannedError)
        assert error.fields["retry_after_s"] == pytest.approx(least_s)
        assert len(rig.seen) == 4
        rig.loop.advance(least_s)
        assert await client.get(DEPTH) == b"{}"
        await client.close()

    test()


@by_hand
async def test_bans_in_a_row_grow(rig: Rig) -> None:
    client = rig.client()
    for least_s in (120.0, 240.0, 480.0):
        rig.script = [httpx.Response(418)]
        error = await fails(client.get(DEPTH), BannedError)
        assert error.fields["retry_after_s"] == pytest.approx(least_s)
        rig.loop.advance(least_s)
    await client.close()


@by_hand
async def test_an_oversized_body_is_cut_off(rig: Rig) -> None:
    client = rig.client(max_body_bytes=1000)
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield b"x" * 400

    rig.script = [httpx.Response(200, content=endless())]
    error = await fails(client.get(DEPTH), MessageTooLargeError)
    assert error.fields["limit_bytes"] == 1000
    assert pieces <= 4
    assert rig.admission.gate.in_flight == 0
    await client.close()


@by_hand
async def test_a_body_that_does_not_unpack(rig: Rig) -> None:
    client = rig.client()
    headers = {"Content-Encoding": "gzip"}
    rig.script = [httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"not gzip"))]
    await fails(client.get(DEPTH), MalformedFrameError)
    await client.close()


@by_hand
async def test_urgent_requests_go_first_and_few_at_a_time(rig: Rig) -> None:
    client = rig.client()
    rig.held = asyncio.Event()
    order = [5, 5, 5, 5, 9, 1, 5, 0]
    tasks = [
        asyncio.create_task(client.get(RestRequest(f"/{number}/{priority}", (), 1), priority=priority))
        for number, priority in enumerate(order)
    ]
    await until(lambda: rig.admission.gate.waiting == 4)
    assert rig.admission.gate.in_flight == 4
    rig.held.set()
    await asyncio.gather(*tasks)
    assert [request.url.path for request in rig.seen[4:]] == ["/7/0", "/5/1", "/6/5", "/4/9"]
    await client.close()


@by_hand
async def test_at_the_bound_the_least_urgent_is_turned_away(rig: Rig) -> None:
    rig.admission = Admission("bybit", RateLimit(600, 5), rig.clock, max_in_flight=1, max_waiting=2)
    client = rig.client()
    rig.held = asyncio.Event()
    tasks = [asyncio.create_task(client.get(DEPTH, priority=priority)) for priority in (0, 7, 8)]
    await until(lambda: rig.admission.gate.waiting == 2)
    tasks.append(asyncio.create_task(client.get(DEPTH, priority=1)))
    error = await fails(tasks[2], RateLimitedError)
    assert error.fields["waiting"] == 2
    await fails(client.get(DEPTH, priority=9), RateLimitedError)
    rig.held.set()
    assert [await task for task in (tasks[0], tasks[1], tasks[3])] == [b"{}"] * 3
    await client.close()


@by_hand
async def test_the_weight_is_spent_and_then_trickles(rig: Rig) -> None:
    client = rig.client()
    burst = rig.admission.gate.bucket.burst
    assert await client.get(RestRequest("/", (), burst)) == b"{}"
    getting = asyncio.create_task(client.get(RestRequest("/", (), 36)))
    # 2400 a minute less a tenth, half of it trickling: 18 a second.
    assert await rig.after_waits(getting, 1) == [pytest.approx(2.0)]
    assert await getting == b"{}"
    await client.close()


@by_hand
async def test_the_venues_own_count_wins_when_it_is_higher(rig: Rig) -> None:
    client = rig.client()
    rig.script = [httpx.Response(200, headers={"X-MBX-USED-WEIGHT-1M": "2160"})]
    await client.get(DEPTH)
    getting = asyncio.create_task(client.get(RestRequest("/", (), 18)))
    assert await rig.after_waits(getting, 1) == [pytest.approx(1.0)]
    assert await getting == b"{}"
    rig.script = [httpx.Response(200, headers={"X-MBX-USED-WEIGHT-1M": "1"})]
    rig.loop.advance(60.0)
    full = rig.admission.gate.bucket.burst
    await client.get(DEPTH)
    assert rig.admission.gate.bucket.available(rig.clock.monotonic_ns()) == full - DEPTH.weight
    await client.close()


@pytest.mark.parametrize("phase", ["on its way", "waiting", "asleep"])
def test_cancelling_gives_the_place_back(phase: str) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        client = rig.client()
        rig.held = None if phase == "asleep" else asyncio.Event()
        rig.script = [httpx.Response(500)] if phase == "asleep" else []
        others = [asyncio.create_task(client.get(DEPTH)) for _ in range(4 if phase == "waiting" else 0)]
        getting = asyncio.create_task(client.get(DEPTH))
        await until(
            lambda: rig.seen and rig.admission.gate.in_flight + rig.admission.gate.waiting in {0, 1, 5}
        )
        await settle()
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        if rig.held is not None:
            rig.held.set()
        await asyncio.gather(*others)
        assert rig.admission.gate.in_flight == 0
        assert rig.admission.gate.waiting == 0
        assert await client.get(DEPTH) == b"{}"
        await client.close()

    test()


@by_hand
async def test_cancelled_in_the_moment_of_admission(rig: Rig) -> None:
    rig.admission = Admission("bybit", RateLimit(600, 5), rig.clock, max_in_flight=1)
    client = rig.client()
    rig.held = asyncio.Event()
    first = asyncio.create_task(client.get(DEPTH))
    await until(lambda: rig.seen)
    second = asyncio.create_task(client.get(DEPTH))
    third = asyncio.create_task(client.get(DEPTH))
    await until(lambda: rig.admission.gate.waiting == 2)
    second.cancel()
    rig.admission.leave()  # frees a place while the cancelled one is still first in the queue
    rig.admission.gate.in_flight += 1
    rig.held.set()
    assert [await first, await third] == [b"{}", b"{}"]
    assert second.cancelled()
    assert rig.admission.gate.in_flight == 0
    await client.close()
