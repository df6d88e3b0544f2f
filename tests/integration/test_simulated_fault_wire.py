"""Each fault by its name, as a plain client sees it on the wire; the truth goes on unharmed."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bookrunner.venues.simulated.faults import FaultKind
from simulated_scene import LINEAR, SPOT, USDM, USDM_DEPTH, NaiveBook, Scene, scene, synthetic

MARKETS = (f"{USDM}:BTCUSDT", f"{USDM}:ETHUSDT", f"{SPOT}:BTCUSDT", f"{LINEAR}:BTCUSDT")
BOTH = USDM_DEPTH + "/ethusdt@depth@100ms"
LINEAR_BOOK = {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"], "req_id": "r"}
PATH = "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"


def data_of(messages: list[bytes], symbol: str = "btcusdt") -> list[dict[str, Any]]:
    frames = [json.loads(message) for message in messages]
    return [frame["data"] for frame in frames if frame["stream"].startswith(symbol)]


def breaks(chain: list[dict[str, Any]]) -> int:
    """How many messages do not follow the one before."""
    return sum(later["pu"] != earlier["u"] for earlier, later in pairwise(chain))


async def heard(*faults: str, path: str = BOTH, events: int = 400) -> list[bytes]:
    async with scene(synthetic(*MARKETS), faults=faults) as stage, stage.client(path) as wire:
        return await wire.emitted(events)


async def calm_and_faulted(fault: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """BTCUSDT's messages without and with a fault that strikes the sixth; ETHUSDT's are the same."""
    calm, faulted = await heard(), await heard(f"{fault}:symbol=BTCUSDT,after=5")
    assert data_of(calm, "ethusdt") == data_of(faulted, "ethusdt")
    assert breaks(data_of(faulted, "ethusdt")) == 0
    return data_of(calm), data_of(faulted)


async def test_dropped() -> None:
    calm, faulted = await calm_and_faulted("dropped")
    assert faulted == calm[:5] + calm[6:]
    assert (breaks(calm), breaks(faulted)) == (0, 1)


async def test_duplicated() -> None:
    calm, faulted = await calm_and_faulted("duplicated")
    assert faulted == calm[:6] + calm[5:]


async def test_reordered() -> None:
    calm, faulted = await calm_and_faulted("reordered")
    assert faulted == [*calm[:5], calm[6], calm[5], *calm[7:]]


async def test_delayed() -> None:
    calm, faulted = await calm_and_faulted("delayed")
    assert faulted == [*calm[:5], *calm[6:9], calm[5], *calm[9:]]


@pytest.mark.parametrize("fault", ["broken_previous_id", "broken_final_id"])
async def test_broken_ids(fault: str) -> None:
    calm, faulted = await calm_and_faulted(fault)
    assert len(calm) == len(faulted)
    assert breaks(faulted) == 1
    assert faulted[:5] + faulted[6:] == calm[:5] + calm[6:]


async def test_oversized() -> None:
    calm, faulted = await calm_and_faulted("oversized")
    assert calm == faulted
    longest = max(await heard("oversized:symbol=BTCUSDT"), key=len)
    assert len(longest) > 10_000_000


class Frames(WSListener):
    """Keeps every frame's type, finality and payload."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[WSMsgType, bool, bytes]] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        del transport
        self.frames.append((frame.msg_type, frame.fin, frame.get_payload_as_bytes()))


async def test_fragmented() -> None:
    calm, faulted = await calm_and_faulted("fragmented")
    assert calm == faulted
    async with scene(synthetic(*MARKETS), faults=["fragmented:after=2"]) as stage:
        listener = Frames()
        transport, _ = await ws_connect(lambda: listener, stage.simulator.websocket_url + USDM_DEPTH)
        await transport.measure_roundtrip_time(1)
        stage.simulator.emit(60)
        await transport.measure_roundtrip_time(1)
        transport.disconnect()
    shapes = [(kind, fin) for kind, fin, _ in listener.frames if kind != WSMsgType.PONG]
    text, rest = WSMsgType.TEXT, WSMsgType.CONTINUATION
    assert shapes[:6] == [(text, True)] * 2 + [(text, False), (rest, False), (rest, True), (text, True)]


@pytest.mark.parametrize("fault", ["bad_json", "invalid_utf8"])
async def test_what_is_not_json(fault: str) -> None:
    messages = await heard(f"{fault}:symbol=BTCUSDT,after=5")
    bad = []
    for message in messages:
        try:
            json.loads(message)
        except ValueError:
            bad.append(message)
    assert len(bad) == 1
    assert (b"\xff" in bad[0]) is (fault == "invalid_utf8")


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("wrong_type", lambda data: data["u"] == "many"),
        ("negative_number", lambda data: data["b"][0][0].startswith("-")),
        ("not_a_number", lambda data: data["b"][0][0] == "NaN"),
        ("off_tick", lambda data: data["b"][0][0].endswith("5") and data["b"][1][1] == "0"),
        ("unknown_symbol", lambda data: data["s"] == "NOSUCHUSDT"),
    ],
)
async def test_what_json_cannot_tell(fault: str, broken: Any) -> None:
    calm, faulted = await calm_and_faulted(fault)
    assert len(calm) == len(faulted)
    assert broken(faulted[5])
    assert not broken(calm[5])
    assert faulted[:5] + faulted[6:] == calm[:5] + calm[6:]


