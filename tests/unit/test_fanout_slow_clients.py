"""Clients that are slow, lose their connection, or come back, without sockets and time by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import structlog

from bookrunner.core.enums import BookState
from bookrunner.core.errors import InvalidRequestError
from bookrunner.fanout.outbox import Left
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.wire.client_message import Encoding, WireForm
from bookrunner.wire.client_request import Opening, Ping, Resume, SnapshotNow
from fanout_client import QUIET, SECOND, Client, Scene
from fanout_scene import BTC, ETH


@pytest.fixture
def scene() -> Scene:
    return Scene()


def said(logs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """Return each line's event, reason and count so far."""
    return [(line["event"], line["reason"], line.get("lagged") or line["cut_stalled"]) for line in logs]


# --- slow clients -------------------------------------------------------------------------------------------


def test_a_client_that_is_slow_for_a_moment_gets_the_newest_book_and_no_lag(scene: Scene) -> None:
    client, other = scene.client(), scene.client()
    client.link.block()
    for lots in range(1, 4):
        scene.market.update(*BTC, 999, lots)
        scene.advance(500)
    client.link.unblock()
    scene.advance(1_000)
    assert client.kinds() == ["books"]
    assert client.view.tops == scene.market.tops(5)
    assert other.kinds() == ["books", "books"]


def test_trades_wait_for_a_slow_client(scene: Scene) -> None:
    client = scene.client()
    client.link.block()
    for number in range(5):
        scene.market.trade(*BTC, number)
        scene.pump()
    assert client.kinds() == []
    client.link.unblock()
    assert client.kinds() == ["trades"] * 5
    assert client.view.trades == {BTC: ["0", "1", "2", "3", "4"]}


def test_too_much_waiting_is_announced_and_a_snapshot_follows() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, queue_messages=10))
    client, other = scene.client(), scene.client()
    client.link.block()
    with structlog.testing.capture_logs() as logs:
        for number in range(25):
            scene.market.trade(*BTC, number)
            scene.pump()
    assert client.session.lag_reason == "queue"
    assert scene.publisher.counters.lagged == 1
    assert said(logs) == [("client_lagged", "queue", 1)]
    scene.market.update(*BTC, 999, 7)
    client.link.unblock()
    lagged, snapshot = client.read()
    assert (lagged["from"], lagged["to"], lagged["reason"]) == (3, 27, "queue")
    assert snapshot["type"] == "snapshot"
    assert client.view.tops == scene.market.tops(5)
    scene.market.trade(*BTC, 99)
    scene.pump()
    assert client.kinds() == ["trades"]
    other.read()
    assert len(other.view.trades[BTC]) == 26, "the other client missed nothing"


def test_bytes_waiting_are_bounded_too() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, queue_bytes=20_000))
    client = scene.client()
    client.link.block()
    for number in range(200):
        scene.market.trade(*BTC, number, count=10)
        scene.pump()
    assert client.session.lag_reason == "queue"
    assert client.session.waiting_cost == 0


def test_a_client_whose_socket_takes_nothing_lags_and_then_is_cut(scene: Scene) -> None:
    client = scene.client()
    scene.market.update(*BTC, 999, 7)
    client.link.block()
    scene.advance(1_995)
    scene.publisher.sweep()
    assert scene.publisher.counters.lagged == 0
    scene.advance(5)
    with structlog.testing.capture_logs() as logs:
        scene.publisher.sweep()
        assert (scene.publisher.counters.lagged, client.session.lag_reason) == (1, "stalled")
        assert scene.publisher.counters.cut_stalled == 0
        scene.market.clock.advance(28 * SECOND)
        scene.publisher.sweep()
    assert said(logs) == [("client_lagged", "stalled", 1), ("client_cut", "stalled", 1)]
    assert client.link.is_cut
    assert scene.publisher.counters.cut_stalled == 1


def test_a_stalled_client_that_reads_again_is_told_and_brought_up_to_date(scene: Scene) -> None:
    client = scene.client()
    client.link.block()
    scene.market.update(*BTC, 999, 7)
    scene.advance(3_000)
    scene.publisher.sweep()
    client.link.unblock()
    lagged, _ = client.read()
    assert (lagged["from"], lagged["to"], lagged["reason"]) == (3, 2, "stalled")
    assert client.view.tops == scene.market.tops(5)


