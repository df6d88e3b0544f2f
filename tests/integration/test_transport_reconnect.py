"""When and how the client comes back: closes, refusals, backoff, lifetimes, pings without an answer."""

from __future__ import annotations

import asyncio

import pytest
from picows import WSUpgradeResponse

from bookrunner.core.errors import ConnectionLostError
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.websocket import WebSocketFactory
from transport_rig import LoopClock, dice, plan, policy, settle, until
from websocket_rig import BIG, Rig, by_hand


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
