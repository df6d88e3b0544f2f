"""What clients get and when, without sockets and with a clock that moves by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bookrunner.core.enums import BookState
from bookrunner.core.errors import InvalidRequestError
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.wire.client_message import Encoding, Kind, WireForm, encode_body
from bookrunner.wire.client_request import (
    ListBooks,
    Ping,
    SnapshotNow,
    Subscribe,
    Unsubscribe,
)
from fanout_client import MILLISECOND, Client, Scene
from fanout_scene import BTC, BYBIT_BTC, ETH, Market


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Types of the group messages encoded meanwhile."""
    encoded: list[str] = []

    def counted(message: Any, *rest: Any) -> Any:
        encoded.append(type(message).__name__)
        return encode_body(message, *rest)

    monkeypatch.setattr("bookrunner.fanout.group.encode_body", counted)
    return encoded


# --- on connect -------------------------------------------------------------------------------------------


def test_on_connect_all_books_and_the_metrics(scene: Scene) -> None:
    client = Client(scene.publisher)
    welcome, snapshot = client.read()
    assert welcome["subscription"] == {
        "topics": [["books", "*", "*"], ["metrics", "*", "*"], ["trades", "*", "*"]],
        "depth": 5,
        "throttle_ms": 1_000,
    }
    assert client.view.tops == scene.market.tops(5)
    assert snapshot["metrics"] == scene.metrics


def test_a_book_that_is_not_live_is_shown_as_such_and_without_levels(scene: Scene) -> None:
    scene.market.change_state(*ETH, BookState.STALE)
    snapshot = Client(scene.publisher).read()[-1]
    shown = {(book["venue"], book["symbol"]): book for book in snapshot["books"]}
    assert shown[ETH]["state"] == "stale"
    assert shown[ETH]["bids"] == shown[ETH]["asks"] == []
    assert shown[BTC]["state"] == "live"


def test_tokens_are_of_128_bits_and_never_the_same(scene: Scene) -> None:
    seen = {scene.client().session.token for _ in range(20)}
    assert len(seen) == 20
    assert {len(token) for token in seen} == {32}


# --- books ------------------------------------------------------------------------------------------------


def test_updates_between_two_ticks_are_conflated_to_the_latest(scene: Scene) -> None:
    client = scene.client()
    for lots in range(1, 101):
        scene.market.update(*BTC, 999, lots)
    scene.advance(1_000)
    (books,) = client.read()
    assert [book["symbol"] for book in books["books"]] == ["BTCUSDT"]
    assert books["books"][0]["last_update_id"] == 101
    assert client.view.tops == scene.market.tops(5)


def test_nothing_is_sent_when_nothing_changed(scene: Scene) -> None:
    client = scene.client()
    scene.advance(5_000)
    assert client.kinds() == []


@pytest.mark.parametrize(("throttle_ms", "frames"), [(None, 3), (50, 60), (100, 30), (250, 12), (3_000, 1)])
def test_the_throttle_is_the_clients(scene: Scene, throttle_ms: int | None, frames: int) -> None:
    client = scene.subscriber(throttle_ms=throttle_ms)
    for _ in range(600):
        scene.market.update(*BTC, 999, scene.market.clock.wall_ns() % 1_000 + 1)
        scene.advance(5)
    assert client.kinds() == ["books"] * frames


def test_frames_of_one_client_are_a_throttle_apart(scene: Scene) -> None:
    client = scene.subscriber(throttle_ms=100)
    times = []
    for _ in range(200):
        scene.market.update(*BTC, 999, scene.market.clock.wall_ns() % 1_000 + 1)
        scene.advance(5)
        times += [scene.market.clock.wall_ns() for _ in client.read()]
    assert {later - earlier for earlier, later in pairwise(times)} == {100 * MILLISECOND}


def test_a_throttle_is_rounded_up_to_whole_slots(scene: Scene) -> None:
    client = scene.client()
    client.ask(Subscribe(throttle_ms=51))
    assert client.read()[0]["subscription"]["throttle_ms"] == 55


def test_five_levels_unless_asked_otherwise(scene: Scene) -> None:
    assert {len(side) for top in scene.client().view.tops.values() for side in top} == {5}
    deep = scene.subscriber(depth=100)
    assert deep.view.tops == scene.market.tops(100)
    assert scene.subscriber(depth=1).view.tops == scene.market.tops(1)


