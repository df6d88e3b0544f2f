"""Recordings replayed: as recorded, re-timed, over and over."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bookrunner.venues.simulated.server import Simulator
from bookrunner.venues.simulated.source_recorded import RecordedSource, sample
from simulated_scene import (
    USDM,
    USDM_DEPTH,
    NaiveBook,
    Scene,
    Wire,
    scene,
    tiny_recording,
)


async def get(stage: Scene, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
        return await client.get(path)


def stream_names(messages: list[bytes]) -> set[str]:
    return {json.loads(message)["stream"] for message in messages}


async def depth_book(stage: Scene, wire: Wire, events: int) -> NaiveBook:
    """Follow the venue's six steps, and check each message as it comes."""
    first = [json.loads(message)["data"] for message in await wire.emitted(events)]
    snapshot = (await get(stage, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000")).json()
    book = NaiveBook()
    book.replace(snapshot["bids"], snapshot["asks"], snapshot["lastUpdateId"])
    kept = [data for data in first if data["u"] >= book.last]
    assert kept[0]["U"] <= book.last <= kept[0]["u"]
    for number, data in enumerate(kept):
        assert number == 0 or data["pu"] == book.last
        book.apply(data["b"], data["a"], data["u"])
    return book


async def test_recorded_0ms_frames_answer_100ms_subscriptions_and_bridge_a_snapshot() -> None:
    async with scene(RecordedSource(sample())) as stage, stage.client(USDM_DEPTH) as wire:
        stage.simulator.emit(300)
        book = await depth_book(stage, wire, 300)
        for message in await wire.emitted(2_000):
            data = json.loads(message)["data"]
            assert data["pu"] == book.last
            assert abs(data["E"] - stage.simulator.market.now_ms()) <= 1_000
            book.apply(data["b"], data["a"], data["u"])
        bids, asks, last = stage.simulator.truth(USDM, "BTCUSDT")
        assert book.last == last
        # a snapshot of 1000 levels leaves the far ones unknown
        top = {side: sorted(levels)[-300:] for side, levels in (("b", book.sides["b"]), ("truth", bids))}
        assert top["b"] == top["truth"]
        assert sorted(book.sides["a"])[:300] == sorted(asks)[:300]


async def test_recorded_trades_answer_aggregate_subscriptions() -> None:
    async with scene(RecordedSource(sample())) as stage:
        async with stage.client("/market/ws/btcusdt@aggTrade") as wire:
            trades = [json.loads(message) for message in await wire.emitted(3_000)]
        assert all(trade["f"] == trade["l"] == trade["a"] for trade in trades)
        numbers = [trade["a"] for trade in trades]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_recording_without_candles_or_mark_prices_gets_them_from_its_trades() -> None:
    names = "btcusdt@kline_1m/btcusdt@markPrice@1s"
    async with (
        scene(RecordedSource(sample())) as stage,
        stage.client("/market/stream?streams=" + names) as wire,
    ):
        messages = await wire.emitted(3_000)
        assert stream_names(messages) == {"btcusdt@kline_1m", "btcusdt@markPrice@1s"}
        candle = json.loads(messages[0])["data"]["k"]
        assert float(candle["l"]) <= float(candle["o"]) <= float(candle["h"])


async def test_an_unpaced_recording_waits_for_a_reader_and_loses_nothing() -> None:
    source = RecordedSource([tiny_recording(updates=400)], speed=0.0)
    async with Simulator([source]) as simulator:
        began = simulator.market.events
        await asyncio.sleep(0)
        assert simulator.market.events == began
        async with connect(simulator.websocket_url + USDM_DEPTH, max_queue=4) as connection:
            ids = [json.loads(message)["data"]["u"] async for message in until_closed(connection)]
        assert ids == list(range(ids[0], ids[0] + 10 * len(ids), 10))
        assert len(ids) >= 290  # all but the prologue


async def until_closed(connection: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            yield message


async def test_a_paced_recording_keeps_its_times() -> None:
    source = RecordedSource([tiny_recording(updates=400)], speed=10.0)
    async with Simulator([source]) as simulator:
        async with connect(simulator.websocket_url + USDM_DEPTH) as connection:
            first = json.loads(await connection.recv())["data"]
            second = json.loads(await connection.recv())["data"]
        assert second["pu"] == first["u"]


async def test_the_end_of_the_recording_cuts_everyone_and_begins_again_above() -> None:
    async with scene(RecordedSource([tiny_recording(updates=300)])) as stage:
        chains = []
        for _ in range(3):
            async with stage.client(USDM_DEPTH) as wire:
                book = await depth_book(stage, wire, 20)
                chains.append(book.last)
                assert book.equals(stage.simulator.truth(USDM, "BTCUSDT"))
                while not wire.connection.close_code:
                    stage.simulator.emit(50)
                    stage.tick()
                    with contextlib.suppress(ConnectionClosed):
                        await wire.collect()
                assert await wire.closed() == 1006
        assert chains == sorted(set(chains))
