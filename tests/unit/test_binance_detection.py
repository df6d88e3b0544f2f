"""Which venue a recording is from: by URL, by the shape of its frames, or not said."""

from __future__ import annotations

import pytest

from bookrunner.venues.binance import feed as binance
from bookrunner.venues.bybit import feed as bybit
from conformance.cases import RECORDED, VENUES, RecordedFrame, answer


def _detect(frame: bytes, url: str = "") -> str | None:
    return binance.detect_venue(frame, url) or bybit.detect_venue(frame, url)


@pytest.mark.parametrize(
    ("url", "venue"),
    [
        ("wss://fstream.binance.com/stream?streams=btcusdt@depth", "binance_usdm"),
        ("wss://fstream.binance.com/public/stream", "binance_usdm"),
        ("https://fapi.binance.com/fapi/v1/depth?symbol=X", "binance_usdm"),
        ("wss://dstream.binance.com/stream", "binance_coinm"),
        ("https://dapi.binance.com/dapi/v1/depth", "binance_coinm"),
        ("wss://stream.binance.com:9443/stream", "binance_spot"),
        ("wss://data-stream.binance.vision/stream", "binance_spot"),
        ("https://www.binance.com/api/v1/depth?symbol=DOTUSDT", "binance_spot"),
        ("wss://stream.binance.us:9443/stream", "binance_us"),
        ("https://api.binance.us/api/v1/depth", "binance_us"),
        ("wss://stream.bybit.com/v5/public/linear", "bybit_linear"),
        ("wss://stream.bybit.com/v5/public/spot", "bybit_spot"),
        ("https://api.bybit.com/v5/market/instruments-info?&category=linear&limit=1000", "bybit_linear"),
        ("wss://stream.bybit.com/realtime", None),
        ("wss://stream.bybit.com/v5/public/inverse", None),
        ("wss://evil-binance.com/stream", None),
    ],
)
def test_url_tells(url: str, venue: str | None) -> None:
    assert _detect(b"{}", url) == venue


SAME_EVERYWHERE = {"bars"}


@pytest.mark.parametrize("case", [c for c in RECORDED if c.channel not in SAME_EVERYWHERE], ids=str)
def test_shape_tells(case: RecordedFrame) -> None:
    # Binance.US speaks spot's protocol to the letter.
    expected = "binance_spot" if case.venue == "binance_us" else case.venue
    assert _detect(case.frame) == expected


@pytest.mark.parametrize("venue", [v for v in VENUES if v.startswith("binance")])
def test_snapshots_tell(venue: str) -> None:
    expected = "binance_spot" if venue == "binance_us" else venue
    assert _detect(answer(venue, "snapshot")) == expected


@pytest.mark.parametrize(
    "frame",
    [b"", b"x", b"{}", b'{"result":null,"id":1}', b'{"topic":"orderBookL2_25.BTCUSD","type":"delta"}'],
)
def test_what_says_nothing_is_none(frame: bytes) -> None:
    assert _detect(frame) is None