def test_clients_are_spread_over_the_throttle() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, clients_per_slot=2))
    clients = [scene.subscriber(throttle_ms=50) for _ in range(40)]
    due_at: dict[int, int] = {}
    scene.market.update(*BTC, 999, 5)
    for slot in range(10):
        scene.advance(5)
        due_at[slot] = sum(len(client.read()) for client in clients)
    assert due_at == dict.fromkeys(range(10), 4)


def test_one_encoding_serves_all_clients_of_a_subscription(scene: Scene, encodings: list[str]) -> None:
    clients = [scene.client() for _ in range(32)]
    other = scene.subscriber(depth=2)
    encodings.clear()
    scene.market.update(*BTC, 999, 5)
    scene.advance(1_000)
    assert encodings == ["Books", "Books"], "one for 32 equal clients, one for the other depth"
    assert all(client.kinds() == ["books"] for client in [*clients, other])


def test_equal_clients_share_the_very_bytes(scene: Scene) -> None:
    one, two = scene.client(), scene.client()
    scene.market.update(*BTC, 999, 5)
    scene.advance(1_000)
    assert one.link.frames == two.link.frames
    tails = [client.session._kept[-1].tail for client in (one, two)]
    assert tails[0] is tails[1]


def without_times(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in message.items() if name != "ts_ns"} for message in messages]


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("compressed", [False, True])
def test_every_form_carries_the_same(scene: Scene, encoding: Encoding, *, compressed: bool) -> None:
    client = scene.client(form=WireForm(encoding, compressed))
    plain = scene.client()
    scene.market.update(*BTC, 999, 5)
    scene.market.trade(*BTC, 1, count=30)
    scene.pump()
    scene.advance(1_000)
    assert any(used for _, _, used in client.link.frames) is compressed
    assert {binary for _, binary, _ in client.link.frames} == {encoding is Encoding.MSGPACK}
    assert without_times(client.read()) == without_times(plain.read())
    assert client.view.tops == plain.view.tops == scene.market.tops(5)


def test_a_changed_grid_changes_the_texts(scene: Scene) -> None:
    client = scene.client()
    live = scene.market.by_name[BTC]
    live.instrument = type(live)(*BTC, tick="0.01", lot="0.0001").instrument
    scene.market.update(*BTC, 999, 5)
    scene.advance(1_000)
    client.read()
    assert client.view.tops == scene.market.tops(5)
    assert client.view.tops[BTC][0][0] == ["9.99", "0.0005"]


def test_a_book_that_is_added_later_is_sent_to_those_who_get_all(scene: Scene) -> None:
    client = scene.client()
    live = scene.market.add("binance_usdm", "SOLUSDT")
    live.book.bids, live.book.asks = {10: 1}, {11: 1}
    scene.market.update("binance_usdm", "SOLUSDT", 10, 2)
    scene.advance(1_000)
    assert [book["symbol"] for book in client.read()[0]["books"]] == ["SOLUSDT"]


# --- states, trades, metrics, heartbeats --------------------------------------------------------------------


def test_a_stale_book_is_announced_at_once_and_then_never_shown_as_live(scene: Scene) -> None:
    client = scene.client()
    scene.market.update(*BTC, 999, 5)
    scene.market.change_state(*BTC, BookState.STALE, "gap")
    scene.pump()
    (state,) = client.read()
    assert (state["type"], state["state"], state["reason"]) == ("state", "stale", "gap")
    scene.market.update(*BTC, 999, 6)
    scene.advance(2_000)
    assert client.kinds() == []
    scene.market.change_state(*BTC, BookState.LIVE, "snapshot")
    scene.advance(1_000)
    assert client.kinds() == ["state", "books"]
    assert client.view.tops == scene.market.tops(5)


def test_a_book_that_was_stale_for_a_moment_is_sent_again(scene: Scene) -> None:
    """Also when a frame with it, already live again, went out before the two announcements."""
    client = scene.client()
    scene.market.clock.advance(1_000 * MILLISECOND)
    scene.publisher.tick()
    scene.market.change_state(*BTC, BookState.STALE)
    scene.market.change_state(*BTC, BookState.LIVE)
    scene.pump()
    assert client.kinds() == ["books", "state", "state"]
    scene.advance(1_000)
    assert client.kinds() == ["books"]
    assert client.view.tops == scene.market.tops(5)


