"""The reconnecting client against a real server on loopback, with time moved by hand."""

from __future__ import annotations

import asyncio
import math
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from picows import WSMsgType, WSUpgradeResponse

from bookrunner.core.clock import SystemClock
from bookrunner.core.errors import ConfigurationError, ConnectionLostError
from bookrunner.engine.ports.transport import StreamClientFactory
from bookrunner.engine.ports.venue_feed import ConnectionPolicy
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.session import MAX_QUEUED_SENDS
from bookrunner.venues.transport.websocket import ReconnectingWebSocket, WebSocketFactory, WebSocketSettings
from transport_rig import (
    LoopClock,
    ManualTimeLoop,
    Peer,
    Recorder,
    Venue,
    dice,
    plan,
    policy,
    run_by_hand,
    run_on,
    settle,
    until,
)

BIG = b'{"stream":"btcusdt@depth","data":"' + b"x" * 600 + b'"}'


class Rig:
    """A server, a listener and a client that is running."""

    def __init__(self, loop: ManualTimeLoop) -> None:
        self.loop = loop
        self.venue = Venue()
        self.recorder = Recorder()
        self.client: ReconnectingWebSocket
        self.running: asyncio.Task[None]

    async def start(
        self, rules: ConnectionPolicy | None = None, *, connected: bool = True, **settings: Any
    ) -> None:
        if not self.venue.port:
            await self.venue.start()
        connect = WebSocketFactory(LoopClock(self.loop), dice(), WebSocketSettings(**settings))
        self.client = connect(plan(self.venue.url), rules or policy(), self.recorder)
        self.running = asyncio.create_task(self.client.run())
        if connected:
            await until(lambda: self.recorder.connected and self.venue.peers)
            await until(lambda: len(self.peer.messages) >= min(1, len(self.recorder.greetings)))

    @property
    def peer(self) -> Peer:
        return self.venue.peers[-1]

    async def deliver(self, message: bytes = BIG) -> None:
        """Send a message and see it arrive."""
        count = len(self.recorder.messages)
        self.peer.send(message)
        await until(lambda: len(self.recorder.messages) > count)

    async def prove(self) -> None:
        """Bring more messages than the client sent, so that the connection counts as good."""
        for _ in self.recorder.greetings:
            await self.deliver()
        await self.deliver()

    async def waiting(self) -> float:
        """Return how long the client waits before it tries again, once it does."""
        await until(lambda: self.client._session is None and self.loop.waits_s())
        return self.loop.waits_s()[0]

    async def reconnected(self, count: int) -> None:
        await until(lambda: self.recorder.connected == count and len(self.venue.peers) == count)

    async def stop(self) -> None:
        await self.client.close()
        await self.running
        await self.venue.stop()


def by_hand(test: Callable[[Rig], Awaitable[None]]) -> Callable[[], None]:
    """Give the test a rig on a loop of manual time."""

    def run() -> None:
        async def body(loop: ManualTimeLoop) -> None:
            await test(Rig(loop))

        run_by_hand(body)

    run.__name__ = test.__name__
    return run


@by_hand
async def test_delivers_whole_messages_with_the_time_of_receipt(rig: Rig) -> None:
    await rig.start()
    assert rig.peer.path == b"/stream"
    await rig.deliver(b"{}")
    rig.loop.advance(5)
    await rig.deliver(BIG)
    rig.peer.send(b'{"binary":1}', WSMsgType.BINARY)
    await until(lambda: len(rig.recorder.messages) == 3)

    assert rig.recorder.messages == [b"{}", BIG, b'{"binary":1}']
    assert rig.recorder.stamps_ns == [1_000_000_000_000, 1_005_000_000_000, 1_005_000_000_000]
    stats = rig.client.stats
    assert (stats.connects, stats.reconnects, stats.messages) == (1, 0, 3)
    assert stats.bytes == 2 + len(BIG) + 12
    assert stats.last_data_ns == 1_005_000_000_000
    await rig.stop()
    assert rig.peer.close_code == 1000
    assert rig.recorder.reasons == ["closing"]
    assert stats.errors == {}


