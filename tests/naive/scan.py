"""Depth frames read in the plainest way: strict json, Decimal, a check for each field."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class RefusedError(Exception):
    """Not a depth frame for this book."""


@dataclass
class Message:
    first_id: int
    final_id: int
    previous_id: int
    ts_event_ns: int
    ts_match_ns: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    snapshot: bool = False
    off_grid: bool = False


def strict_json(frame: bytes) -> Any:
    """Parse JSON as the standard has it: no NaN, no doubled keys, valid UTF-8."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise RefusedError("doubled key")
        return dict(pairs)

    def constant(name: str) -> Any:
        raise RefusedError(name)

    try:
        return json.loads(frame.decode(), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(str(error)) from error


def _require(condition: object) -> None:
    if not condition:
        raise RefusedError


def _id(value: Any) -> int:
    _require(type(value) is int and value >= 0)
    return int(value)


def _time_ns(value: Any) -> int:
    number = _id(value)
    _require(len(str(number)) in (13, 16))
    return number * (10**6 if len(str(number)) == 13 else 10**3)


def _steps(text: Any, step: Decimal) -> tuple[int, bool]:
    _require(isinstance(text, str) and DECIMAL.fullmatch(text) and len(text.replace(".", "")) <= 18)
    steps = Decimal(text) / step
    return int(steps), steps != int(steps)


def _levels(value: Any, tick: Decimal, lot: Decimal) -> tuple[list[tuple[int, int]], bool]:
    _require(isinstance(value, list))
    levels, off_grid = [], False
    for level in value:
        _require(isinstance(level, list) and len(level) == 2)
        price, price_off = _steps(level[0], tick)
        quantity, quantity_off = _steps(level[1], lot)
        _require(Decimal(level[0]) > 0)
        levels.append((price, quantity))
        off_grid = off_grid or price_off or quantity_off
    return levels, off_grid


def binance_depth(frame: bytes, symbol: str, tick: Decimal, lot: Decimal, *, futures: bool) -> Message:
    data = strict_json(frame)
    _require(isinstance(data, dict))
    if "stream" in data:
        _require(set(data) == {"stream", "data"} and isinstance(data["stream"], str))
        _require(re.fullmatch(re.escape(symbol.lower()) + "@depth(@.*)?", data["stream"]))
        data = data["data"]
        _require(isinstance(data, dict))
    _require(set(data) <= {"e", "E", "T", "s", "U", "u", "pu", "b", "a", "ps", "st"})
    _require(data.get("e") == "depthUpdate" and data.get("s") == symbol)
    _require({"E", "U", "u", "b", "a"} <= set(data) and (not futures or "pu" in data))
    bids, bids_off = _levels(data["b"], tick, lot)
    asks, asks_off = _levels(data["a"], tick, lot)
    return Message(
        first_id=_id(data["U"]),
        final_id=_id(data["u"]),
        previous_id=_id(data["pu"]) if "pu" in data else -1,
        ts_event_ns=_time_ns(data["E"]),
        ts_match_ns=_time_ns(data["T"]) if "T" in data else 0,
        bids=bids,
        asks=asks,
        off_grid=bids_off or asks_off,
    )


def bybit_depth(frame: bytes, symbol: str, tick: Decimal, lot: Decimal) -> Message:
    outer = strict_json(frame)
    _require(isinstance(outer, dict) and set(outer) - {"cts"} == {"topic", "type", "ts", "data"})
    _require(isinstance(outer["topic"], str) and outer["type"] in ("snapshot", "delta"))
    _require(re.fullmatch(r"orderbook\.[0-9]+\." + re.escape(symbol), outer["topic"]))
    data = outer["data"]
    _require(isinstance(data, dict) and set(data) == {"s", "b", "a", "u", "seq"} and data["s"] == symbol)
    bids, bids_off = _levels(data["b"], tick, lot)
    asks, asks_off = _levels(data["a"], tick, lot)
    _id(data["seq"])
    return Message(
        first_id=_id(data["u"]),
        final_id=_id(data["u"]),
        previous_id=-1,
        ts_event_ns=_time_ns(outer["ts"]),
        ts_match_ns=_time_ns(outer["cts"]) if "cts" in outer else 0,
        bids=bids,
        asks=asks,
        snapshot=outer["type"] == "snapshot" or data["u"] == 1,
        off_grid=bids_off or asks_off,
    )
