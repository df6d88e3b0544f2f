"""Streams, connections, subscriptions, control messages: what a feed says must fit what it reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bookrunner.core.enums import Channel
from bookrunner.engine.ports.venue_feed import Stream, VenueFeed
from bookrunner.venues.binance.protocol import STREAMS_PER_CONNECTION
from bookrunner.venues.binance.variants import VARIANTS as BINANCE
from bookrunner.venues.bybit.protocol import ARGUMENT_CHARACTERS_PER_CONNECTION
from bookrunner.venues.bybit.variants import VARIANTS as BYBIT
from conformance.cases import FEEDS, RECORDED, VENUES, RecordedFrame

ALL = frozenset(Channel)
URL = "ws://127.0.0.1:9"


def _many(feed: VenueFeed, count: int) -> list[Stream]:
    return [stream for number in range(count) for stream in feed.streams(f"COIN{number}USDT", ALL)]


def _names(messages: list[bytes]) -> list[str]:
    found: list[str] = []
    for message in messages:
        body = json.loads(message)
        found += body.get("params") or body.get("args")
    return found


@pytest.mark.parametrize("venue", VENUES)
def test_one_stream_per_channel_and_every_key_reads_back(venue: str) -> None:
    feed = FEEDS[venue]()
    streams = feed.streams("BTCUSDT", ALL)

    assert {Channel.DEPTH, Channel.TRADES, Channel.QUOTES, Channel.BARS} <= {s.channel for s in streams}
    assert len({s.key for s in streams}) == len({s.channel for s in streams}) == len(streams)
    assert [feed.stream_of(stream.key) for stream in streams] == streams


@pytest.mark.parametrize("venue", VENUES)
def test_only_the_channels_asked_for(venue: str) -> None:
    channels = [stream.channel for stream in FEEDS[venue]().streams("BTCUSDT", frozenset({Channel.DEPTH}))]
    assert channels == [Channel.DEPTH]


@pytest.mark.parametrize("venue", VENUES)
def test_plans_hold_every_stream_once_under_unique_names(venue: str) -> None:
    feed = FEEDS[venue]()
    streams = _many(feed, 700)
    plans = feed.plan(streams, URL)

    planned = [stream for plan in plans for stream in plan.streams]
    assert sorted(planned, key=lambda s: s.key) == sorted(streams, key=lambda s: s.key)
    assert len({plan.name for plan in plans}) == len(plans)
    assert all(plan.url.startswith(URL + "/") for plan in plans)
    for plan in plans:
        if venue in BINANCE:
            assert len(plan.streams) <= STREAMS_PER_CONNECTION
        else:
            assert sum(len(s.key) for s in plan.streams) <= ARGUMENT_CHARACTERS_PER_CONNECTION


@pytest.mark.parametrize("venue", VENUES)
def test_nothing_to_follow_needs_no_connection(venue: str) -> None:
    assert FEEDS[venue]().plan([], URL) == []
    assert FEEDS[venue]().subscribe((), 1) == []


@pytest.mark.parametrize("venue", VENUES)
def test_subscriptions_name_every_stream_once_within_the_limits(venue: str) -> None:
    feed = FEEDS[venue]()
    streams = tuple(_many(feed, 60))

    for messages in (feed.subscribe(streams, 7), feed.unsubscribe(streams, 7)):
        assert _names(messages) == [stream.key.decode() for stream in streams]
        identifiers = [int(body.get("id") or body["req_id"]) for body in map(json.loads, messages)]
        assert identifiers == list(range(7, 7 + len(messages)))
        most = BYBIT[venue].arguments_per_request if venue in BYBIT else 100
        assert all(len(_names([message])) <= most for message in messages)


@pytest.mark.parametrize("case", RECORDED, ids=str)
def test_recorded_frames_route_by_their_key(case: RecordedFrame) -> None:
    feed = FEEDS[case.venue]()
    found = feed.identify(case.frame)

    assert found is not None
    assert (found.key.decode(), found.channel, found.symbol) == (case.key, case.channel, case.symbol)
    if case.frame.startswith(feed.key_prefix):
        start = len(feed.key_prefix)
        key = case.frame[start : case.frame.index(b'"', start)]
        assert feed.stream_of(key) == found


@pytest.mark.parametrize("case", RECORDED, ids=str)
def test_market_data_is_no_control_message(case: RecordedFrame) -> None:
    assert FEEDS[case.venue]().control(case.frame).kind == "unknown"


CONTROL: list[tuple[tuple[str, ...], Any, str, tuple[bytes, ...]]] = [
    (tuple(BINANCE), {"result": None, "id": 1}, "ack", ()),
    (tuple(BINANCE), {"result": ["btcusdt@depth"], "id": 3}, "ack", ()),
    (tuple(BINANCE), {"code": 2, "msg": "Invalid request"}, "error", ()),
    (tuple(BINANCE), {"code": 0, "msg": "Unknown property"}, "error", ()),
    (tuple(BINANCE), {"error": {"code": 3, "msg": "Invalid JSON"}, "id": 1}, "error", ()),
    (tuple(BINANCE), {"e": "serverShutdown", "E": 1783000000000}, "notice", ()),
    (
        tuple(BYBIT),
        {"success": True, "ret_msg": "", "conn_id": "c", "req_id": "1", "op": "subscribe"},
        "ack",
        (),
    ),
    (tuple(BYBIT), {"success": True, "ret_msg": "subscribe", "conn_id": "c", "op": "subscribe"}, "ack", ()),
    (tuple(BYBIT), {"success": True, "ret_msg": "pong", "conn_id": "c", "op": "ping"}, "pong", ()),
    (
        tuple(BYBIT),
        {"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "", "op": "ping"},
        "pong",
        (),
    ),
    (tuple(BYBIT), {"args": ["1783000000000"], "op": "pong"}, "pong", ()),
    (tuple(BYBIT), {"req_id": "", "op": "pong", "args": ["1783000000000"], "conn_id": "c"}, "pong", ()),
    (tuple(BYBIT), {"retCode": 0, "retMsg": "OK", "op": "pong", "data": ["1"], "connId": "c"}, "pong", ()),
    (
        tuple(BYBIT),
        {
            "success": False,
            "ret_msg": "error:handler not found,topic:orderbook.500.BTCUSDT",
            "op": "subscribe",
        },
        "error",
        (b"orderbook.500.BTCUSDT",),
    ),
    (
        tuple(BYBIT),
        {"success": False, "ret_msg": "error:already subscribed,topic:tickers.BTCUSDT", "op": "subscribe"},
        "error",
        (b"tickers.BTCUSDT",),
    ),
    (
        tuple(BYBIT),
        {"success": True, "data": {"failTopics": [], "successTopics": ["a.b"]}, "type": "COMMAND_RESP"},
        "ack",
        (b"a.b",),
    ),
    (
        tuple(BYBIT),
        {"success": False, "data": {"failTopics": ["a.b"], "successTopics": ["c"]}, "type": "COMMAND_RESP"},
        "error",
        (b"a.b",),
    ),
]
GIVEN = [(venue, *rest) for venues, *rest in CONTROL for venue in venues]


@pytest.mark.parametrize(("venue", "message", "kind", "keys"), GIVEN)
def test_control_messages_are_understood(
    venue: str, message: Any, kind: str, keys: tuple[bytes, ...]
) -> None:
    reply = FEEDS[venue]().control(json.dumps(message).encode())
    assert (reply.kind, reply.keys) == (kind, keys)


@pytest.mark.parametrize(
    "frame", [b"", b"x", b"[]", b"{}", b"\xff\xfe", b"null", b'{"id":1}', b'{"data":' * 9000]
)
@pytest.mark.parametrize("venue", VENUES)
def test_nonsense_is_unknown_and_raises_nothing(venue: str, frame: bytes) -> None:
    feed = FEEDS[venue]()
    assert feed.control(frame).kind == "unknown"
    assert feed.identify(frame) is None


@pytest.mark.parametrize(
    "key", [b"", b"@", b"btcusdt", b"@depth", b"orderbook", b"orderbook.", b"a.b.c", b"\xff@x"]
)
@pytest.mark.parametrize("venue", VENUES)
def test_keys_that_are_no_streams_are_none(venue: str, key: bytes) -> None:
    assert FEEDS[venue]().stream_of(key) is None


@pytest.mark.parametrize("venue", VENUES)
def test_policy_bounds_everything(venue: str) -> None:
    feed = FEEDS[venue]()
    policy = feed.policy

    assert 0 < policy.pong_timeout_s <= policy.ping_interval_s
    assert 0 < policy.lifetime_s <= 24 * 3600
    assert policy.messages_per_second >= 1
    assert feed.request_limit.weight > 0
    assert feed.snapshot_request("BTCUSDT").weight <= feed.request_limit.weight
    assert all(feed.silence_ns(channel) > 0 for channel in Channel)