@by_hand
async def test_joins_fragments_even_with_a_ping_between_them(rig: Rig) -> None:
    await rig.start()
    rig.peer.send(b'{"a":', fin=False)
    rig.peer.send(BIG, WSMsgType.CONTINUATION, fin=False)
    rig.peer.transport.send_ping(b"are you there")
    rig.peer.send(BIG + b"}", WSMsgType.CONTINUATION)
    rig.peer.send(b"[]")
    await until(lambda: len(rig.recorder.messages) == 2)
    assert rig.recorder.messages == [b'{"a":' + BIG + BIG + b"}", b"[]"]
    await rig.stop()


@by_hand
async def test_fragments_out_of_order_close_with_1002(rig: Rig) -> None:
    await rig.start()
    rig.peer.send(b"from nowhere", WSMsgType.CONTINUATION)
    await rig.waiting()
    assert rig.peer.close_code == 1002
    assert rig.client.stats.errors == {"protocol": 1}
    assert rig.recorder.messages == []
    await rig.stop()


@by_hand
async def test_an_oversized_frame_closes_with_1009_and_is_counted(rig: Rig) -> None:
    await rig.start(max_message_bytes=1000)
    await rig.prove()
    rig.peer.send(b"x" * 1001)
    await until(lambda: rig.peer.close_code)
    assert rig.peer.close_code == 1009
    rig.loop.advance(0.02)  # picows waits a moment before it lets go
    await rig.waiting()
    assert rig.client.stats.errors == {"too_large": 1}
    assert len(rig.recorder.messages) == 2
    await rig.stop()


@by_hand
async def test_an_oversized_message_in_small_fragments_closes_with_1009(rig: Rig) -> None:
    await rig.start(max_message_bytes=1000)
    rig.peer.send(b"x" * 600, fin=False)
    rig.peer.send(b"x" * 600, WSMsgType.CONTINUATION, fin=False)
    await rig.waiting()
    assert rig.peer.close_code == 1009
    assert rig.client.stats.errors == {"too_large": 1}
    await rig.stop()


@by_hand
async def test_an_abrupt_end_is_1006_and_the_subscriptions_are_sent_again(rig: Rig) -> None:
    await rig.start()
    await rig.prove()
    rig.peer.abort()
    delay_s = await rig.waiting()
    assert 0 <= delay_s <= 0.5
    assert rig.recorder.reasons == ["abnormal 1006"]
    assert rig.client.stats.errors == {"abnormal": 1}
    rig.loop.advance(delay_s)
    await rig.reconnected(2)
    await until(lambda: rig.peer.messages)
    assert rig.peer.messages == [b'{"op":"subscribe"}']
    assert rig.client.reconnects == 1
    await rig.stop()


@by_hand
async def test_close_1008_waits_longer(rig: Rig) -> None:
    await rig.start()
    await rig.prove()
    rig.peer.close(1008, b"Too many requests")
    assert 10.0 <= await rig.waiting() <= 10.5
    assert rig.recorder.reasons == ["policy 1008 Too many requests"]
    await rig.stop()


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "closed 1000"), (1012, "closed 1012"), (4000, "closed 4000")]
)
def test_other_close_codes_wait_the_ordinary_time(code: int, reason: str) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        await rig.start()
        await rig.prove()
        rig.peer.close(code)
        assert await rig.waiting() <= 0.5
        assert rig.recorder.reasons == [reason]
        await rig.stop()

    test()


