"""However and whenever the client is stopped, its sockets and tasks are gone."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from bookrunner.core.clock import SystemClock
from bookrunner.venues.transport.backoff import Backoff
from bookrunner.venues.transport.websocket import WebSocketFactory, WebSocketSettings
from transport_rig import Recorder, Venue, dice, plan, policy, run_on, settle, until
from websocket_rig import BIG, Rig, by_hand, loops


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


@pytest.mark.parametrize("loop_factory", loops())
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


@pytest.mark.parametrize("loop_factory", loops())
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


@pytest.mark.parametrize("loop_factory", loops())
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
