"""REST as a plain client sees it: the venues' paths, and the simulator's own."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bookrunner.core.clock import NANOSECONDS_PER_SECOND as SECOND
from simulated_scene import (
    LINEAR,
    SPOT,
    USDM,
    NaiveBook,
    Scene,
    scene,
    synthetic,
)

MARKETS = (f"{USDM}:BTCUSDT", f"{USDM}:ETHUSDT", f"{SPOT}:BTCUSDT", f"{LINEAR}:BTCUSDT", "bybit_spot:BTCUSDT")


async def get(stage: Scene, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
        return await client.get(path)


async def post(stage: Scene, path: str, body: object = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
        return await client.post(path, json=body)


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