@by_hand
async def test_a_connection_that_only_acknowledges_does_not_reset_the_backoff(rig: Rig) -> None:
    await rig.start(backoff=Backoff(base_s=1.0, cap_s=64.0), max_retries=4)
    for attempt in range(1, 5):
        await rig.reconnected(attempt)
        await until(lambda: rig.peer.messages)
        await rig.deliver(b'{"result":null,"id":1}')
        rig.peer.abort()
        rig.loop.advance(await rig.waiting())
    await rig.reconnected(5)
    rig.peer.abort()
    with pytest.raises(ConnectionLostError) as caught:
        await rig.running
    assert caught.value.fields["retries"] == 4
    assert rig.client.stats.connects == 5
    await rig.venue.stop()


@by_hand
async def test_data_resets_the_retries(rig: Rig) -> None:
    await rig.start(max_retries=1)
    for attempt in range(1, 6):
        await rig.reconnected(attempt)
        await until(lambda: rig.peer.messages)
        await rig.prove()
        rig.peer.abort()
        rig.loop.advance(await rig.waiting())
    await rig.reconnected(6)
    await rig.stop()


@by_hand
async def test_refused_connections_end_at_max_retries(rig: Rig) -> None:
    await rig.venue.start()
    await rig.venue.stop()
    await rig.start(connected=False, max_retries=2)
    for _ in range(2):
        rig.loop.advance(await rig.waiting())
        await settle()
    with pytest.raises(ConnectionLostError):
        await rig.running
    assert rig.client.stats.errors == {"connect_failed": 3}
    assert rig.recorder.connected == 0
    assert rig.recorder.reasons == []


@by_hand
async def test_a_server_that_restarts_is_found_again(rig: Rig) -> None:
    await rig.start()
    await rig.prove()
    await rig.venue.stop()
    rig.loop.advance(await rig.waiting())
    await until(lambda: "connect_failed" in rig.client.stats.errors)
    await rig.venue.start()
    rig.loop.advance(await rig.waiting())
    await rig.reconnected(2)
    await rig.deliver()
    await rig.stop()


@pytest.mark.parametrize(
    ("status", "headers", "kind", "least_s"),
    [
        (429, {"Retry-After": "37"}, "rate_limited", 37.0),
        (429, {}, "rate_limited", 10.0),
        (418, {}, "banned", 120.0),
        (403, {"Retry-After": "soon"}, "banned", 120.0),
        (503, {}, "handshake_refused", 0.0),
    ],
)
def test_a_refused_handshake_is_classified(
    status: int, headers: dict[str, str], kind: str, least_s: float
) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        rig.venue.refuse_with = WSUpgradeResponse.create_error_response(status, b"", headers)
        await rig.start(connected=False)
        assert least_s <= await rig.waiting() <= least_s + 0.5
        assert rig.client.stats.errors == {kind: 1}
        rig.venue.refuse_with = None
        rig.loop.advance(least_s + 0.5)
        await rig.reconnected(1)
        await rig.stop()

    test()


@by_hand
async def test_a_handshake_that_never_ends_times_out(rig: Rig) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
    rig.venue.port = server.sockets[0].getsockname()[1]
    await rig.start(connected=False, connect_timeout_s=10.0)
    await until(lambda: accepted)
    rig.loop.advance(9.9)
    await settle()
    assert rig.client.stats.errors == {}
    rig.loop.advance(0.2)
    await until(lambda: rig.client.stats.errors)
    assert rig.client.stats.errors == {"connect_timeout": 1}
    await rig.client.close()
    await rig.running
    accepted[0].close()
    server.close()


@by_hand
async def test_a_connection_ends_before_the_venue_cuts_and_comes_back_at_once(rig: Rig) -> None:
    await rig.start(policy(lifetime_s=100.0))
    await rig.prove()
    age_s = rig.loop.waits_s()[0]
    assert 75.0 <= age_s <= 97.0
    rig.loop.advance(age_s)
    await rig.reconnected(2)
    assert rig.venue.peers[0].close_code == 1000
    assert rig.recorder.reasons == ["lifetime"]
    assert rig.client.stats.errors == {}
    await rig.stop()