def test_a_state_older_than_a_snapshot_is_not_sent_after_it(scene: Scene) -> None:
    client, other = scene.client(), scene.client()
    scene.market.change_state(*BTC, BookState.STALE)
    scene.market.change_state(*BTC, BookState.LIVE)
    client.ask(SnapshotNow())
    scene.pump()
    assert client.kinds() == ["snapshot"]
    assert other.kinds() == ["state", "state"]


def test_trades_are_sent_at_once_in_order_and_those_together_share_a_message(scene: Scene) -> None:
    client = scene.client()
    scene.market.trade(*BTC, 1)
    scene.market.trade(*BTC, 2, count=2)
    scene.market.trade(*ETH, 9)
    scene.pump()
    first, second = client.read()
    assert [trade["id"] for trade in first["trades"]] == ["1", "2", "3"]
    assert first["trades"][0] == {
        "id": "1",
        "price": "61800.2",
        "quantity": "0.015",
        "side": "buy",
        "ts_event_ns": scene.market.clock.wall_ns(),
        "ts_match_ns": scene.market.clock.wall_ns(),
    }
    assert (second["symbol"], [trade["id"] for trade in second["trades"]]) == ("ETHUSDT", ["9"])


def test_many_trades_at_once_are_split(scene: Scene) -> None:
    client = scene.client()
    for number in range(1_000):
        scene.market.trade(*BTC, number)
    scene.pump()
    sizes = [len(message["trades"]) for message in client.read()]
    assert sum(sizes) == 1_000
    assert max(sizes) <= 256
    assert client.view.trades[BTC] == [str(number) for number in range(1_000)]


def test_metrics_and_heartbeats_come_at_their_intervals() -> None:
    scene = Scene(FanoutSettings(metrics_s=1, heartbeat_s=5))
    client = scene.client()
    scene.metrics = {"messages_per_second": 2.0}
    scene.advance(10_000)
    messages = client.read()
    assert [m["type"] for m in messages].count("heartbeat") == 2
    metrics = [m["metrics"] for m in messages if m["type"] == "metrics"]
    assert metrics == [scene.metrics] * 10


def test_the_time_from_receipt_to_the_last_send_is_recorded(scene: Scene) -> None:
    scene.client()
    scene.market.trade(*BTC, 1)
    scene.market.clock.advance(3 * MILLISECOND)
    scene.pump()
    assert scene.latencies_ns == [3 * MILLISECOND]


# --- subscriptions ------------------------------------------------------------------------------------------


def test_subscribing_by_symbol_venue_and_kind(scene: Scene) -> None:
    client = scene.client()
    client.ask(Subscribe(symbols=["BTCUSDT"], kinds=[Kind.BOOKS], id=5))
    subscribed, snapshot = client.read()
    assert subscribed["id"] == 5
    assert subscribed["subscription"]["topics"] == [["books", "*", "BTCUSDT"]]
    assert set(client.view.tops) == {BTC, BYBIT_BTC}
    assert snapshot["metrics"] is None
    client.ask(Subscribe(venues=["binance_usdm"], symbols=["ETHUSDT"], kinds=[Kind.TRADES]))
    client.read()
    scene.market.trade(*BTC, 1)
    scene.market.trade(*ETH, 2)
    scene.market.update(*ETH, 1_999, 3)
    scene.market.update(*BYBIT_BTC, 2_999, 3)
    scene.advance(1_000)
    assert client.kinds() == ["trades", "books"]
    assert client.view.trades == {ETH: ["2"]}
    assert client.view.tops[BYBIT_BTC] == scene.market.tops(5)[BYBIT_BTC]


def test_the_first_subscription_replaces_and_later_ones_add(scene: Scene) -> None:
    client = scene.client()
    client.ask(Subscribe(symbols=["BTCUSDT"], kinds=[Kind.BOOKS]))
    client.ask(Subscribe(symbols=["ETHUSDT"], kinds=[Kind.BOOKS]))
    client.read()
    assert set(client.view.tops) == {BTC, ETH, BYBIT_BTC}
    client.ask(Subscribe(throttle_ms=50))
    client.read()
    assert set(client.view.tops) == {BTC, ETH, BYBIT_BTC}


