"""Client messages and requests as bytes: forms, compression, refusals, settings."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.errors import ConfigurationError, InvalidRequestError
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.wire.client_deflate import accept_offer, deflate_body, inflate, stored_block
from bookrunner.wire.client_message import Encoding, Trades, TradeView, WireForm, encode_body
from bookrunner.wire.client_request import Subscribe, decode_query, decode_request
from fanout_client import decode_frame

LIMITS = FanoutSettings().request_limits
FORMS = [WireForm(encoding, compressed) for encoding in Encoding for compressed in (False, True)]
BASE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def trades(count: int) -> Trades:
    return Trades("venue", "SYMBOL", 1, [TradeView(str(n), "1.5", "2", "buy", n, n) for n in range(count)])


@pytest.mark.parametrize("form", FORMS)
@given(sequence=st.integers(0, 2**63 - 1), count=st.integers(0, 300))
def test_one_body_serves_any_number(form: WireForm, sequence: int, count: int) -> None:
    body = encode_body(trades(count), form)
    decoded = decode_frame(body.numbered(sequence), binary=body.binary, compressed=body.compressed)
    assert decoded == {"sequence": sequence, "type": "trades", **msgspec.to_builtins(trades(count))}


def test_a_body_costs_each_client_its_share() -> None:
    alone, shared = encode_body(trades(100), WireForm()), encode_body(trades(100), WireForm(), 50)
    assert alone.cost == len(alone.tail) + 8
    assert shared.cost == len(shared.tail) // 50 + 8


@given(st.binary(max_size=5_000), st.binary(max_size=300))
def test_stored_and_compressed_blocks_join(body: bytes, prefix: bytes) -> None:
    joined = stored_block(prefix) + deflate_body(body) + b"\x00\x00\xff\xff"
    assert zlib.decompressobj(-15).decompress(joined) == prefix + body
    assert zlib.decompressobj(-12).decompress(joined) == prefix + body, "a 4 KiB window is enough"


def test_inflating_is_bounded() -> None:
    bomb = deflate_body(bytes(10_000_000))
    assert len(bomb) < 50_000
    assert inflate(bomb, 1_000) is None
    assert inflate(deflate_body(b"x" * 1_000), 1_000) == b"x" * 1_000
    assert inflate(deflate_body(b"x" * 1_001), 1_000) is None


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", BASE),
        ("permessage-deflate; client_max_window_bits", BASE),
        ("Permessage-Deflate; client_max_window_bits=10", BASE),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", BASE),
        ("permessage-deflate; server_max_window_bits=15", BASE + "; server_max_window_bits=12"),
        ('permessage-deflate; server_max_window_bits="12"', BASE + "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=9", None),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", BASE),
        ("permessage-deflate; server_max_window_bits=x", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=99", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; color", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("x-webkit-deflate-frame", None),
        ("", None),
    ],
)
def test_offers_of_compression(offer: str, answer: str | None) -> None:
    assert accept_offer([offer]) == answer


def test_the_first_offer_over_several_headers_counts() -> None:
    assert accept_offer(["foo", "bar, permessage-deflate"]) == BASE


@pytest.mark.parametrize(
    ("payload", "field", "value"),
    [
        (b"", "message", ""),
        (b"null", "message", None),
        (b"NaN", "message", "NaN"),
        (b'{"op":"ping"} trailing', "message", '{"op":"ping"} trailing'),
        (b"{}", "op", None),
        (b'{"op":7}', "op", 7),
        (b'{"op":"subscribe","bogus":true}', "bogus", True),
        (b'{"op":"subscribe","symbols":"BTCUSDT"}', "symbols", "BTCUSDT"),
        (b'{"op":"subscribe","symbols":["BTCUSDT",5]}', "symbols[1]", 5),
        (b'{"op":"subscribe","symbols":[""]}', "symbols", ""),
        (b'{"op":"subscribe","kinds":["candles"]}', "kinds[0]", "candles"),
        (b'{"op":"subscribe","kinds":[]}', "kinds", []),
        (b'{"op":"subscribe","depth":101}', "depth", 101),
        (b'{"op":"subscribe","depth":0}', "depth", 0),
        (b'{"op":"subscribe","depth":2.5}', "depth", 2.5),
        (b'{"op":"subscribe","throttle_ms":60001}', "throttle_ms", 60_001),
        (b'{"op":"resume","session":"x"}', "sequence", None),
        (b'{"op":"resume","session":"x","sequence":-1}', "sequence", -1),
        (b'{"op":"ping","id":[]}', "id", "[]"),
        (b'{"op":"ping","id":99999999999999999999}', "id", "99999999999999999999"),
    ],
)
def test_refusals_name_field_value_and_rule(payload: bytes, field: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_request(payload, Encoding.JSON, LIMITS)
    assert (caught.value.fields["field"], caught.value.fields["value"]) == (field, value)
    assert caught.value.fields["rule"]


def test_a_long_value_is_shortened_and_the_id_repeated() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_request(b'{"op":"subscribe","id":4,"symbols":["%s"]}' % (b"x" * 20_000), Encoding.JSON, LIMITS)
    assert len(str(caught.value.fields["value"])) == 80
    assert caught.value.fields["id"] == 4


def test_queries() -> None:
    opening = decode_query("symbols=BTCUSDT,ETHUSDT&kinds=books&throttle_ms=100", LIMITS)
    assert opening.subscribe == Subscribe(
        symbols=["BTCUSDT", "ETHUSDT"],
        kinds=opening.subscribe.kinds if opening.subscribe else None,
        throttle_ms=100,
    )
    assert decode_query("", LIMITS).subscribe is None
    resume = decode_query("session=abc&sequence=7", LIMITS).resume
    assert resume is not None
    assert (resume.session, resume.sequence) == ("abc", 7)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"port": -1}, "fanout.port"),
        ({"throttle_ms": 10}, "fanout.throttle_ms"),
        ({"depth": 200}, "fanout.depth"),
        ({"slot_ms": 100}, "fanout.slot_ms"),
        ({"queue_messages": 0}, "fanout.queue_messages"),
        ({"request_bytes_max": 10}, "fanout.request_bytes_max"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FanoutSettings(**changed)  # type: ignore[arg-type]
    assert caught.value.fields["field"] == field
    assert caught.value.fields["rule"]
