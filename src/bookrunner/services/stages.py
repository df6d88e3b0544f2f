"""The road from frame to sink, stage by stage: what each has counted, and how long each takes.

``journal → scan → sequence → apply → record → publish``. Scan, sequence and apply are compiled and fused into
one call whose counters live in the book's memory; ``SampledRule`` runs them apart now and then, so that the
hops between them can be timed without slowing the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bookrunner.core.clock import Clock
from bookrunner.engine.ports.venue_feed import DepthRule, Words
from bookrunner.kernels import layout
from bookrunner.market.events import DepthUpdate
from bookrunner.market.instrument import Grid
from bookrunner.market.live_book import LiveBook

SAMPLE_EVERY = 64
"""One depth frame in so many takes the timed road; a power of two."""
UNSAMPLED_FRAMES = 512
"""At the start, while the kernels of the timed road may still have to be loaded."""

STAGES: Mapping[str, Mapping[str, int]] = {
    "scan": {
        "messages": layout.COUNT_MESSAGES,
        "bytes": layout.COUNT_BYTES,
        "fallbacks": layout.COUNT_FALLBACK,
        "off_grid": layout.COUNT_OFF_GRID,
    },
    "sequence": {"buffered": layout.COUNT_BUFFERED, "old": layout.COUNT_OLD, "gaps": layout.COUNT_GAPS},
    "apply": {
        "updates": layout.COUNT_APPLIED,
        "levels": layout.COUNT_LEVELS,
        "crossed": layout.COUNT_CROSSED,
        "window_shifts": layout.COUNT_SHIFTS,
    },
}
"""The compiled stages' counters: where each lies in a book's memory."""


def stage_counter(books: Iterable[LiveBook], stage: str, counter: str) -> int:
    """Sum one counter of ``STAGES`` over books."""
    word = STAGES[stage][counter]
    return sum(live.book.view[word] for live in books)


class SampledRule:
    """A ``DepthRule`` whose every ``SAMPLE_EVERY``-th frame is scanned and applied apart, and timed.

    Args:
        rule: the venue's rule.
        clock: time.
        record_parsed: given the nanoseconds from receipt to the end of the scan, of sampled frames.
        record_applied: given the nanoseconds from the end of the scan to the changed book, likewise.
        record_book: given the nanoseconds from receipt to the changed book, of all frames.
    """

    def __init__(
        self,
        rule: DepthRule,
        clock: Clock,
        record_parsed: Callable[[int], None],
        record_applied: Callable[[int], None],
        record_book: Callable[[int], None],
    ) -> None:
        self.rule = rule.rule
        self.snapshot_from_rest = rule.snapshot_from_rest
        self._inner = rule
        self._fused = rule.apply_frame
        self._monotonic_ns = clock.monotonic_ns
        self._record_parsed = record_parsed
        self._record_applied = record_applied
        self._record_book = record_book
        self._frames = 0
        self._parsed_ns = 0

    def apply_frame(self, frame: bytes, words: Words) -> int:
        """Scan, check and apply one raw frame; fused, or apart and timed."""
        self._frames += 1
        if self._frames & (SAMPLE_EVERY - 1) or self._frames <= UNSAMPLED_FRAMES:
            return self._fused(frame, words)
        if self._inner.scan_frame(frame, words) != layout.APPLIED:
            return self._fused(frame, words)  # not a frame to time
        self._parsed_ns = self._monotonic_ns()
        verdict = self._inner.sequence_apply(words)
        self._record_applied(self._monotonic_ns() - self._parsed_ns)
        if verdict != layout.FULL:  # which will be given again, and counts then
            words[layout.COUNT_MESSAGES] += 1
            words[layout.COUNT_BYTES] += len(frame)
        return verdict

    def on_latency(self, receive_to_book_ns: int) -> None:
        """Take how long ago the depth message just applied was received."""
        self._record_book(receive_to_book_ns)
        if self._parsed_ns:
            since_parsed_ns = self._monotonic_ns() - self._parsed_ns
            self._parsed_ns = 0
            if since_parsed_ns <= receive_to_book_ns:  # else it was another's: a buffered frame's
                self._record_parsed(receive_to_book_ns - since_parsed_ns)

    def scan_frame(self, frame: bytes, words: Words) -> int:
        """Pass on to the venue's rule."""
        return self._inner.scan_frame(frame, words)

    def sequence_apply(self, words: Words) -> int:
        """Pass on to the venue's rule."""
        return self._inner.sequence_apply(words)

    def decode(self, frame: bytes) -> DepthUpdate:
        """Pass on to the venue's rule."""
        return self._inner.decode(frame)

    def apply_update(self, update: DepthUpdate, grid: Grid, words: Words) -> int:
        """Pass on to the venue's rule."""
        return self._inner.apply_update(update, grid, words)