@by_hand
async def test_a_scheduled_end_without_data_backs_off(rig: Rig) -> None:
    await rig.start(policy(lifetime_s=1.0))
    rig.loop.advance(1.0)
    assert await rig.waiting() > 0
    assert rig.recorder.reasons == ["lifetime"]
    await rig.stop()


@by_hand
async def test_protocol_pings_go_out_and_a_missing_pong_reconnects(rig: Rig) -> None:
    await rig.venue.start(enable_auto_pong=False)
    await rig.start(policy(ping_interval_s=20.0, pong_timeout_s=10.0))
    await rig.prove()
    rig.loop.advance(20)
    await until(lambda: rig.peer.pings == 1)
    rig.peer.transport.send_pong(b"")
    await rig.deliver()
    rig.loop.advance(20)
    await until(lambda: rig.peer.pings == 2)
    rig.loop.advance(9.9)
    await rig.deliver()  # data is no pong
    assert rig.recorder.reasons == []
    rig.loop.advance(0.2)
    await until(lambda: rig.recorder.reasons)
    assert rig.recorder.reasons == ["no_pong"]
    assert rig.peer.close_code in {None, 1001}
    await rig.stop()


@pytest.mark.parametrize(
    "pong",
    [
        b'{"success":true,"ret_msg":"pong","conn_id":"465772b1-7630-4fdc-a492-e003e6f0f260","op":"ping"}',
        b'{"success":true,"ret_msg":"pong","conn_id":"' + b"9" * 90 + b'","req_id":"","op":"ping"}',
        b'{"req_id":"","op":"pong","args":["1675418560633"],"conn_id":"cfcb4ocsvfriu23r3er0-1b"}',
    ],
)
def test_application_pings_are_answered_by_the_venues_pongs(pong: bytes) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        await rig.start(policy(ping_message=b'{"op":"ping"}', ping_interval_s=20.0))
        for _ in range(3):
            rig.peer.messages.clear()
            rig.loop.advance(20)
            await until(lambda: rig.peer.messages)
            assert rig.peer.messages[-1] == b'{"op":"ping"}'
            await rig.deliver(pong)
            await rig.deliver(BIG)
        rig.loop.advance(19)
        await settle()
        assert rig.recorder.reasons == []
        await rig.stop()

    test()


@by_hand
async def test_an_unanswered_application_ping_reconnects(rig: Rig) -> None:
    await rig.start(policy(ping_message=b'{"op":"ping"}', ping_interval_s=20.0, pong_timeout_s=5.0))
    rig.loop.advance(20)
    await until(lambda: b'{"op":"ping"}' in rig.peer.messages)
    await rig.deliver(BIG)
    rig.loop.advance(5)
    await until(lambda: rig.recorder.reasons)
    assert rig.client.stats.errors == {"no_pong": 1}
    await rig.stop()


@by_hand
async def test_server_pings_are_ponged(rig: Rig) -> None:
    await rig.start()
    assert len(await _round_trips(rig)) == 3
    await rig.stop()


async def _round_trips(rig: Rig) -> list[float]:
    measuring = asyncio.create_task(rig.peer.transport.measure_roundtrip_time(3))
    await until(measuring.done)
    return await measuring


@by_hand
async def test_subscriptions_are_paced(rig: Rig) -> None:
    rig.recorder.greetings = [b"%d" % number for number in range(10)]
    await rig.start(policy(messages_per_second=5))  # four a window: one is kept for a pong
    await until(lambda: len(rig.peer.messages) == 4)
    await settle()
    assert len(rig.peer.messages) == 4
    rig.client.send(b"late")
    rig.loop.advance(1.1)
    await until(lambda: len(rig.peer.messages) == 8)
    rig.loop.advance(1.1)
    await until(lambda: len(rig.peer.messages) == 11)
    assert rig.peer.messages == [*rig.recorder.greetings, b"late"]
    await rig.stop()