def test_a_socket_that_takes_one_frame_at_a_time_gets_everything_in_order(scene: Scene) -> None:
    client = scene.client()
    client.link.block()
    for number in range(10):
        scene.market.trade(*BTC, number)
        scene.pump()
    for expected in range(1, 11):
        client.link.unblock(room=1)
        client.read()
        assert len(client.view.trades[BTC]) == expected


def test_a_lane_that_is_full_makes_its_clients_lag() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, deliveries_max=3))
    client = scene.client()
    for _ in range(5):
        scene.market.change_state(*BTC, BookState.STALE)
    scene.pump()
    assert scene.publisher.counters.overloaded == 2
    assert scene.publisher.counters.lagged == 1
    scene.publisher.sweep()
    lagged, snapshot = client.read()
    assert lagged["reason"] == "overload"
    assert snapshot["books"][0]["state"] == "stale"


def test_a_turn_sends_a_bounded_number_of_frames() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, sends_per_turn=10))
    clients = [scene.client() for _ in range(25)]
    scene.market.trade(*BTC, 1)
    turns = []
    while True:
        left = scene.publisher.turn()
        turns.append(sum(len(client.read()) for client in clients))
        if left is Left.NOTHING:
            break
    assert turns == [10, 10, 5]


def test_a_snapshot_is_never_followed_by_an_older_book() -> None:
    """A frame under way in turns does not reach a client that got its snapshot after the frame was made."""
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, sends_per_turn=1, queue_messages=2))
    first, second = scene.client(), scene.client()
    scene.market.update(*BTC, 999, 5)
    scene.market.clock.advance(SECOND)
    scene.publisher.tick()
    assert scene.publisher.turn() is Left.URGENT
    assert first.kinds() == ["books"]
    scene.market.update(*BTC, 999, 6)
    second.ask(SnapshotNow())
    scene.pump()
    assert second.kinds() == ["snapshot"]
    assert second.view.tops == scene.market.tops(5)


# --- coming back --------------------------------------------------------------------------------------------


def resume(client: Client, sequence: int) -> Opening:
    return Opening(None, Resume(session=client.view.token, sequence=sequence))


def test_a_client_that_comes_back_misses_nothing(scene: Scene) -> None:
    client = scene.client()
    scene.market.trade(*BTC, 1)
    scene.pump()
    client.read()
    client.disconnect()
    scene.market.trade(*BTC, 2)
    scene.market.change_state(*ETH, BookState.STALE)
    scene.market.update(*BTC, 999, 5)
    scene.advance(3_000)
    client.connect(resume(client, client.view.sequence))
    assert sorted(client.kinds()) == ["resumed", "state", "trades"]
    scene.advance(1_000)
    client.read()
    assert client.view.trades == {BTC: ["1", "2"]}
    assert client.view.states[ETH] == "stale"
    assert client.view.tops == scene.market.tops(5)
    assert scene.publisher.counters.resumed == 1


def test_what_was_sent_into_a_broken_connection_is_sent_again(scene: Scene) -> None:
    client = scene.client()
    for number in range(5):
        scene.market.trade(*BTC, number)
        scene.pump()
    client.link.take()  # sent, but never arrived
    client.disconnect()
    client.connect(resume(client, client.view.sequence))
    resumed, *rest = client.read()
    assert (resumed["from"], resumed["to"]) == (3, 7)
    assert [message["sequence"] for message in rest] == [3, 4, 5, 6, 7]
    assert client.view.trades == {BTC: ["0", "1", "2", "3", "4"]}


def test_a_resume_by_request_takes_the_place_of_the_new_session(scene: Scene) -> None:
    client = scene.client()
    token, sequence = client.view.token, client.view.sequence
    client.disconnect()
    scene.market.trade(*BTC, 1)
    scene.pump()
    client.connect(Opening(None, None))
    client.link.take()
    client.ask(Resume(session=token, sequence=sequence))
    assert client.kinds() == ["resumed", "trades"]
    assert client.session.token == token
    assert len(scene.publisher.sessions) == 1