def test_unsubscribing(scene: Scene) -> None:
    client = scene.subscriber(symbols=["BTCUSDT", "ETHUSDT"])
    client.ask(Unsubscribe(symbols=["BTCUSDT"]))
    client.read()
    assert set(client.view.tops) == {ETH}
    client.ask(Unsubscribe())
    client.read()
    scene.market.update(*ETH, 1_999, 5)
    scene.market.trade(*ETH, 1)
    scene.advance(2_000)
    assert client.kinds() == []


def test_a_change_of_subscription_leaves_no_older_book_behind(scene: Scene) -> None:
    client = scene.client()
    scene.market.update(*BTC, 999, 5)
    client.ask(Subscribe(kinds=[Kind.BOOKS], throttle_ms=50))
    scene.market.update(*BTC, 999, 6)
    scene.advance(50)
    client.read()
    assert client.view.tops == scene.market.tops(5)


@pytest.mark.parametrize(
    ("request_", "field", "value"),
    [
        (Subscribe(symbols=["NOPE"]), "symbols", "NOPE"),
        (Subscribe(venues=["nasdaq"]), "venues", "nasdaq"),
        (Subscribe(venues=["bybit_linear"], symbols=["ETHUSDT"]), "symbols", "ETHUSDT"),
        (Unsubscribe(symbols=["NOPE"]), "symbols", "*/NOPE"),
    ],
)
def test_what_does_not_exist_is_refused_and_changes_nothing(
    scene: Scene, request_: Subscribe | Unsubscribe, field: str, value: str
) -> None:
    client = scene.client()
    with pytest.raises(InvalidRequestError) as caught:
        client.ask(request_)
    assert (caught.value.fields["field"], caught.value.fields["value"]) == (field, value)
    assert caught.value.fields["rule"]
    scene.market.update(*ETH, 1_999, 5)
    scene.advance(1_000)
    assert client.kinds() == ["books"]


def test_a_thousand_subscriptions_are_too_many() -> None:
    names = [("binance_usdm", f"S{number}USDT") for number in range(1_000)]
    scene = Scene(market=Market(names))
    client = scene.client()
    for symbols in ([symbol for _, symbol in names], [symbol for _, symbol in names[:300]]):
        with pytest.raises(InvalidRequestError, match="too many subscriptions"):
            client.ask(Subscribe(symbols=symbols, kinds=[Kind.BOOKS, Kind.TRADES]))
    client.ask(Subscribe(symbols=[symbol for _, symbol in names[:256]], kinds=[Kind.BOOKS, Kind.TRADES]))
    with pytest.raises(InvalidRequestError, match="too many subscriptions"):
        client.ask(Subscribe(symbols=["S999USDT"], kinds=[Kind.BOOKS]))


def test_consolidated_books_join_live_venues(scene: Scene) -> None:
    client = scene.subscriber(symbols=["BTC/USDT:perpetual"], kinds=[Kind.CONSOLIDATED])
    scene.market.update(*BTC, 999, 5)
    scene.advance(1_000)
    (message,) = client.read()
    (joined,) = message["consolidated"]
    assert joined["pair"] == "BTC/USDT:perpetual"
    assert joined["venues"] == ["binance_usdm", "bybit_linear"]
    assert joined["bids"][0] == ["299.9", "0.011", "bybit_linear"]
    scene.market.change_state(*BYBIT_BTC, BookState.STALE)
    scene.advance(1_000)
    state, message = client.read()
    assert state["state"] == "stale"
    assert message["consolidated"][0]["venues"] == ["binance_usdm"]


def test_list_ping_and_snapshot(scene: Scene) -> None:
    client = scene.client()
    client.ask(ListBooks(id=1))
    client.ask(Ping(id="x"))
    client.ask(SnapshotNow())
    listing, pong, snapshot = client.read()
    assert listing["books"][0] == {
        "venue": "binance_usdm",
        "symbol": "BTCUSDT",
        "pair": "BTC/USDT:perpetual",
        "state": "live",
    }
    assert (pong["type"], pong["id"]) == ("pong", "x")
    assert snapshot["type"] == "snapshot"
