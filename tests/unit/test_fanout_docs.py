"""The examples in the API's documentation are what the encoder writes and the decoder reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bookrunner.app.settings import Settings
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.kernels.layout import CROSSED_TOLERANCE
from bookrunner.wire import client_message as messages
from bookrunner.wire import client_request as requests
from bookrunner.wire.client_message import Encoding, WireForm, encode_body, encode_part

DOCUMENT = Path(__file__).parents[2] / "docs" / "market-data-api.md"
EXAMPLE = re.compile(r"<!-- (example|request): (\w+) -->\n```json\n(.*?)\n```", re.DOTALL)
BLOCKS = {(kind, name): text for kind, name, text in EXAMPLE.findall(DOCUMENT.read_text(encoding="utf-8"))}

SETTINGS = FanoutSettings()
SESSION = "6513270e269e0d37f2a74de452e6b438"
MIDNIGHT_NS = 1_723_075_200_000_000_000


def part(value: object) -> msgspec.Raw:
    return encode_part(value, Encoding.JSON)


def usdm_book(update_id: int, ts_recv_ns: int, best_lots: str) -> msgspec.Raw:
    bids = [("55123.4", best_lots), ("55123.3", "0.002")]
    asks = [("55123.5", "1.07"), ("55123.9", "0.45")]
    return part(
        messages.BookView("binance_usdm", "BTCUSDT", "live", update_id, ts_recv_ns, bids, asks),
    )


EVERYTHING = messages.SubscriptionView(
    [("books", "*", "*"), ("metrics", "*", "*"), ("trades", "*", "*")], 5, 1_000
)
METRICS = {"messages_per_second": 5012.0}
EXAMPLES: dict[str, tuple[int, messages.Message]] = {
    "welcome": (
        1,
        messages.Welcome(
            SESSION,
            MIDNIGHT_NS,
            "json",
            compressed=False,
            heartbeat_ms=15_000,
            resume_ms=30_000,
            subscription=EVERYTHING,
            limits=SETTINGS.announced_limits,
        ),
    ),
    "snapshot": (
        2,
        messages.Snapshot(
            MIDNIGHT_NS + 100_000,
            [
                usdm_book(5_131_085_341_281, MIDNIGHT_NS - 2_000_000, "3.251"),
                part(messages.BookView("bybit_linear", "BTCUSDT", "syncing", 0, 0, [], [])),
            ],
            [],
            part(METRICS),
        ),
    ),
    "books": (
        3,
        messages.Books(
            MIDNIGHT_NS + 1_000_000_000,
            [usdm_book(5_131_085_342_017, MIDNIGHT_NS + 999_000_000, "2.9")],
            [],
        ),
    ),
    "consolidated": (
        4,
        messages.Books(
            MIDNIGHT_NS + 2_000_000_000,
            [],
            [
                part(
                    messages.ConsolidatedView(
                        "BTC/USDT:perpetual",
                        ("binance_usdm", "bybit_linear"),
                        [("55123.4", "2.9", "binance_usdm"), ("55123.4", "0.5", "bybit_linear")],
                        [("55123.5", "1.07", "binance_usdm"), ("55123.6", "0.2", "bybit_linear")],
                    )
                )
            ],
        ),
    ),
    "trades": (
        5,
        messages.Trades(
            "binance_usdm",
            "BTCUSDT",
            MIDNIGHT_NS + 2_400_000_000,
            [
                messages.TradeView(
                    "5131085342019",
                    "55123.5",
                    "0.015",
                    "buy",
                    MIDNIGHT_NS + 2_397_000_000,
                    MIDNIGHT_NS + 2_396_000_000,
                )
            ],
        ),
    ),
    "state": (
        6,
        messages.State("binance_usdm", "BTCUSDT", "stale", "gap", MIDNIGHT_NS + 3_000_000_000),
    ),
    "metrics": (7, messages.Metrics(MIDNIGHT_NS + 4_000_000_000, part(METRICS))),
    "heartbeat": (8, messages.Heartbeat(MIDNIGHT_NS + 15_000_000_000)),
    "lagged": (4_112, messages.Lagged(9, 4_111, "queue")),
    "resumed": (
        8,
        messages.Resumed(SESSION, 9, 12, messages.SubscriptionView([("books", "*", "BTCUSDT")], 5, 100)),
    ),
    "subscribed": (
        13,
        messages.Subscribed(
            1,
            messages.SubscriptionView(
                [("books", "binance_usdm", "BTCUSDT"), ("trades", "binance_usdm", "BTCUSDT")], 20, 100
            ),
        ),
    ),
    "list": (
        14,
        messages.Listing(
            "books", [messages.BookListing("binance_usdm", "BTCUSDT", "BTC/USDT:perpetual", "live")]
        ),
    ),
    "pong": (15, messages.Pong(7, MIDNIGHT_NS + 16_000_000_000)),
    "error": (
        16,
        messages.Error(
            None,
            messages.ErrorBody(
                "INVALID_REQUEST",
                "depth is out of range",
                messages.ErrorDetails("depth", 5_000, "between 1 and 100"),
            ),
        ),
    ),
}
REQUESTS: dict[str, requests.Request] = {
    "subscribe": requests.Subscribe(
        id=1,
        venues=["binance_usdm"],
        symbols=["BTCUSDT"],
        kinds=[messages.Kind.BOOKS, messages.Kind.TRADES],
        depth=20,
        throttle_ms=100,
    ),
    "unsubscribe": requests.Unsubscribe(id=2, symbols=["BTCUSDT"], kinds=[messages.Kind.TRADES]),
    "resume": requests.Resume(session=SESSION, sequence=8),
    "snapshot": requests.SnapshotNow(),
    "list": requests.ListBooks(id="books"),
    "ping": requests.Ping(id=7),
}


def all_messages() -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in messages.Message.__subclasses__()}


def test_every_message_and_request_has_an_example_and_none_is_of_something_else() -> None:
    documented = {name for kind, name in BLOCKS if kind == "example"}
    assert documented == set(EXAMPLES)
    assert {str(type(message).__struct_config__.tag) for _, message in EXAMPLES.values()} == all_messages()
    assert {name for kind, name in BLOCKS if kind == "request"} == set(REQUESTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_encoder_writes_the_documented_message(name: str) -> None:
    sequence, message = EXAMPLES[name]
    written = encode_body(message, WireForm()).numbered(sequence)
    documented: Any = msgspec.json.decode(BLOCKS["example", name])
    assert msgspec.json.decode(written) == documented
    assert list(msgspec.json.decode(written)) == list(documented), "members in the documented order"


@pytest.mark.parametrize("name", REQUESTS)
def test_the_decoder_reads_the_documented_request(name: str) -> None:
    payload = BLOCKS["request", name].encode()
    assert requests.decode_request(payload, Encoding.JSON, SETTINGS.request_limits) == REQUESTS[name]


def test_the_limits_said_to_be_settings_are_and_have_the_same_defaults() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").replace("\n", " ")
    names = re.findall(r"`(\w+)`", text.split("in `[fanout]`:")[1].split(";")[0])
    assert len(names) == 5
    configured = Settings()
    for name in names:
        assert getattr(configured.fanout, name) == getattr(SETTINGS, name), name
    assert configured.book.levels == SETTINGS.depth_max


def test_the_documented_tolerance_of_crossed_books_is_the_kernels() -> None:
    assert CROSSED_TOLERANCE == 3
    assert "for up to three messages" in DOCUMENT.read_text(encoding="utf-8")


def test_the_documented_limits_are_the_defaults() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for shown in (
        f"| {SETTINGS.request_bytes_max:,} bytes |",
        f"{SETTINGS.requests_per_second}/s, bursts of {SETTINGS.requests_burst}",
        f"| topics of a client | {SETTINGS.subscriptions_max} |",
        f"1 to {SETTINGS.depth_max}",
        f"{SETTINGS.throttle_min_ms} to {SETTINGS.throttle_max_ms:,} ms",
        f"| clients | {SETTINGS.clients_max:,} |",
        f"{SETTINGS.handshakes_max}, {SETTINGS.handshake_timeout_s:g} s each",
        f"{SETTINGS.queue_messages:,} messages or {SETTINGS.queue_bytes // 2**20} MiB",
        f"nothing | {SETTINGS.lag_after_s:g} s |",
        f"nothing | {SETTINGS.stall_timeout_s:g} s |",
        f"pings included | {SETTINGS.silence_timeout_s:g} s |",
        f"{SETTINGS.resume_s:g} s; {SETTINGS.resume_messages:,} messages",
        f"or {SETTINGS.resume_bytes // 1024} KiB",
        f"multiple of {SETTINGS.slot_ms} ms",
    ):
        assert shown in text.replace("\n", " "), shown
