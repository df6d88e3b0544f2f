"""Recordings of venue sessions: lines in, the bytes that crossed the wire out.

Four text formats, one message a line:

=========  ==================================================================================================
ndlog      ``<receive time> <raw JSON>``; the time is ns (19 digits) or µs (16 digits) since the epoch. A
           payload that opens with ``{"lastUpdateId"`` is a REST snapshot, anything else a frame.
cfraw      cryptofeed playback text. ``<seconds>: <frame>``; ``<url> <-> <seconds>`` is a connect;
           ``<url> <- <seconds>: <message>`` was sent; ``<url> -> <seconds>: <body>`` is a REST response.
           ``configuration: {…}`` and blank lines carry nothing.
cf3        cryptofeed v3 JSON lines: ``t`` is header, http, connect, send or recv; ``data`` is the raw text.
jsonl      raw frames, one a line, without a receive time.
=========  ==================================================================================================

Nothing here opens a file. Payload bytes are what the venue sent; whether they are JSON is the connector's
matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain

import msgspec

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Longest line accepted (an instrument list is 2 MB); a longer one is reported as bad."""
MAX_PROBLEMS = 20
"""Bad lines described one by one in a report; the rest are only counted."""

_REST_PREFIX = b'{"lastUpdateId"'
_NANOSECOND_DIGITS = 9
_NDLOG_NS_DIGITS = 19
_NDLOG_US_DIGITS = 16
_MAX_SECONDS_DIGITS = 10


class RecordingFormat(StrEnum):
    """How a recording's lines are laid out."""

    NDLOG = "ndlog"
    CFRAW = "cfraw"
    JSONL = "jsonl"
    """Either of the JSON-lines formats; the first line tells cf3 from raw frames."""


class RecordedKind(StrEnum):
    """What a recorded message was."""

    FRAME = "frame"
    REST = "rest"
    SENT = "sent"
    CONNECT = "connect"


class RecordedMessage(msgspec.Struct, frozen=True, gc=False):
    """One message of a recorded session."""

    kind: RecordedKind
    ts_recv_ns: int
    """When the recorder saw it, ns since the epoch by its clock; 0 where the format has no time."""
    url: str
    """The connection or request that it belongs to; ``""`` where the format does not say."""
    payload: bytes
    """Exactly the bytes of the message; empty for a connect."""


class RecordingProblem(msgspec.Struct, frozen=True):
    """A line that could not be read."""

    line: int
    """From 1."""
    reason: str


class RecordingReport:
    """What was read so far; filled by ``read_messages`` while it is iterated."""

    def __init__(self) -> None:
        self.lines = 0
        self.messages = 0
        self.payload_bytes = 0
        self.ignored_lines = 0
        """Blank lines, headers and configuration."""
        self.bad_lines = 0
        self.problems: list[RecordingProblem] = []
        """The first ``MAX_PROBLEMS`` bad lines."""
        self.first_ts_ns = 0
        self.last_ts_ns = 0

    def count_bad(self, reason: str) -> None:
        """Note that the line just counted could not be read."""
        self.bad_lines += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(RecordingProblem(self.lines, reason))

    def count(self, message: RecordedMessage) -> None:
        """Note a message read."""
        self.messages += 1
        self.payload_bytes += len(message.payload)
        if message.ts_recv_ns:
            self.first_ts_ns = self.first_ts_ns or message.ts_recv_ns
            self.last_ts_ns = message.ts_recv_ns


def format_of(name: str) -> RecordingFormat:
    """Tell the format from a file name such as ``usdm_BTCUSDT_20240808.ndlog.gz``.

    Raises:
        ValueError: no known suffix, below an optional ``.gz`` or ``.zst``.
    """
    stem = name.lower().removesuffix(".gz").removesuffix(".zst")
    if stem.endswith(".json"):
        return RecordingFormat.JSONL
    for fmt in RecordingFormat:
        if stem.endswith("." + fmt.value):
            return fmt
    rule = "the name must end in .ndlog, .cfraw, .jsonl or .json (.gz, .zst)"
    raise ValueError(f"not a recording: {name!r}; {rule}")


def read_messages(
    lines: Iterable[bytes],
    format: RecordingFormat,  # noqa: A002 - the word that the data's own documents use
    report: RecordingReport,
) -> Iterator[RecordedMessage]:
    """Yield the messages of a recording; a line that cannot be read is counted in ``report`` and skipped.

    Args:
        lines: the lines, with or without their line ends.
        format: from ``format_of``.
        report: filled as the iteration goes.
    """
    iterator = iter(lines)
    parser: _NdlogLines | _CfrawLines | _Cf3Lines | _FrameLines
    if format is RecordingFormat.NDLOG:
        parser = _NdlogLines()
    elif format is RecordingFormat.CFRAW:
        parser = _CfrawLines()
    else:
        first = next(iterator, None)
        if first is None:
            return
        iterator = chain((first,), iterator)
        parser = _Cf3Lines() if _is_cf3(first) else _FrameLines()
    parse = parser.parse
    for line in iterator:
        report.lines += 1
        if len(line) > MAX_LINE_BYTES:
            report.count_bad("line too long")
            continue
        try:
            message = parse(line.rstrip(b"\r\n"))
        except ValueError as error:
            report.count_bad(str(error))
            continue
        if message is None:
            report.ignored_lines += 1
            continue
        report.count(message)
        yield message


