"""No bytes that a client may send are more than a request or a refusal that can be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.errors import InvalidRequestError
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.wire.client_deflate import deflate_body, inflate, stored_block
from bookrunner.wire.client_message import Encoding
from bookrunner.wire.client_request import decode_query, decode_request
from damaged_bytes import fuzzed

LIMITS = FanoutSettings().request_limits


REQUESTS: list[dict[str, Any]] = [
    {"op": "subscribe", "venues": ["v"], "symbols": ["S"], "kinds": ["books"], "depth": 5, "throttle_ms": 50},
    {"op": "unsubscribe", "symbols": ["S"], "id": "x"},
    {"op": "resume", "session": "abc", "sequence": 3},
]


def refused(reading: Callable[[], object]) -> dict[str, object]:
    """Return what a client is told about bytes that are refused; nothing else may be raised."""
    try:
        reading()
    except InvalidRequestError as error:
        return error.fields
    return {}


@pytest.mark.parametrize("encoding", list(Encoding))
@given(data=st.data())
def test_any_bytes_are_a_request_or_a_refusal_that_can_be_told(
    encoding: Encoding, data: st.DataObject
) -> None:
    encode = msgspec.json.encode if encoding is Encoding.JSON else msgspec.msgpack.encode
    payload = data.draw(fuzzed([encode(request) for request in REQUESTS]))
    told = refused(lambda: decode_request(payload, encoding, LIMITS))
    assert len(msgspec.json.encode(told)) < 2_000
    assert len(msgspec.msgpack.encode(told)) < 2_000


@given(fuzzed([b"symbols=A,B&depth=5", b"session=a&sequence=1", b"a=%ff&b=%zz"]))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    told = refused(lambda: decode_query(query.decode("ascii", "replace"), LIMITS))
    assert len(msgspec.json.encode(told)) < 2_000


@given(fuzzed([deflate_body(b'{"op":"ping"}'), stored_block(b"abc")]))
def test_any_bytes_inflate_within_the_bound_or_are_refused(payload: bytes) -> None:
    inflated: list[bytes | None] = []
    refused(lambda: inflated.append(inflate(payload, 1_000)))
    assert all(message is None or len(message) <= 1_000 for message in inflated)