async def test_maintenance_empties_and_refills_a_binance_book_within_its_chain() -> None:
    async with scene(synthetic(*MARKETS), faults=["maintenance:symbol=BTCUSDT,after=5"]) as stage:
        book, emptied = NaiveBook(), 0
        async with httpx.AsyncClient(base_url=stage.simulator.rest_url) as client:
            body = (await client.get(PATH)).json()
        book.replace(body["bids"], body["asks"], body["lastUpdateId"])
        async with stage.client(USDM_DEPTH) as wire:
            for data in data_of(await wire.emitted(400)):
                assert data["pu"] == book.last
                book.apply(data["b"], data["a"], data["u"])
                emptied += not book.sides["b"] and not book.sides["a"]
        assert emptied == 1
        assert book.equals(stage.simulator.truth(USDM, "BTCUSDT"))


async def linear_messages(stage: Scene, events: int) -> list[dict[str, Any]]:
    async with stage.client("/v5/public/linear") as wire:
        await wire.ask(LINEAR_BOOK)
        return [json.loads(message) for message in await wire.emitted(events)]


async def test_maintenance_restarts_bybits_ids_at_one() -> None:
    async with scene(synthetic(*MARKETS), faults=["maintenance:venue=bybit_linear,after=5"]) as stage:
        messages = await linear_messages(stage, 400)
        restart = next(index for index, message in enumerate(messages) if message["data"]["u"] == 1)
        empty, refill = messages[restart : restart + 2]
        assert (empty["type"], empty["data"]["b"], empty["data"]["a"]) == ("snapshot", [], [])
        assert (refill["type"], refill["data"]["u"]) == ("delta", 2)
        book = NaiveBook()
        for message in messages[restart + 1 :]:
            assert message["data"]["u"] == (book.last or 1) + 1
            book.apply(message["data"]["b"], message["data"]["a"], message["data"]["u"])
        assert book.equals(stage.simulator.truth(LINEAR, "BTCUSDT"))


async def test_unsolicited_snapshot() -> None:
    async with scene(synthetic(*MARKETS), faults=["unsolicited_snapshot:after=5"]) as stage:
        messages = await linear_messages(stage, 400)
        kinds = [message["type"] for message in messages[1:]]
        assert kinds.count("snapshot") == 1
        book = NaiveBook()
        for message in messages[kinds.index("snapshot") + 1 :]:
            book.apply(message["data"]["b"], message["data"]["a"], message["data"]["u"])
        assert book.equals(stage.simulator.truth(LINEAR, "BTCUSDT"))


async def test_snapshot_before_ack() -> None:
    async with (
        scene(synthetic(*MARKETS), faults=["snapshot_before_ack"]) as stage,
        stage.client("/v5/public/linear") as wire,
    ):
        assert (await wire.ask(LINEAR_BOOK))["type"] == "snapshot"
        assert (await wire.next())["op"] == "subscribe"


@pytest.mark.parametrize(("fault", "code"), [("abrupt_close", 1006), ("close_1008", 1008)])
async def test_closing(fault: str, code: int) -> None:
    async with scene(synthetic(*MARKETS), faults=[f"{fault}:symbol=BTCUSDT,after=5"]) as stage:
        async with stage.client(USDM_DEPTH) as struck, stage.client("/public/ws/ethusdt@depth") as other:
            stage.simulator.emit(200)
            assert await struck.closed() == code
            assert len(await other.collect()) > 10
        async with stage.client(USDM_DEPTH) as again:
            assert len(await again.emitted(200)) > 10


async def test_the_daily_cut_takes_every_connection_of_the_venue() -> None:
    async with (
        scene(synthetic(*MARKETS), faults=["daily_cut:symbol=BTCUSDT,venue=binance_usdm"]) as stage,
        stage.client(USDM_DEPTH) as first,
        stage.client("/public/ws/ethusdt@depth") as second,
        stage.client("/ws/btcusdt@depth") as spot,
    ):
        stage.simulator.emit(100)
        assert [await first.closed(), await second.closed()] == [1006, 1006]
        assert await spot.collect()


async def test_a_mute_socket_answers_pings_and_nothing_else() -> None:
    async with scene(synthetic(*MARKETS), faults=["mute_socket:symbol=BTCUSDT,after=5"]) as stage:
        async with stage.client(USDM_DEPTH) as wire:
            assert len(await wire.emitted(200)) == 5
            await asyncio.wait_for(await wire.connection.ping(), 5)
            assert await wire.emitted(200) == []
        async with stage.client(USDM_DEPTH) as wire:
            assert await wire.emitted(200)