def test_a_resume_that_asks_for_more_than_is_kept_lags() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, resume_messages=3))
    client = scene.client()
    for number in range(10):
        scene.market.trade(*BTC, number)
        scene.pump()
    client.link.take()
    client.disconnect()
    client.connect(resume(client, client.view.sequence))
    assert client.kinds() == ["resumed", "lagged", "snapshot"]
    assert client.view.lagged[0] == {
        "sequence": 13,
        "type": "lagged",
        "from": 3,
        "to": 12,
        "reason": "expired",
    }


def test_a_session_that_lagged_while_away_says_so() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, queue_messages=3))
    client = scene.client()
    client.disconnect()
    for number in range(10):
        scene.market.trade(*BTC, number)
        scene.pump()
    client.connect(resume(client, client.view.sequence))
    assert client.kinds() == ["resumed", "lagged", "snapshot"]
    assert client.view.lagged[0]["to"] == 12


@pytest.mark.parametrize(
    ("change", "refusal"),
    [("token", "session_unknown"), ("form", "encoding_changed"), ("sequence", "sequence_ahead")],
)
def test_a_resume_that_cannot_be_begins_anew(scene: Scene, change: str, refusal: str) -> None:
    client = scene.client()
    client.disconnect()
    token = "0" * 32 if change == "token" else client.view.token
    if change == "form":
        client.form = WireForm(Encoding.MSGPACK)
    sequence = 99 if change == "sequence" else 2
    client.connect(Opening(None, Resume(session=token, sequence=sequence)))
    welcome, snapshot = client.read()
    assert welcome["resume_refused"] == refusal
    assert snapshot["type"] == "snapshot"
    assert scene.publisher.counters.resume_refused == 1


def test_a_resume_request_that_cannot_be_is_refused(scene: Scene) -> None:
    client = scene.client()
    for session in ("0" * 32, client.session.token):
        with pytest.raises(InvalidRequestError, match="cannot resume"):
            client.ask(Resume(session=session, sequence=0))
    client.ask(Ping())
    assert client.kinds() == ["pong"]


def test_a_resume_takes_the_session_from_a_connection_that_still_stands(scene: Scene) -> None:
    client = scene.client()
    old = client.link
    client.connect(resume(client, client.view.sequence))
    assert old.closed is not None
    assert old.closed[0] == 1008
    scene.market.trade(*BTC, 1)
    scene.pump()
    assert client.kinds() == ["resumed", "trades"]
    assert old.frames == []
    client.disconnect()
    assert scene.publisher.sessions != {}, "and the session is still to be resumed"


def test_sessions_are_forgotten_after_a_while_and_beyond_a_number() -> None:
    scene = Scene(FanoutSettings(metrics_s=3_600, heartbeat_s=3_600, resume_s=30, sessions_detached_max=2))
    clients = [scene.client() for _ in range(4)]
    for client in clients[:3]:
        client.disconnect()
    assert set(scene.publisher.sessions) == {client.view.token for client in clients[1:]}
    scene.market.clock.advance(31 * SECOND)
    scene.publisher.sweep()
    assert set(scene.publisher.sessions) == {clients[3].view.token}
    assert [len(group.members) for group in scene.publisher.groups()] == [1]


def test_nothing_is_left_of_clients_that_are_gone(scene: Scene) -> None:
    for form in (WireForm(), WireForm(Encoding.MSGPACK, compressed=True)):
        scene.client(form=form).disconnect()
    scene.market.clock.advance(31 * SECOND)
    scene.publisher.sweep()
    scene.advance(2_000)
    assert scene.publisher.sessions == {}
    assert list(scene.publisher.groups()) == []
    assert scene.publisher._calendar.next_due_ns() is None


def test_what_is_kept_for_a_resume_is_bounded(scene: Scene) -> None:
    client = scene.client()
    for number in range(2_000):
        scene.market.trade(*BTC, number)
        scene.pump()
        client.link.take()
    assert client.session._cost <= QUIET.resume_bytes
    assert client.session._cost == sum(body.cost for body in client.session._kept)
    assert len(client.session._kept) > 100
