"""The market-data server over real loopback sockets, with the ``websockets`` client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.typing import Subprotocol

from bookrunner.core.clock import SystemClock
from bookrunner.core.enums import BookState
from bookrunner.fanout.service import FanoutService
from bookrunner.fanout.settings import FanoutSettings
from fanout_client import ClientView
from fanout_scene import BTC, ETH, Market, three_books, tokens

PATIENCE_S = 10
FAST = "?throttle_ms=50"
MSGPACK = [Subprotocol("bookrunner.msgpack")]


class Served:
    """A running server and its market."""

    def __init__(self, service: FanoutService, market: Market) -> None:
        self.service = service
        self.market = market
        self.publisher = service.publisher
        self.url = f"ws://127.0.0.1:{service.port}/"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - the server's own attributes, which set no event
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    metrics: Callable[[], Mapping[str, Any]] = lambda: {"messages_per_second": 1.0}, **changed: Any
) -> AsyncIterator[Served]:
    market = three_books()
    settings = FanoutSettings(port=0, **{"metrics_s": 3_600, "drain_timeout_s": 0.2, **changed})
    service = FanoutService(market.books, metrics, settings, SystemClock(), tokens())
    market.sink = service.publisher
    await service.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        try:
            yield Served(service, market)
        finally:
            await service.stop()


async def receive(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        payload = await client.recv()
    decoded: dict[str, Any] = (
        msgspec.msgpack.decode(payload) if isinstance(payload, bytes) else json.loads(payload)
    )
    return decoded


async def receive_until(
    client: ClientConnection, kind: str, view: ClientView | None = None
) -> dict[str, Any]:
    while True:
        message = await receive(client)
        if view is not None:
            view.take(message)
        if message["type"] == kind:
            return message


async def closing_of(client: ClientConnection) -> tuple[int, str]:
    """Read until the server closes; return its code and reason."""
    try:
        while True:
            await receive(client)
    except ConnectionClosed as closed:
        frame = closed.rcvd
    return (frame.code, frame.reason) if frame is not None else (0, "no close frame came")


# --- serving ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subprotocols", [None, [Subprotocol("bookrunner.json")], MSGPACK])
@pytest.mark.parametrize("compression", ["deflate", None])
async def test_every_form_of_connection_sees_the_market(
    subprotocols: list[Subprotocol] | None, compression: str | None
) -> None:
    async with (
        serving() as served,
        connect(served.url + FAST, subprotocols=subprotocols, compression=compression) as client,
    ):
        assert client.subprotocol == (subprotocols[0] if subprotocols else None)
        assert [extension.name for extension in client.protocol.extensions] == (
            ["permessage-deflate"] if compression else []
        )
        view = ClientView()
        await receive_until(client, "snapshot", view)
        for number in range(3):
            served.market.update(*BTC, 999, 30 + number)
            served.market.trade(*BTC, number, count=20)
            await receive_until(client, "books", view)
        assert view.tops == served.market.tops(5)
        assert len(view.trades[BTC]) == 60
        served.market.change_state(*ETH, BookState.STALE)
        await receive_until(client, "state", view)
        assert ETH not in view.tops


async def test_compression_without_context_even_when_the_client_asks_for_a_small_window() -> None:
    extensions = [ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=12)]
    async with serving() as served, connect(served.url, extensions=extensions) as client:
        answer = client.response.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
        assert "server_max_window_bits=12" in answer
        assert (await receive_until(client, "snapshot"))["metrics"] == {"messages_per_second": 1.0}


async def test_an_offer_that_cannot_be_kept_is_declined() -> None:
    extensions = [ClientPerMessageDeflateFactory(server_max_window_bits=9)]
    async with serving() as served, connect(served.url, extensions=extensions, compression=None) as client:
        assert client.protocol.extensions == []
        await receive_until(client, "snapshot")


async def test_compression_can_be_switched_off() -> None:
    async with serving(compression=False) as served, connect(served.url) as client:
        assert client.protocol.extensions == []


async def test_requests_are_answered_in_both_encodings() -> None:
    async with serving() as served:
        async with connect(served.url) as client:
            await client.send(
                '{"op":"subscribe","symbols":["BTCUSDT"],"kinds":["books"],"throttle_ms":50,"id":1}'
            )
            answer = await receive_until(client, "subscribed")
            assert answer["subscription"] == {
                "topics": [["books", "*", "BTCUSDT"]],
                "depth": 5,
                "throttle_ms": 50,
            }
        async with connect(served.url, subprotocols=MSGPACK) as client:
            await client.send(msgspec.msgpack.encode({"op": "list", "id": "x"}))
            assert len((await receive_until(client, "list"))["books"]) == 3


async def test_a_request_in_fragments_is_one_request() -> None:
    async with serving() as served, connect(served.url) as client:
        await client.send(['{"op":', '"ping",', '"id":3}'])
        assert (await receive_until(client, "pong"))["id"] == 3


async def test_a_client_that_reconnects_goes_on_where_it_was() -> None:
    async with serving() as served:
        view = ClientView()
        async with connect(served.url + FAST) as client:
            await receive_until(client, "snapshot", view)
            served.market.trade(*BTC, 1)
            await receive_until(client, "trades", view)
            client.transport.abort()
        await served.until(lambda: served.service.websocket_connections_active == 0)
        served.market.trade(*BTC, 2)
        served.market.update(*BTC, 999, 77)
        async with connect(f"{served.url}?session={view.token}&sequence={view.sequence}") as client:
            resumed = await receive(client)
            assert (resumed["type"], resumed["sequence"]) == ("resumed", view.sequence)
            view.take(resumed)
            await receive_until(client, "trades", view)
            await receive_until(client, "books", view)
        assert view.trades == {BTC: ["1", "2"]}
        assert view.tops == served.market.tops(5)


async def test_pings_are_answered_and_active_connections_counted() -> None:
    async with serving() as served:
        async with connect(served.url) as client, connect(served.url):
            await (await client.ping())
            assert served.service.websocket_connections_active == 2
        await served.until(lambda: served.service.websocket_connections_active == 0)


async def test_the_server_says_goodbye() -> None:
    async with serving() as served, connect(served.url) as client:
        stopping = asyncio.create_task(served.service.stop())
        assert await closing_of(client) == (1001, "the server is shutting down")
        await stopping
        with pytest.raises(OSError, match=r"Connect call failed|refused"):
            await connect(served.url)


async def test_a_client_that_ignores_the_goodbye_is_cut() -> None:
    async with serving(close_timeout_s=0.05) as served:
        reader, writer = await raw_upgrade(served)
        await served.service.stop()
        assert served.service.websocket_connections_active == 0
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()


async def test_metrics_that_fail_stop_the_service_loudly() -> None:
    calls = 0

    def metrics() -> Mapping[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise RuntimeError("no figures")
        return {}

    service = FanoutService(
        three_books().books, metrics, FanoutSettings(port=0, metrics_s=0.05), SystemClock(), tokens()
    )
    await service.start()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(BaseExceptionGroup) as caught:
            await service.run()
    assert caught.group_contains(RuntimeError, match="no figures")
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await connect(f"ws://127.0.0.1:{service.port}/")


# --- bad input ----------------------------------------------------------------------------------------------


async def test_bad_requests_get_an_error_each_and_the_connection_goes_on() -> None:
    async with serving() as served, connect(served.url + FAST) as client:
        wrong: list[tuple[str | bytes, str]] = [
            ("{", "message"),
            ("[]", "message"),
            ('{"op":"subscribe","depth":"deep"}', "depth"),
            ('{"op":"subscribe","depth":-1}', "depth"),
            ('{"op":"subscribe","depth":1e400}', "depth"),
            ('{"op":"subscribe","throttle_ms":49}', "throttle_ms"),
            ('{"op":"subscribe","symbols":["NOPE"]}', "symbols"),
            ('{"op":"subscribe","symbols":[]}', "symbols"),
            ('{"op":"subscribe","symbols":' + json.dumps([f"S{n}" for n in range(1_000)]) + "}", "symbols"),
            ('{"op":"dance"}', "op"),
            (b"\x00\x01\xff", "frame"),
        ]
        for payload, field in wrong:
            await client.send(payload)
            error = await receive_until(client, "error")
            assert error["error"]["code"] == "INVALID_REQUEST"
            assert error["error"]["details"]["field"] == field, payload[:60]
            assert error["error"]["details"]["rule"]
        assert served.publisher.counters.invalid_requests == 11
        served.market.update(*BTC, 999, 5)
        assert (await receive_until(client, "books"))["books"][0]["bids"][0] == ["99.9", "0.005"]


async def test_text_that_is_not_utf8_closes_with_1007() -> None:
    async with serving() as served, connect(served.url, compression=None) as client:
        await client.send(b'{"op":"ping","id":"\xff"}', text=True)
        assert (await receive_until(client, "error"))["error"]["details"]["rule"].startswith("UTF-8")
        assert (await closing_of(client))[0] == 1007


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_a_message_of_10_megabytes_closes_with_1009(compression: str | None) -> None:
    payload = os.urandom(5_000_000).hex()
    async with serving() as served, connect(served.url, compression=compression) as client:
        await receive_until(client, "snapshot")
        with suppress(ConnectionClosedError):
            await client.send(payload)
        async with connect(served.url) as other:
            await receive_until(other, "snapshot")
        await served.until(lambda: served.publisher.counters.oversized_requests == 1)


async def test_a_frame_that_announces_too_much_is_refused_before_it_comes() -> None:
    async with serving() as served:
        reader, writer = await raw_upgrade(served)
        writer.write(b"\x81\xff" + struct.pack(">Q", 10_000_000) + bytes(4))
        async with asyncio.timeout(PATIENCE_S):
            rest = await reader.read()
        assert b"\x88" in rest
        assert struct.pack(">H", 1009) in rest
        writer.close()
        await served.until(lambda: served.publisher.counters.oversized_requests == 1)


async def test_fragments_that_add_up_to_too_much_close_with_1009() -> None:
    async with serving(request_bytes_max=1_000) as served, connect(served.url, compression=None) as client:
        await client.send(["x" * 400] * 3)
        assert (await receive_until(client, "error"))["error"]["message"] == "the message is too long"
        assert (await closing_of(client))[0] == 1009


async def test_a_small_frame_that_inflates_to_much_closes_with_1009() -> None:
    async with serving() as served, connect(served.url) as client:
        await client.send('{"op":"' + "x" * 1_000_000 + '"}')
        assert (await receive_until(client, "error"))["error"]["details"][
            "rule"
        ] == "at most 32768 bytes, inflated"
        assert (await closing_of(client))[0] == 1009


async def test_a_flood_of_messages_closes_with_1008() -> None:
    async with serving(requests_burst=10, requests_per_second=1) as served:
        async with connect(served.url) as client:
            for _ in range(11):
                await client.send('{"op":"ping"}')
            assert (await receive_until(client, "error"))["error"]["details"]["field"] == "rate"
            assert (await closing_of(client))[0] == 1008
        assert served.publisher.counters.rate_limited == 1


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (bytes([0x80, 0x80, 0, 0, 0, 0]), 1002),  # a continuation of nothing
        (bytes([0xC1, 0x80, 0, 0, 0, 0]), 1002),  # compressed where compression was not agreed
        (bytes([0xA1, 0x80, 0, 0, 0, 0]), 1002),  # a reserved bit
        (bytes([0x83, 0x80, 0, 0, 0, 0]), 1002),  # an unknown opcode
        (bytes([0x81, 0x00]), 1002),  # not masked
    ],
)
async def test_broken_frames_close_with_1002(frame: bytes, code: int) -> None:
    async with serving(close_timeout_s=0.05) as served:
        reader, writer = await raw_upgrade(served)
        writer.write(frame)
        async with asyncio.timeout(PATIENCE_S):
            rest = await reader.read()
        assert struct.pack(">H", code) in rest[rest.rindex(b"\x88") :]
        writer.close()


async def test_garbage_in_a_compressed_frame_is_refused() -> None:
    async with serving() as served:
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        reader, writer = await raw_upgrade(served, offer)
        writer.write(bytes([0xC1, 0x84, 0, 0, 0, 0]) + b"\xff\xff\xff\xff")
        async with asyncio.timeout(PATIENCE_S):
            while served.publisher.counters.invalid_requests == 0:
                await reader.read(1)
        writer.close()


# --- the way in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("?depth=0", 400, "depth"),
        ("?symbols=NOPE", 400, "symbols"),
        ("?session=abc", 400, "sequence"),
        ("?color=red", 400, "color"),
        ("elsewhere", 404, None),
    ],
)
async def test_a_wrong_address_is_refused(path: str, status: int, field: str | None) -> None:
    async with serving() as served:
        with pytest.raises(InvalidStatus) as caught:
            await connect(served.url + path)
        assert caught.value.response.status_code == status
        if field is not None:
            body = json.loads(caught.value.response.body or b"")
            assert body["error"]["details"]["field"] == field
        assert served.publisher.counters.refused == 1


async def test_clients_beyond_the_bound_are_turned_away_until_one_leaves() -> None:
    async with serving(clients_max=1) as served:
        async with connect(served.url):
            with pytest.raises(InvalidStatus) as caught:
                await connect(served.url)
            assert caught.value.response.status_code == 503
            assert caught.value.response.headers["Retry-After"] == "5"
            body = json.loads(caught.value.response.body or b"")
            assert body["error"]["code"] == "UNAVAILABLE"
        await served.until(lambda: served.service.websocket_connections_active == 0)
        async with connect(served.url) as client:
            await receive_until(client, "snapshot")


def upgrade_request(path: str = "/", extra: str = "", connection: str = "Upgrade") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{extra}\r\n"
    ).encode()


async def raw_upgrade(
    served: Served, extra: str = "", connection: str = "Upgrade"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.service.port)
    writer.write(upgrade_request("/", extra, connection))
    async with asyncio.timeout(PATIENCE_S):
        response = await reader.readuntil(b"\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 101"), response
    return reader, writer


async def test_a_browser_that_also_says_keep_alive_gets_in() -> None:
    async with serving() as served:
        _, writer = await raw_upgrade(served, connection="keep-alive, Upgrade")
        writer.close()


async def test_connections_that_say_nothing_are_bounded_and_do_not_keep_others_out_for_long() -> None:
    async with serving(handshakes_max=3, handshake_timeout_s=0.2) as served:
        silent = [await asyncio.open_connection("127.0.0.1", served.service.port) for _ in range(8)]
        for _, writer in silent:
            writer.write(b"GET / HT")
        async with asyncio.timeout(PATIENCE_S):
            ended = await asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
        assert all(not rest or isinstance(rest, ConnectionError) for rest in ended)
        async with connect(served.url) as client:
            await receive_until(client, "snapshot")
        await served.until(lambda: served.publisher.counters.handshakes_dropped == 5)
        for _, writer in silent:
            writer.close()


# --- slow clients -------------------------------------------------------------------------------------------


async def test_a_client_that_never_reads_is_cut_and_slows_nobody() -> None:
    changed: dict[str, Any] = {
        "stall_timeout_s": 0.5,
        "lag_after_s": 0.1,
        "socket_buffer_bytes": 8_192,
        "write_buffer_bytes": 8_192,
    }
    async with serving(**changed) as served:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)  # noqa: FBT003 - the standard library's own
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, ("127.0.0.1", served.service.port))
        await loop.sock_sendall(
            deaf,
            upgrade_request("/?throttle_ms=50&depth=8"),
        )
        async with connect(served.url + FAST) as client:
            view = ClientView()
            number = 0
            async with asyncio.timeout(PATIENCE_S):
                while served.publisher.counters.cut_stalled == 0:
                    served.market.trade(*BTC, number, count=50)
                    number += 50
                    view.take(await receive(client))
            assert served.publisher.counters.lagged == 1
            await served.until(lambda: served.service.websocket_connections_active == 1)
            while len(view.trades[BTC]) < number:
                view.take(await receive(client))
            assert view.trades[BTC] == [str(n) for n in range(number)]
            assert view.lagged == []
        deaf.close()


async def test_a_client_that_stops_reading_for_a_while_is_told_and_brought_up_to_date() -> None:
    changed: dict[str, Any] = {"lag_after_s": 0.05, "socket_buffer_bytes": 8_192}
    async with (
        serving(write_buffer_bytes=8_192, **changed) as served,
        connect(served.url + FAST, max_queue=1, compression=None) as client,
    ):
        view = ClientView()
        await receive_until(client, "snapshot", view)
        number = 0
        async with asyncio.timeout(PATIENCE_S):
            while served.publisher.counters.lagged == 0:
                served.market.trade(*BTC, number, count=200)
                number += 200
                await asyncio.sleep(0)
        served.market.update(*BTC, 999, 88)
        await receive_until(client, "lagged", view)
        await receive_until(client, "snapshot", view)
        assert view.tops == served.market.tops(5)
        served.market.trade(*BTC, number)
        while str(number) not in view.trades[BTC]:
            view.take(await receive(client))


async def test_a_client_that_is_silent_is_pinged_and_then_cut() -> None:
    async with serving(heartbeat_s=0.05, silence_timeout_s=0.3) as served:
        reader, writer = await raw_upgrade(served)
        async with connect(served.url) as client:
            async with asyncio.timeout(PATIENCE_S):
                rest = await reader.read()
            assert b"\x89\x00" in rest, "a ping came first"
            assert served.publisher.counters.cut_silent == 1
            assert served.service.websocket_connections_active == 1, "the one that answers pings stays"
            await receive_until(client, "heartbeat")
        writer.close()


async def test_compressed_frames_inflate_one_by_one() -> None:
    """What is sent is plain deflate: each frame inflates without any other."""
    async with serving() as served:
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        reader, writer = await raw_upgrade(served, offer)
        async with asyncio.timeout(PATIENCE_S):
            for expected in ("welcome", "snapshot"):
                first, length = await reader.readexactly(2)
                if length == 126:
                    (length,) = struct.unpack(">H", await reader.readexactly(2))
                payload = await reader.readexactly(length)
                assert first == 0xC1
                text = zlib.decompressobj(-12).decompress(payload + b"\x00\x00\xff\xff")
                assert json.loads(text)["type"] == expected
        writer.close()