@by_hand
async def test_the_send_queue_is_bounded_and_drops_with_a_count(rig: Rig) -> None:
    rig.recorder.greetings = []
    await rig.start(policy(messages_per_second=1))
    for number in range(MAX_QUEUED_SENDS + 5):
        rig.client.send(b"%d" % number)
    assert rig.client.stats.errors == {"send_queue_full": 5}
    await rig.stop()
    rig.client.send(b"too late")
    assert rig.client.stats.errors["send_while_disconnected"] == 1


@by_hand
async def test_reconnect_on_request(rig: Rig) -> None:
    await rig.start()
    await rig.prove()
    rig.client.reconnect("silence")
    rig.peer.send(BIG)  # arrives after the end: not delivered
    rig.loop.advance(await rig.waiting())
    await rig.reconnected(2)
    assert rig.recorder.reasons == ["requested silence"]
    assert len(rig.recorder.messages) == 2
    await rig.stop()


@by_hand
async def test_closing_twice_while_connecting(rig: Rig) -> None:
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
    rig.venue.port = server.sockets[0].getsockname()[1]
    await rig.start(connected=False)
    await until(lambda: accepted)
    closings = [asyncio.create_task(rig.client.close())]
    for _ in range(5):
        await settle(1)
        closings.append(asyncio.create_task(rig.client.close()))
    await asyncio.gather(*closings, rig.running)
    assert rig.client.stats.errors == {}
    accepted[0].close()
    server.close()


@by_hand
async def test_a_mute_peer_does_not_hold_up_the_end(rig: Rig) -> None:
    await rig.start(close_timeout_s=1.0)
    rig.peer.answers_close = False
    closing = asyncio.create_task(rig.client.close())
    await until(lambda: rig.peer.close_code)
    await settle()
    assert not closing.done()
    rig.loop.advance(1.0)
    await closing
    await rig.running
    await until(lambda: rig.peer.gone)
    await rig.venue.stop()


@pytest.mark.parametrize("where", ["connected", "message", "disconnected"])
def test_a_listener_that_raises_stops_the_client_loudly(where: str) -> None:
    @by_hand
    async def test(rig: Rig) -> None:
        rig.recorder.raise_on[where] = ValueError("a bug")
        await rig.start(connected=False)
        await until(lambda: rig.venue.peers and rig.recorder.connected)
        rig.peer.send(BIG)
        rig.peer.send(BIG)
        if where == "disconnected":
            rig.peer.abort()
        with pytest.raises(ValueError, match="a bug"):
            await rig.running
        await until(lambda: rig.peer.gone)
        assert rig.recorder.connected == 1
        assert len(rig.recorder.reasons) == 1
        if where == "message":
            assert rig.client.stats.messages == 1
            assert rig.client.stats.errors == {"listener_failed": 1}
        await rig.venue.stop()

    test()


@by_hand
async def test_connections_to_one_host_take_turns(rig: Rig) -> None:
    await rig.venue.start()
    connect = WebSocketFactory(LoopClock(rig.loop), dice())
    bucket = connect(plan(rig.venue.url), policy(), rig.recorder)._connect_bucket
    bucket.take(bucket.burst, round(rig.loop.time() * 1e9))
    client = connect(plan(rig.venue.url), policy(), rig.recorder)
    running = asyncio.create_task(client.run())
    await until(rig.loop.waits_s)
    wait_s = rig.loop.waits_s()[0]
    assert wait_s == pytest.approx(300 / 135, rel=1e-6)
    assert rig.venue.peers == []
    rig.loop.advance(wait_s)
    await rig.reconnected(1)
    await client.close()
    await running
    await rig.venue.stop()


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "127.0.0.1"])
def test_an_address_that_is_no_websocket_is_refused_at_once(url: str) -> None:
    connect: StreamClientFactory = WebSocketFactory(SystemClock(), dice())
    with pytest.raises(ConfigurationError):
        connect(plan(url), policy(), Recorder())


