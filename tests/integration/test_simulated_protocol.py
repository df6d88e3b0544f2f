"""The wire as a plain client sees it: endpoints, control messages, limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bookrunner.core.clock import NANOSECONDS_PER_SECOND as SECOND
from bookrunner.venues.simulated.source_recorded import RecordedSource, sample
from simulated_scene import (
    LINEAR,
    SPOT,
    USDM,
    USDM_DEPTH,
    NaiveBook,
    Scene,
    Wire,
    scene,
    synthetic,
    tiny_recording,
)

MARKETS = (f"{USDM}:BTCUSDT", f"{USDM}:ETHUSDT", f"{SPOT}:BTCUSDT", f"{LINEAR}:BTCUSDT", "bybit_spot:BTCUSDT")


def subscribe(*names: str, request_id: int = 1) -> dict[str, Any]:
    return {"method": "SUBSCRIBE", "params": list(names), "id": request_id}


def topics(*names: str) -> dict[str, Any]:
    return {"op": "subscribe", "args": list(names), "req_id": "r"}


async def get(stage: Scene, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
        return await client.get(path)


async def post(stage: Scene, path: str, body: object = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
        return await client.post(path, json=body)


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


# --- REST -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "venue", "weight"),
    [("/fapi/v1/depth?limit=1000&", USDM, 20), ("/api/v3/depth?limit=5000&", SPOT, 250)],
)
async def test_a_snapshot_is_the_truth_at_any_moment(path: str, venue: str, weight: int) -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        for _ in range(3):
            stage.simulator.emit(77)
            answer = await get(stage, path + "symbol=BTCUSDT")
            body, book = answer.json(), NaiveBook()
            book.replace(body["bids"], body["asks"], body["lastUpdateId"])
            assert book.equals(stage.simulator.truth(venue, "BTCUSDT"))
        assert answer.headers["x-mbx-used-weight-1m"] == str(3 * weight)


async def test_exchange_info_names_the_grid() -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        symbols = (await get(stage, "/fapi/v1/exchangeInfo")).json()["symbols"]
        assert [entry["symbol"] for entry in symbols] == ["BTCUSDT", "ETHUSDT"]
        filters = {entry["filterType"]: entry for entry in symbols[0]["filters"]}
        assert filters["PRICE_FILTER"]["tickSize"] == "0.10"
        assert filters["LOT_SIZE"]["stepSize"] == "0.001"
        assert (symbols[0]["baseAsset"], symbols[0]["quoteAsset"]) == ("BTC", "USDT")


async def test_instruments_come_in_pages() -> None:
    async with scene(synthetic(*(f"{LINEAR}:{name}USDT" for name in ("AA", "BB", "CC")))) as stage:
        path, found = "/v5/market/instruments-info?category=linear&limit=2", list[str]()
        cursor = ""
        while True:
            result = (await get(stage, path + f"&cursor={cursor}")).json()["result"]
            found += [entry["symbol"] for entry in result["list"]]
            cursor = result["nextPageCursor"]
            if not cursor:
                break
        assert found == ["AAUSDT", "BBUSDT", "CCUSDT"]


async def test_bybit_books_times_and_candles_over_rest() -> None:
    async with scene(synthetic(f"{LINEAR}:BTCUSDT", f"{USDM}:BTCUSDT")) as stage:
        stage.simulator.emit(20_000)
        result = (await get(stage, "/v5/market/orderbook?category=linear&symbol=BTCUSDT&limit=200")).json()
        book = NaiveBook()
        book.replace(result["result"]["b"], result["result"]["a"], result["result"]["u"])
        assert book.equals(stage.simulator.truth(LINEAR, "BTCUSDT"))
        rows = (await get(stage, "/v5/market/kline?category=linear&symbol=BTCUSDT")).json()["result"]["list"]
        assert [int(row[0]) for row in rows] == sorted((int(row[0]) for row in rows), reverse=True)
        candles = (await get(stage, "/fapi/v1/klines?symbol=BTCUSDT&limit=3")).json()
        assert len(candles) == 3
        assert (await get(stage, "/v5/market/time")).json()["result"]["timeSecond"] == "1700000000"
        assert (await get(stage, "/fapi/v1/time")).json() == {"serverTime": 1_700_000_000_000}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fapi/v1/depth?symbol=NOSUCH", 400, -1121),
        ("/fapi/v1/depth", 400, -1102),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=7", 400, -4021),
        ("/api/v3/depth?symbol=BTCUSDT&limit=x", 400, -1130),
        ("/fapi/v1/nothing", 404, -1),
        ("/nothing", 404, -1),
    ],
)
async def test_binance_refuses_in_its_own_words(path: str, status: int, code: int) -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        answer = await get(stage, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "query", ["category=option", "category=linear&symbol=NOSUCH", "category=linear&symbol=BTCUSDT&limit=x"]
)
async def test_bybit_refuses_with_http_200(query: str) -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        answer = await get(stage, "/v5/market/orderbook?" + query)
        assert answer.status_code == 200
        assert answer.json()["retCode"] != 0


async def test_the_weight_of_a_minute_runs_out() -> None:
    path = "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    async with (
        scene(synthetic(*MARKETS)) as stage,
        httpx.AsyncClient(base_url=stage.simulator.rest_url) as client,
    ):
        statuses = [(await client.get(path)).status_code for _ in range(125)]
        assert statuses == [200] * 120 + [429] * 3 + [418] * 2
        answer = await client.get(path)
        assert int(answer.headers["retry-after"]) == 120
        stage.clock.advance(121 * SECOND)
        assert (await client.get(path)).status_code == 200


async def test_bytes_that_are_not_http_are_refused() -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        host, port = stage.simulator.rest_url.removeprefix("http://").split(":")
        for garbage in (b"\x00\xff\r\n\r\n", b"GET /" + b"x" * 70_000):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.split()[1] in (b"400", b"413")
            writer.close()
        assert (await get(stage, "/fapi/v1/time")).status_code == 200


# --- the simulator's own --------------------------------------------------------------------------------


async def test_control_over_http() -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        assert (await post(stage, "/simulator/emit?count=10")).json() == {"emitted": 10}
        truth = (await get(stage, f"/simulator/truth?venue={USDM}&symbol=BTCUSDT")).json()
        book = NaiveBook()
        book.replace(truth["bids"], truth["asks"], truth["last_update_id"])
        assert book.equals(stage.simulator.truth(USDM, "BTCUSDT"))
        assert (await get(stage, "/simulator/status")).json()["paused"] is True
        await post(stage, "/simulator/resume")
        assert (await get(stage, "/simulator/status")).json()["paused"] is False
        await post(stage, "/simulator/pause")
        armed = await post(stage, "/simulator/faults", ["dropped:after=3", {"fault": "mute_socket"}])
        assert [fault["fault"] for fault in armed.json()["armed"]] == ["dropped", "mute_socket"]
        assert [fault.fault for fault in stage.simulator.plan.armed] == ["dropped", "mute_socket"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/simulator/truth?venue=x&symbol=y", None, 404),
        ("POST", "/simulator/faults", {"fault": "nosuch"}, 400),
        ("POST", "/simulator/emit?count=-1", None, 400),
        ("GET", "/simulator/nothing", None, 400),
        ("POST", "/fapi/v1/depth", None, 405),
    ],
)
async def test_wrong_control_is_refused(method: str, path: str, body: object, status: int) -> None:
    async with scene(synthetic(*MARKETS)) as stage:
        async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
            answer = await client.request(method, path, json=body)
        assert answer.status_code == status
        assert "Traceback" not in answer.text


async def test_two_runs_of_one_seed_send_the_same_bytes() -> None:
    async def heard() -> list[bytes]:
        async with scene(synthetic(*MARKETS)) as stage:
            names = "btcusdt@depth@100ms/ethusdt@depth@100ms/btcusdt@bookTicker"
            async with stage.client("/public/stream?streams=" + names) as wire:
                return await wire.emitted(1_000)

    first = await heard()
    assert first == await heard()
    assert len(first) > 100


# --- the packaged recording -----------------------------------------------------------------------------


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
