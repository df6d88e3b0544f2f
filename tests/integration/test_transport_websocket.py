"""What the reconnecting client delivers and sends, against a real server on loopback."""

from __future__ import annotations

import asyncio

import pytest
from picows import WSMsgType

from bookrunner.core.clock import SystemClock
from bookrunner.core.errors import ConfigurationError
from bookrunner.engine.ports.transport import StreamClientFactory
from bookrunner.venues.transport.session import MAX_QUEUED_SENDS
from bookrunner.venues.transport.websocket import WebSocketFactory
from transport_rig import Recorder, dice, plan, policy, settle, until
from websocket_rig import BIG, Rig, by_hand


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


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "127.0.0.1"])
def test_an_address_that_is_no_websocket_is_refused_at_once(url: str) -> None:
    connect: StreamClientFactory = WebSocketFactory(SystemClock(), dice())
    with pytest.raises(ConfigurationError):
        connect(plan(url), policy(), Recorder())