def _loops() -> list[Any]:
    import uvloop

    return [
        pytest.param(asyncio.SelectorEventLoop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ]


@pytest.mark.parametrize("loop_factory", _loops())
@pytest.mark.parametrize("how", ["cancel", "close"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 25])
def test_stopping_at_any_step_leaves_nothing(loop_factory: Any, how: str, steps: int) -> None:
    async def test(_loop: asyncio.AbstractEventLoop) -> None:
        venue, recorder = Venue(), Recorder()
        await venue.start()
        client = WebSocketFactory(SystemClock(), dice())(plan(venue.url), policy(), recorder)
        running = asyncio.create_task(client.run())
        await settle(steps)
        if how == "cancel":
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        else:
            await client.close()
            await running
        assert len(recorder.reasons) == recorder.connected
        await until(lambda: all(peer.gone for peer in venue.peers))
        await venue.stop()

    run_on(loop_factory, test)


@pytest.mark.parametrize("loop_factory", _loops())
def test_cancelling_a_stuck_handshake_drops_the_socket(loop_factory: Any) -> None:
    async def test(_loop: asyncio.AbstractEventLoop) -> None:
        ended = asyncio.Event()
        begun = asyncio.Event()

        async def never_upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            begun.set()
            while await reader.read(4096):
                pass
            writer.close()
            ended.set()

        server = await asyncio.start_server(never_upgrade, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        client = WebSocketFactory(SystemClock(), dice())(plan(url), policy(), Recorder())
        running = asyncio.create_task(client.run())
        await begun.wait()
        await settle()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await ended.wait()
        server.close()

    run_on(loop_factory, test)


@pytest.mark.parametrize("loop_factory", _loops())
def test_cancelling_while_waiting_or_serving(loop_factory: Any) -> None:
    async def test(_loop: asyncio.AbstractEventLoop) -> None:
        venue, recorder = Venue(), Recorder()
        await venue.start()
        settings = WebSocketSettings(backoff=Backoff(base_s=1e6, cap_s=1e6))
        client = WebSocketFactory(SystemClock(), dice(), settings)(
            plan(venue.url), policy(lifetime_s=math.inf, ping_interval_s=20), recorder
        )
        for phase in ("serving", "waiting"):
            running = asyncio.create_task(client.run())
            await until(lambda: recorder.connected > len(recorder.reasons) and venue.peers)
            if phase == "waiting":
                venue.peers[-1].abort()
                await until(lambda: "abnormal" in client.stats.errors)
                await settle()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert len(recorder.reasons) == recorder.connected
            await until(lambda: all(peer.gone for peer in venue.peers))
        await venue.stop()

    run_on(loop_factory, test)


@pytest.mark.parametrize("loop_factory", _loops())
def test_certificates_are_verified(loop_factory: Any, tmp_path: Path) -> None:
    certificate, key = _self_signed(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)

    async def test(_loop: asyncio.AbstractEventLoop) -> None:
        venue, recorder = Venue(), Recorder()
        await venue.start(ssl=served)
        address = plan(venue.url.replace("ws://127.0.0.1", "wss://localhost"))
        doubting = WebSocketFactory(SystemClock(), dice(), WebSocketSettings(max_retries=0))
        with pytest.raises(ConnectionLostError, match="CERTIFICATE_VERIFY_FAILED"):
            await doubting(address, policy(), recorder).run()
        assert recorder.connected == 0

        trusting = WebSocketSettings(ssl_context=ssl.create_default_context(cafile=certificate))
        client = WebSocketFactory(SystemClock(), dice(), trusting)(address, policy(), recorder)
        running = asyncio.create_task(client.run())
        await until(lambda: recorder.connected)
        venue.peers[-1].send(BIG)
        await until(lambda: recorder.messages == [BIG])
        await client.close()
        await running
        await venue.stop()

    run_on(loop_factory, test, expected_problem="SSL handshake failed")


def _self_signed(folder: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
