"""Faults, each by its name, and the plan that says when they happen.

A plan is fed occasions (a message about to be sent, a subscription, a request) and answers with the faults
that strike. It knows no socket and no clock, so the same seed strikes at the same messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum, StrEnum, auto
from random import Random
from typing import Any

import msgspec

from bookrunner.core.enums import Channel
from bookrunner.core.errors import ConfigurationError
from bookrunner.venues.simulated.events import BYBIT_VENUES, VENUES

MAX_STRUCK = 1_000
"""Struck faults remembered for the status page."""
RANDOM_GAP_MESSAGES = (100, 400)
"""Messages between two random faults: a range to draw from."""


class Occasion(Enum):
    """When a fault can strike."""

    MESSAGE = auto()
    SUBSCRIBE = auto()
    SNAPSHOT_REQUEST = auto()
    REQUEST = auto()


class FaultKind(StrEnum):
    """Everything that the simulator can do wrong."""

    DROPPED = "dropped"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    """Swapped with the next message of its stream."""
    DELAYED = "delayed"
    """Sent only after ``messages`` later ones of its stream."""
    BROKEN_PREVIOUS_ID = "broken_previous_id"
    """Binance futures ``pu``, spot ``U``; Bybit ``u``."""
    BROKEN_FINAL_ID = "broken_final_id"
    """``u``."""
    UNSOLICITED_SNAPSHOT = "unsolicited_snapshot"
    """Bybit: a snapshot in mid-stream, true to the book."""
    MAINTENANCE = "maintenance"
    """The book is emptied, then refilled by the next update; Bybit restarts its ids at ``u = 1``."""
    OVERSIZED = "oversized"
    """The frame is padded to ``bytes``."""
    FRAGMENTED = "fragmented"
    """The message comes as several WebSocket fragments."""
    BAD_JSON = "bad_json"
    INVALID_UTF8 = "invalid_utf8"
    WRONG_TYPE = "wrong_type"
    NEGATIVE_NUMBER = "negative_number"
    NOT_A_NUMBER = "not_a_number"
    OFF_TICK = "off_tick"
    """A level finer than the tick, set and removed within the message."""
    UNKNOWN_SYMBOL = "unknown_symbol"
    ABRUPT_CLOSE = "abrupt_close"
    """The connections are reset without a close frame."""
    CLOSE_1008 = "close_1008"
    DAILY_CUT = "daily_cut"
    """All connections of the venue are cut, as at the age of 24 hours."""
    MUTE_SOCKET = "mute_socket"
    """The connections answer pings and bring no more data."""
    NO_PONG = "no_pong"
    """The connections no longer answer pings."""
    ACK_ONLY = "ack_only"
    """The subscription is acknowledged and brings no data on that connection."""
    SNAPSHOT_BEFORE_ACK = "snapshot_before_ack"
    """Bybit."""
    LATE_SNAPSHOT = "late_snapshot"
    """The answer of a snapshot request waits for ``seconds``."""
    OLD_SNAPSHOT = "old_snapshot"
    """The answer of a snapshot request is the book as it began."""
    RATE_LIMITED = "rate_limited"
    """The budget is spent: 429 for ``seconds``; asking on leads to 418 with a growing ban."""
    UNAVAILABLE = "unavailable"
    """503."""


_OCCASIONS = {
    FaultKind.ACK_ONLY: Occasion.SUBSCRIBE,
    FaultKind.SNAPSHOT_BEFORE_ACK: Occasion.SUBSCRIBE,
    FaultKind.LATE_SNAPSHOT: Occasion.SNAPSHOT_REQUEST,
    FaultKind.OLD_SNAPSHOT: Occasion.SNAPSHOT_REQUEST,
    FaultKind.RATE_LIMITED: Occasion.REQUEST,
    FaultKind.UNAVAILABLE: Occasion.REQUEST,
}
BYBIT_ONLY = frozenset({FaultKind.UNSOLICITED_SNAPSHOT, FaultKind.SNAPSHOT_BEFORE_ACK})
RECOVERABLE = tuple(kind for kind in FaultKind if kind not in {FaultKind.NO_PONG, FaultKind.RATE_LIMITED})
"""Kinds that the random mode draws from: a client recovers from each without waiting for minutes."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One planned fault: what, to whom, and when."""

    fault: FaultKind
    venue: str = ""
    """Empty: any."""
    symbol: str = ""
    """Empty: any."""
    channel: Channel = Channel.DEPTH
    """Kind of stream."""
    after: int = 0
    """Occasions that pass unharmed first."""
    count: int = 1
    """Occasions harmed, one after another."""
    messages: int = 3
    seconds: float = 1.0
    bytes: int = 10_485_760

    @property
    def occasion(self) -> Occasion:
        """When it can strike."""
        return _OCCASIONS.get(self.fault, Occasion.MESSAGE)

    def fits(self, occasion: Occasion, venue: str, symbol: str, channel: Channel | None) -> bool:
        """Return whether this occasion concerns it."""
        return (
            occasion is self.occasion
            and self.venue in ("", venue)
            and self.symbol in ("", symbol)
            and (channel is None or self.channel is channel)
            and (venue in BYBIT_VENUES or self.fault not in BYBIT_ONLY)
        )