class _NdlogLines:
    def parse(self, line: bytes) -> RecordedMessage | None:
        if not line:
            return None
        stamp, _, payload = line.partition(b" ")
        if not stamp.isdigit():
            raise ValueError("no receive time")
        if not payload:
            raise ValueError("no message after the receive time")
        if len(stamp) == _NDLOG_NS_DIGITS:
            ts_recv_ns = int(stamp)
        elif len(stamp) == _NDLOG_US_DIGITS:
            ts_recv_ns = int(stamp) * 1_000
        else:
            raise ValueError("receive time is neither ns nor µs")
        kind = RecordedKind.REST if payload.startswith(_REST_PREFIX) else RecordedKind.FRAME
        return RecordedMessage(kind, ts_recv_ns, "", payload)


class _CfrawLines:
    def __init__(self) -> None:
        self._url = ""

    def parse(self, line: bytes) -> RecordedMessage | None:
        if not line or line.startswith(b"configuration: "):
            return None
        if line[:1].isdigit():
            stamp, separator, payload = line.partition(b": ")
            if not separator or not payload:
                raise ValueError("no frame after the receive time")
            return RecordedMessage(RecordedKind.FRAME, _seconds_to_ns(stamp), self._url, payload)
        address, _, rest = line.partition(b" ")
        arrow, _, rest = rest.partition(b" ")
        if arrow == b"<->":
            self._url = address.decode("ascii")
            return RecordedMessage(RecordedKind.CONNECT, _seconds_to_ns(rest), self._url, b"")
        kind = {b"<-": RecordedKind.SENT, b"->": RecordedKind.REST}.get(arrow)
        if kind is None:
            raise ValueError("neither a receive time nor an address with an arrow")
        stamp, separator, payload = rest.partition(b": ")
        if not separator or not payload:
            raise ValueError("no message after the time")
        return RecordedMessage(kind, _seconds_to_ns(stamp), address.decode("ascii"), payload)


class _FrameLines:
    def parse(self, line: bytes) -> RecordedMessage | None:
        if not line:
            return None
        if not line.startswith((b"{", b"[")):
            raise ValueError("not a JSON object or array")
        kind = RecordedKind.REST if line.startswith(_REST_PREFIX) else RecordedKind.FRAME
        return RecordedMessage(kind, 0, "", line)


class _Cf3Line(msgspec.Struct):
    t: str
    ts: msgspec.Raw = msgspec.Raw(b"")
    conn: str = ""
    url: str = ""
    addr: str = ""
    data: str = ""


_decode_cf3 = msgspec.json.Decoder(_Cf3Line).decode
_CF3_KINDS = {
    "recv": RecordedKind.FRAME,
    "http": RecordedKind.REST,
    "send": RecordedKind.SENT,
    "connect": RecordedKind.CONNECT,
}


def _is_cf3(line: bytes) -> bool:
    try:
        first = _decode_cf3(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return first.t == "header" or first.t in _CF3_KINDS


class _Cf3Lines:
    def __init__(self) -> None:
        self._urls: dict[str, str] = {}

    def parse(self, line: bytes) -> RecordedMessage | None:
        if not line:
            return None
        entry = _decode_cf3(line)  # its errors are ValueErrors
        if entry.t == "header":
            return None
        kind = _CF3_KINDS.get(entry.t)
        if kind is None:
            raise ValueError(f"unknown entry type {entry.t[:40]!r}")
        ts_recv_ns = _seconds_to_ns(bytes(entry.ts))
        if kind is RecordedKind.CONNECT:
            self._urls[entry.conn] = entry.addr
            return RecordedMessage(kind, ts_recv_ns, entry.addr, b"")
        if not entry.data:
            raise ValueError("no data")
        url = entry.url or entry.addr or self._urls.get(entry.conn, "")
        return RecordedMessage(kind, ts_recv_ns, url, entry.data.encode())


def _seconds_to_ns(text: bytes) -> int:
    """Exact ns of decimal seconds such as ``1617566591.326123``; no float is involved."""
    whole, _, fraction = text.strip().partition(b".")
    if not whole.isdigit() or len(whole) > _MAX_SECONDS_DIGITS:
        raise ValueError("time is not decimal seconds")
    if fraction and (not fraction.isdigit() or len(fraction) > _NANOSECOND_DIGITS):
        raise ValueError("time is not decimal seconds")
    return int(whole) * 1_000_000_000 + int(fraction.ljust(_NANOSECOND_DIGITS, b"0"))