async def test_no_pong() -> None:
    async with (
        scene(synthetic(*MARKETS), faults=["no_pong:venue=bybit_linear"]) as stage,
        stage.client("/v5/public/linear") as wire,
    ):
        await wire.ask(LINEAR_BOOK)
        await wire.next()
        stage.simulator.emit(20)
        assert (await wire.next())["type"] == "delta"
        await wire.send({"op": "ping"})
        ponged = asyncio.ensure_future(await wire.connection.ping())
        await wire.send({"op": "dance"})
        answers: list[Any] = []
        while not answers or answers[-1].get("op") != "dance":
            answers.append(await wire.next())
        assert not ponged.done()
        assert all(answer.get("ret_msg") != "pong" for answer in answers)
        ponged.cancel()


async def test_ack_only() -> None:
    async with scene(synthetic(*MARKETS), faults=["ack_only:symbol=BTCUSDT"]) as stage:
        async with stage.client("/public/stream") as wire:
            names = ["btcusdt@depth", "ethusdt@depth"]
            assert await wire.ask({"method": "SUBSCRIBE", "params": names, "id": 1}) == {
                "result": None,
                "id": 1,
            }
            assert {json.loads(message)["stream"] for message in await wire.emitted(300)} == {"ethusdt@depth"}
        async with stage.client(USDM_DEPTH) as wire:
            assert await wire.emitted(200)


async def test_late_snapshot() -> None:
    async with (
        scene(synthetic(*MARKETS), faults=["late_snapshot:seconds=0.05"]) as stage,
        httpx.AsyncClient(base_url=stage.simulator.rest_url) as client,
    ):
        asked_at = stage.simulator.truth(USDM, "BTCUSDT")[2]
        answer = asyncio.create_task(client.get(PATH))
        while not stage.simulator.plan.struck:
            await client.get("/fapi/v1/time")
        stage.simulator.emit(200)
        assert (await answer).json()["lastUpdateId"] == asked_at < stage.simulator.truth(USDM, "BTCUSDT")[2]
        assert (await client.get(PATH)).json()["lastUpdateId"] > asked_at


async def test_old_snapshot() -> None:
    async with (
        scene(synthetic(*MARKETS), faults=["old_snapshot"]) as stage,
        httpx.AsyncClient(base_url=stage.simulator.rest_url) as client,
    ):
        began_at = stage.simulator.truth(USDM, "BTCUSDT")[2]
        stage.simulator.emit(300)
        assert (await client.get(PATH)).json()["lastUpdateId"] == began_at
        assert (await client.get(PATH)).json()["lastUpdateId"] == stage.simulator.truth(USDM, "BTCUSDT")[2]


async def test_rate_limited_leads_to_growing_bans() -> None:
    faults = ["rate_limited:venue=binance_usdm,seconds=2"]
    async with (
        scene(synthetic(*MARKETS), faults=faults) as stage,
        httpx.AsyncClient(base_url=stage.simulator.rest_url) as client,
    ):
        answers = [await client.get(PATH) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [429, 429, 429, 418]
        assert [answer.headers["retry-after"] for answer in answers] == ["2"] * 4
        assert answers[3].json()["code"] == -1003
        assert (await client.get("/api/v3/depth?symbol=BTCUSDT")).status_code == 200
        for _ in range(2):
            stage.tick()
        assert (await client.get(PATH)).status_code == 200
        stage.simulator.inject("rate_limited:venue=binance_usdm,seconds=2")
        again = [await client.get(PATH) for _ in range(4)]
        assert [answer.status_code for answer in again] == [429, 429, 429, 418]
        assert int(again[3].headers["retry-after"]) > 2


async def test_unavailable() -> None:
    async with (
        scene(synthetic(*MARKETS), faults=["unavailable"]) as stage,
        httpx.AsyncClient(base_url=stage.simulator.rest_url) as client,
    ):
        assert [(await client.get(PATH)).status_code for _ in range(2)] == [503, 200]


async def test_no_fault_touches_the_truth() -> None:
    spoiling = [
        f"{kind}:after={5 * number}"
        for number, kind in enumerate(FaultKind)
        if kind not in (FaultKind.MAINTENANCE, FaultKind.OVERSIZED)  # Bybit's ids truly restart; slow
    ]

    async def truths(faults: list[str]) -> list[Any]:
        async with (
            scene(synthetic(*MARKETS), faults=faults) as stage,
            stage.client(BOTH),
            stage.client("/stream?streams=btcusdt@depth"),
        ):
            stage.simulator.emit(2_000)
            if faults:
                assert stage.simulator.plan.struck_count > 5
            return [stage.simulator.truth(*key) for key in stage.simulator.market.books]

    assert await truths(spoiling) == await truths([])


def test_every_fault_is_tried_here() -> None:
    import pathlib

    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    untried = [kind for kind in FaultKind if f'"{kind}' not in text and f'"{kind}:' not in text]
    assert untried == []