def parse_fault(text: str) -> Fault:
    """Read ``dropped:symbol=BTCUSDT,after=100``.

    Raises:
        ConfigurationError: unknown fault, unknown field or a value of the wrong kind.
    """
    name, _, rest = text.partition(":")
    fields: dict[str, str] = {"fault": name.strip()}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        fields[key.strip()] = value.strip()
    return read_fault(fields)


def read_fault(fields: Any) -> Fault:
    """Read a fault from its fields, as in the body of ``POST /simulator/faults``.

    Raises:
        ConfigurationError: likewise.
    """
    try:
        fault = msgspec.convert(fields, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError("not a fault", field="fault", value=str(fields), rule=str(error)) from None
    if fault.venue and fault.venue not in VENUES:
        raise ConfigurationError("unknown venue", field="venue", value=fault.venue, rule=f"one of {VENUES}")
    if fault.fault in BYBIT_ONLY and fault.venue and fault.venue not in BYBIT_VENUES:
        raise ConfigurationError(
            "fault of another venue", field="venue", value=fault.venue, rule="only Bybit does this"
        )
    if fault.after < 0 or fault.count < 1 or fault.messages < 1 or fault.seconds < 0 or fault.bytes < 1:
        raise ConfigurationError("fault out of range", field="fault", value=str(fault), rule="not negative")
    return fault


def random_faults(
    random: Random, symbols: Sequence[tuple[str, str]], kinds: Sequence[FaultKind], count: int
) -> list[Fault]:
    """Draw ``count`` faults over ``(venue, symbol)`` pairs, each some messages after the one before."""
    passed = dict.fromkeys(symbols, 0)
    faults = []
    for _ in range(count):
        venue, symbol = random.choice(symbols)
        fitting = [kind for kind in kinds if venue in BYBIT_VENUES or kind not in BYBIT_ONLY]
        kind = random.choice(fitting)
        fault = Fault(fault=kind, venue=venue, symbol=symbol)
        if fault.occasion is Occasion.MESSAGE:
            passed[venue, symbol] += random.randint(*RANDOM_GAP_MESSAGES)
            fault = msgspec.structs.replace(fault, after=passed[venue, symbol])
        faults.append(fault)
    return faults


class _Armed:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.wait = fault.after
        self.left = fault.count


class FaultPlan:
    """The armed faults, and the memory of those that struck."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._armed = [_Armed(fault) for fault in faults]
        self.struck: deque[Fault] = deque(maxlen=MAX_STRUCK)
        self.struck_count = 0

    def arm(self, fault: Fault) -> None:
        """Add a fault while running; its ``after`` counts from now."""
        self._armed.append(_Armed(fault))

    @property
    def armed(self) -> list[Fault]:
        """Faults that have not struck as often as planned."""
        return [entry.fault for entry in self._armed]

    def strike(
        self, occasion: Occasion, venue: str, symbol: str, channel: Channel | None = None
    ) -> Sequence[Fault]:
        """Count one occasion and return the faults that strike at it."""
        if not self._armed:
            return ()
        striking = []
        for entry in self._armed:
            if not entry.fault.fits(occasion, venue, symbol, channel):
                continue
            if entry.wait:
                entry.wait -= 1
                continue
            entry.left -= 1
            striking.append(entry.fault)
        if striking:
            self._armed = [entry for entry in self._armed if entry.left]
            self.struck.extend(striking)
            self.struck_count += len(striking)
        return striking
