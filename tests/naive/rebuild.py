"""Order books rebuilt the plain way: json, Decimal and a dict a side; shares no code with the product.

The rules are written out once more, from the venues' documents, so that a mistake has to be made twice.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass
class NaiveRebuild:
    """One book: absolute quantities, every update's ids checked."""

    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)
    last_id: int | None = None
    bridged: bool = False
    frames: int = 0
    updates: int = 0
    gaps: int = 0
    crossed: int = 0
    waiting: list[dict[str, Any]] = field(default_factory=list)

    def load(self, last_id: int, bids: list[list[str]], asks: list[list[str]]) -> None:
        self.bids = {Decimal(p): Decimal(q) for p, q in bids if Decimal(q)}
        self.asks = {Decimal(p): Decimal(q) for p, q in asks if Decimal(q)}
        self.last_id = last_id
        self.bridged = False

    def write(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, quantity in levels:
                if Decimal(quantity):
                    side[Decimal(price)] = Decimal(quantity)
                else:
                    side.pop(Decimal(price), None)
        self.updates += 1
        if self.bids and self.asks and max(self.bids) >= min(self.asks):
            self.crossed += 1

    def top(self, depth: int) -> tuple[list[list[Decimal]], list[list[Decimal]]]:
        bids = sorted(self.bids.items(), reverse=True)[:depth]
        asks = sorted(self.asks.items())[:depth]
        return [list(level) for level in bids], [list(level) for level in asks]

    def binance(self, data: dict[str, Any], *, futures: bool) -> None:
        """Take one Binance diff: buffered until a snapshot is there, then chained by its ids."""
        self.frames += 1
        if self.last_id is None:
            self.waiting.append(data)
        else:
            self._chain(data, futures=futures)

    def binance_snapshot(self, data: dict[str, Any], *, futures: bool) -> None:
        self.load(data["lastUpdateId"], data["bids"], data["asks"])
        for waiting in self.waiting:
            self._chain(waiting, futures=futures)
        self.waiting.clear()

    def _chain(self, data: dict[str, Any], *, futures: bool) -> None:
        assert self.last_id is not None
        if not self.bridged:
            if data["u"] < self.last_id + (0 if futures else 1):
                return
            bridge = data["U"] <= self.last_id + (0 if futures else 1)
            if futures:
                bridge = bridge or data["pu"] <= self.last_id
            self.gaps += not bridge
            self.bridged = True
        else:
            follows = data["pu"] == self.last_id if futures else data["U"] == self.last_id + 1
            self.gaps += not follows
        self.last_id = data["u"]
        self.write(data["b"], data["a"])

    def bybit(self, message: dict[str, Any]) -> None:
        """Take one Bybit v5 order-book message; ``u`` of deltas is checked to be contiguous."""
        self.frames += 1
        data = message["data"]
        if message["type"] == "snapshot" or data["u"] == 1:
            self.load(data["u"], data["b"], data["a"])
            self.write([], [])
            return
        self.gaps += data["u"] != (self.last_id or 0) + 1
        self.last_id = data["u"]
        self.write(data["b"], data["a"])


def recorded_lines(path: Path) -> list[bytes]:
    """Return a recording's lines, whole."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        return list(file.read().splitlines())


def rebuild_binance(paths: list[Path], *, futures: bool) -> dict[str, NaiveRebuild]:
    """Rebuild every book of Binance recordings, files in the order given."""
    books: dict[str, NaiveRebuild] = {}
    for path in paths:
        for line in recorded_lines(path):
            where, body = _payload(line)
            if not body.startswith(b"{") or (b'"e":' not in body and b"lastUpdateId" not in body):
                continue
            document = json.loads(body)
            data = document.get("data", document)
            if data.get("e") == "depthUpdate":
                books.setdefault(data["s"], NaiveRebuild()).binance(data, futures=futures)
            elif "lastUpdateId" in data and "bids" in data:
                symbol = where or next(iter(books))
                books.setdefault(symbol, NaiveRebuild()).binance_snapshot(data, futures=futures)
    return books


def _payload(line: bytes) -> tuple[str, bytes]:
    """Return ``(symbol of a REST answer's URL, JSON)`` of a line of any of the formats."""
    if line.startswith(b"{"):
        return "", line
    head, _, body = line.partition(b" ")
    if head.startswith(b"http"):
        symbol = head.partition(b"symbol=")[2].partition(b"&")[0].decode()
        return symbol, body.partition(b": ")[2]
    if head.startswith(b"ws") or head == b"configuration:":
        return "", b""
    return "", body


def rebuild_bybit(path: Path) -> dict[str, NaiveRebuild]:
    """Rebuild every order book of a cf3 recording or a cfraw recording of Bybit v5."""
    books: dict[str, NaiveRebuild] = {}
    for line in recorded_lines(path):
        if line.startswith(b'{"t":'):
            outer = json.loads(line)
            if outer["t"] != "recv":
                continue
            message = json.loads(outer["data"])
        else:
            body = line.partition(b" ")[2]
            if not body.startswith(b'{"topic"'):
                continue
            message = json.loads(body)
        if str(message.get("topic", "")).startswith("orderbook."):
            books.setdefault(message["data"]["s"], NaiveRebuild()).bybit(message)
    return books
