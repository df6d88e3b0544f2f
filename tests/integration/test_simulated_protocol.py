"""The wire as a plain client sees it: endpoints, control messages, limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.exceptions import InvalidStatus

from bookrunner.core.clock import NANOSECONDS_PER_SECOND as SECOND
from simulated_scene import (
    LINEAR,
    SPOT,
    USDM,
    USDM_DEPTH,
    NaiveBook,
    scene,
    synthetic,
)

MARKETS = (f"{USDM}:BTCUSDT", f"{USDM}:ETHUSDT", f"{SPOT}:BTCUSDT", f"{LINEAR}:BTCUSDT", "bybit_spot:BTCUSDT")


def subscribe(*names: str, request_id: int = 1) -> dict[str, Any]:
    return {"method": "SUBSCRIBE", "params": list(names), "id": request_id}


def topics(*names: str) -> dict[str, Any]:
    return {"op": "subscribe", "args": list(names), "req_id": "r"}


def stream_names(messages: list[bytes]) -> set[str]:
    return {json.loads(message)["stream"] for message in messages}


# --- Binance, WebSocket ---------------------------------------------------------------------------------


async def test_combined_streams_are_wrapped_in_the_names_that_the_client_used() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client(USDM_DEPTH + "/ethusdt@bookTicker") as wire:
        messages = await wire.emitted(200)
        assert stream_names(messages) == {"btcusdt@depth@100ms", "ethusdt@bookTicker"}
        data = json.loads(messages[0])["data"]
        assert data["e"] in ("depthUpdate", "bookTicker")


async def test_raw_streams_are_bare() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/public/ws/btcusdt@depth") as wire:
        data = json.loads((await wire.emitted(50))[0])
        assert (data["e"], data["s"], data["st"]) == ("depthUpdate", "BTCUSDT", 1)


async def test_live_subscription_acks_lists_and_ends() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/public/stream") as wire:
        assert await wire.ask(subscribe("btcusdt@depth@100ms", request_id=7)) == {"result": None, "id": 7}
        assert await wire.ask({"method": "LIST_SUBSCRIPTIONS", "id": 3}) == {
            "result": ["btcusdt@depth@100ms"],
            "id": 3,
        }
        assert await wire.emitted(50)
        ended = {"method": "UNSUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 8}
        assert await wire.ask(ended) == {"result": None, "id": 8}
        assert await wire.emitted(50) == []


async def test_the_combined_property_is_read_and_set() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/public/ws/btcusdt@depth") as wire:
        assert (await wire.ask({"method": "GET_PROPERTY", "params": ["combined"], "id": 1}))[
            "result"
        ] is False
        await wire.ask({"method": "SET_PROPERTY", "params": ["combined", True], "id": 2})
        assert stream_names(await wire.emitted(50)) == {"btcusdt@depth"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 3),
        ('{"method":5,"id":1}', 2),
        ({"method": "DANCE", "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": [], "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": [7], "id": 1}, 2),
        ({"method": "SET_PROPERTY", "params": ["colour", 1], "id": 1}, 0),
        ({"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}, 1),
        (subscribe(*(f"x{number}usdt@depth" for number in range(1_025))), 2),
    ],
)
async def test_a_wrong_request_gets_the_venues_error(message: object, code: int) -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/public/stream") as wire:
        assert (await wire.ask(message))["code"] == code
        assert await wire.ask({"method": "LIST_SUBSCRIPTIONS", "id": 3}) == {"result": [], "id": 3}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/market/stream", ["btcusdt@depth@100ms", "btcusdt@bookTicker"]),
        ("/public/stream", ["btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@markPrice@1s"]),
        ("/binance_usdm/stream", ["btcusdt@aggTrade"]),
        ("/public/stream", ["btcusdt@depth@1000ms", "BTCUSDT@depth", "nosuch@depth", "btcusdt@nothing"]),
    ],
)
async def test_a_wrong_route_or_stream_is_acknowledged_and_silent(path: str, names: list[str]) -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client(path) as wire:
        assert await wire.ask(subscribe(*names)) == {"result": None, "id": 1}
        assert await wire.emitted(600) == []


async def test_the_market_route_carries_trades_candles_and_mark_prices() -> None:
    names = ("btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@markPrice@1s")
    async with scene(synthetic(*MARKETS)) as stage:
        async with stage.client("/market/stream?streams=" + "/".join(names)) as wire:
            messages = await wire.emitted(1_500)
        assert stream_names(messages) == set(names)
        events = {json.loads(message)["data"]["e"] for message in messages}
        assert events == {"aggTrade", "kline", "markPriceUpdate"}


async def test_partial_books_are_the_top_of_the_truth() -> None:
    async with (
        scene(synthetic(*MARKETS)) as stage,
        stage.client("/public/stream?streams=btcusdt@depth5") as futures,
        stage.client("/stream?streams=btcusdt@depth10@100ms") as spot,
    ):
        data = json.loads((await futures.emitted(200))[-1])["data"]
        bids, asks, last = stage.simulator.truth(USDM, "BTCUSDT")
        assert (data["u"], len(data["b"]), len(data["a"])) == (last, 5, 5)
        assert [price for price, _ in data["b"]] == [f"{price:f}" for price in list(bids)[:5]]
        assert [price for price, _ in data["a"]] == [f"{price:f}" for price in list(asks)[:5]]
        spot_data = json.loads((await spot.collect())[-1])["data"]
        assert spot_data.keys() == {"lastUpdateId", "bids", "asks"}


async def test_spot_frames_have_spots_own_shapes() -> None:
    names = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/stream?streams=" + names) as wire:
        found = {json.loads(m)["stream"]: json.loads(m)["data"] for m in await wire.emitted(600)}
    assert found["btcusdt@depth@100ms"].keys() == {"e", "E", "s", "U", "u", "b", "a"}
    assert found["btcusdt@bookTicker"].keys() == {"u", "s", "b", "B", "a", "A"}
    assert found["btcusdt@trade"]["M"] is True


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/public/", "/v5/public/option", "/v5/private", "/private/ws"]
)
async def test_an_unknown_endpoint_is_refused(path: str) -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        with pytest.raises(InvalidStatus):
            async with stage.client(path):
                pass


async def test_too_many_messages_in_a_second_close_with_1008() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/public/stream") as wire:
        for number in range(11):
            await wire.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        assert await wire.closed() == 1008


async def test_pings_of_the_client_are_answered_and_counted() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/stream") as wire:
        waiter = await wire.connection.ping(b"hello")
        await asyncio.wait_for(waiter, 5)
        for _ in range(5):
            await wire.connection.ping()
        assert await wire.closed() == 1008


class Pinged(WSListener):
    """Resolves with the payload of the first ping."""

    def __init__(self) -> None:
        super().__init__()
        self.payload: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        del transport
        if frame.msg_type == WSMsgType.PING and not self.payload.done():
            self.payload.set_result(frame.get_payload_as_bytes())


async def test_the_server_pings_every_three_minutes() -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        listener = Pinged()
        url = stage.simulator.websocket_url + USDM_DEPTH
        transport, _ = await ws_connect(lambda: listener, url, enable_auto_pong=False)
        stage.clock.advance(179 * SECOND)
        stage.simulator.keep_time()
        stage.simulator.emit(10)
        await transport.measure_roundtrip_time(1)
        assert not listener.payload.done()
        stage.clock.advance(2 * SECOND)
        stage.simulator.keep_time()
        assert (await asyncio.wait_for(listener.payload, 5)).isdigit()
        transport.disconnect()


async def test_the_venue_cuts_at_24_hours_without_a_close_frame() -> None:
    async with scene(synthetic(*MARKETS), time_scale=100.0) as stage, stage.client(USDM_DEPTH) as wire:
        for _ in range(170):  # by the scaled clock 500 s each, so that the client is never silent for long
            stage.clock.advance(5 * SECOND)
            await asyncio.wait_for(await wire.connection.ping(), 5)
            stage.simulator.keep_time()
        stage.clock.advance(15 * SECOND)
        stage.simulator.keep_time()
        assert await wire.closed() == 1006


async def test_a_client_that_never_answers_is_cut() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/v5/public/linear") as wire:
        stage.clock.advance(601 * SECOND)
        stage.simulator.keep_time()
        assert await wire.closed() == 1006


# --- Bybit, WebSocket -----------------------------------------------------------------------------------


async def test_bybit_acks_then_sends_the_snapshot_then_deltas() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/v5/public/linear") as wire:
        ack = await wire.ask(topics("orderbook.50.BTCUSDT"))
        assert (ack["success"], ack["ret_msg"], ack["req_id"], ack["op"]) == (True, "", "r", "subscribe")
        snapshot = await wire.next()
        assert (snapshot["topic"], snapshot["type"]) == ("orderbook.50.BTCUSDT", "snapshot")
        book = NaiveBook()
        book.replace(snapshot["data"]["b"], snapshot["data"]["a"], snapshot["data"]["u"])
        for message in await wire.emitted(500):
            delta = json.loads(message)
            assert (delta["type"], delta["data"]["u"]) == ("delta", book.last + 1)
            book.apply(delta["data"]["b"], delta["data"]["a"], delta["data"]["u"])
        assert book.equals(stage.simulator.truth(LINEAR, "BTCUSDT"))


@pytest.mark.parametrize(
    ("path", "keys", "text"),
    [
        ("linear", {"success", "ret_msg", "conn_id", "req_id", "op"}, ""),
        ("spot", {"success", "ret_msg", "conn_id", "op"}, "subscribe"),
    ],
)
async def test_pongs_and_acks_differ_by_product(path: str, keys: set[str], text: str) -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client(f"/v5/public/{path}") as wire:
        pong = await wire.ask({"op": "ping"})
        assert (pong.keys(), pong["ret_msg"], pong["op"]) == (keys, "pong", "ping")
        assert (await wire.ask(topics("publicTrade.BTCUSDT")))["ret_msg"] == text


@pytest.mark.parametrize(
    ("path", "names", "text"),
    [
        ("linear", ["orderbook.500.BTCUSDT"], "error:handler not found,topic:orderbook.500.BTCUSDT"),
        ("linear", ["orderbook.50.NOSUCH"], "error:handler not found,topic:orderbook.50.NOSUCH"),
        ("linear", ["publicTrade.BTCUSDT", "x"], "error:handler not found,topic:x"),
        ("linear", [], "error:no args"),
        ("spot", ["publicTrade.BTCUSDT"] * 11, "args size >10"),
    ],
)
async def test_one_bad_topic_fails_the_whole_request(path: str, names: list[str], text: str) -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client(f"/v5/public/{path}") as wire:
        answer = await wire.ask(topics(*names))
        assert (answer["success"], answer["ret_msg"]) == (False, text)
        assert await wire.emitted(300) == []


async def test_a_topic_twice_is_refused_until_it_is_given_up() -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/v5/public/linear") as wire:
        await wire.ask(topics("publicTrade.BTCUSDT"))
        answer = await wire.ask(topics("publicTrade.BTCUSDT"))
        assert answer["ret_msg"] == "error:already subscribed,topic:publicTrade.BTCUSDT"
        assert (await wire.ask({"op": "unsubscribe", "args": ["publicTrade.BTCUSDT"]}))["success"]
        assert await wire.emitted(300) == []
        assert (await wire.ask(topics("publicTrade.BTCUSDT")))["success"]


@pytest.mark.parametrize("message", ["{", "[]", '{"op":5}', '{"op":"dance"}'])
async def test_bybit_refuses_what_it_cannot_read(message: str) -> None:
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/v5/public/linear") as wire:
        assert (await wire.ask(message))["success"] is False


async def test_linear_tickers_are_a_snapshot_then_what_changed() -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        stage.simulator.emit(600)
        async with stage.client("/v5/public/linear") as wire:
            await wire.ask(topics("tickers.BTCUSDT"))
            state = (await wire.next())["data"]
            assert state.keys() >= {"bid1Price", "ask1Size", "markPrice", "fundingRate", "nextFundingTime"}
            for message in await wire.emitted(500):
                state |= json.loads(message)["data"]
            bids, asks, _ = stage.simulator.truth(LINEAR, "BTCUSDT")
            best = f"{next(iter(bids)):f}", f"{next(iter(asks)):f}"
            assert (state["bid1Price"], state["ask1Price"]) == best


async def test_the_other_bybit_topics_carry_data() -> None:
    names = ("publicTrade.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT", "orderbook.1.BTCUSDT")
    async with scene(synthetic(*MARKETS)) as stage, stage.client("/v5/public/spot") as wire:
        await wire.ask(topics(*names))
        messages = [json.loads(message) for message in await wire.emitted(2_000)]
        assert {message["topic"] for message in messages} == set(names)
        assert {message["type"] for message in messages} == {"snapshot"}
