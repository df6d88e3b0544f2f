"""Recorded frames as a market that runs for ever: at the end all connections are cut, and it begins again.

Every loop's ids continue above the last one's. Depth is applied to the truth from the recording's own REST
snapshot (or, at Bybit, from its first snapshot frame); updates that the snapshot already holds are left out.
"""

from __future__ import annotations

import gzip
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.core.errors import ConfigurationError
from bookrunner.venues.simulated.derived import Derived
from bookrunner.venues.simulated.events import VENUES, BookReset, Depth, Event, RecordingEnd
from bookrunner.venues.simulated.recorded_frames import FrameReader
from bookrunner.wire.recording import RecordedMessage, RecordingReport, format_of, read_messages

PROLOGUE_MESSAGES = 100
"""Messages read at least before the start, in which the snapshots are found."""
PROLOGUE_LIMIT = 20_000
"""Messages read at most."""
SHORTEST_LOOP_NS = NANOSECONDS_PER_SECOND
"""However short the recording: clients that are cut need time to come back."""
UNTIMED_SPACING_NS = 10_000_000
"""Between messages of a recording that carries no times."""

Timed = tuple[int, Event]


def open_lines(path: Path) -> Callable[[], Iterable[bytes]]:
    """Return a function that opens the file anew, uncompressing ``.gz`` and ``.zst``."""

    def lines() -> Iterator[bytes]:
        if path.suffix == ".zst":
            import zstandard

            with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
                yield from _split(iter(lambda: reader.read(1 << 20), b""))
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as unpacked:
                yield from unpacked
        else:
            with path.open("rb") as file:
                yield from file

    return lines


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


class Recording:
    """One file: a name that tells its format, and a way to read its lines again and again.

    Args:
        name: file name, such as ``usdm_BTCUSDT_20240808.ndlog.gz``.
        lines: opens it.
        venue: whose frames they are; empty: told from the frames.
    """

    def __init__(self, name: str, lines: Callable[[], Iterable[bytes]], venue: str = "") -> None:
        try:
            self._format = format_of(name)
        except ValueError as error:
            raise ConfigurationError(
                "not a recording", field="recording", value=name, rule=str(error)
            ) from None
        if venue and venue not in VENUES:
            raise ConfigurationError("unknown venue", field="recording", value=venue, rule=f"one of {VENUES}")
        self.name = name
        self.venue = venue
        self.report = RecordingReport()
        """Of the current or last pass; lines that could not be read are counted there."""
        self._lines = lines

    @classmethod
    def parse(cls, text: str) -> Recording:
        """Read ``PATH`` or ``VENUE=PATH``.

        Raises:
            ConfigurationError: the file is missing, or its name tells no known format.
        """
        venue, separator, rest = text.rpartition("=")
        path = Path(rest if separator else text)
        if not path.is_file():
            raise ConfigurationError("no such file", field="recording", value=str(path), rule="a file")
        return cls(path.name, open_lines(path), venue)

    def messages(self) -> Iterator[RecordedMessage]:
        """Read it from the beginning."""
        self.report = RecordingReport()
        return read_messages(self._lines(), self._format, self.report)


class RecordedSource:
    """Recordings replayed side by side, each from its own beginning, over and over.

    The loop ends with the shortest recording, so that no symbol goes silent while others go on.

    Args:
        recordings: what to replay.
        speed: see ``Source``.
        start_ms: wall time of the start; candles that are made up from the trades begin by it.

    Raises:
        ConfigurationError: a recording in which no snapshot is found.
    """

    def __init__(self, recordings: Sequence[Recording], speed: float = 1.0, start_ms: int = 0) -> None:
        self.speed = speed
        self._derived = Derived(start_ms)
        self.loops = 0
        self._recordings = [(each, FrameReader(each.name, each.venue)) for each in recordings]

    def events(self) -> Iterator[Timed]:
        """Yield for ever; each loop ends with a ``RecordingEnd``."""
        origin_ns = 0
        while True:
            due_ns = origin_ns
            streams = [_timed(recording, reader, origin_ns) for recording, reader in self._recordings]
            for due_ns, event in heapq.merge(*streams, key=lambda entry: entry[0]):
                if isinstance(event, RecordingEnd):
                    break
                yield due_ns, event
                for derived in self._derived.after(due_ns, event):
                    yield due_ns, derived
            venues = sorted({reader.venue for _, reader in self._recordings})
            origin_ns = max(due_ns, origin_ns + SHORTEST_LOOP_NS)
            yield origin_ns, RecordingEnd(tuple(venues))
            self.loops += 1
            for _, reader in self._recordings:
                reader.begin_loop()


def _timed(recording: Recording, reader: FrameReader, origin_ns: int) -> Iterator[Timed]:
    """One recording's events of one loop, and its end."""
    messages = recording.messages()
    for event in _prologue(reader, messages):
        yield origin_ns, event
    began_ns = last_ns = 0
    for index, message in enumerate(messages):
        ts_ns = message.ts_recv_ns or index * UNTIMED_SPACING_NS
        began_ns = began_ns or ts_ns
        last_ns = max(last_ns, ts_ns)
        for event in reader.events(message):
            yield origin_ns + 1 + last_ns - began_ns, event
    yield origin_ns + 1 + last_ns - began_ns, RecordingEnd(())


def _prologue(reader: FrameReader, messages: Iterator[RecordedMessage]) -> Iterator[Event]:
    """The books as they stand once every symbol has its snapshot: what happened so far, but no trades."""
    for count, message in enumerate(messages, 1):
        for event in reader.events(message):
            if isinstance(event, BookReset | Depth):
                yield event
        if count >= PROLOGUE_LIMIT or (count >= PROLOGUE_MESSAGES and reader.is_complete):
            break
    if not reader.is_complete:
        raise ConfigurationError(
            "no snapshot found", field="recording", value=reader.name, rule="a snapshot per symbol"
        )


def sample() -> list[Recording]:
    """Return the packaged recordings."""
    folder = Path(__file__).parent / "sample"
    return [Recording.parse(str(path)) for path in sorted(folder.glob("*.ndlog.gz"))]
