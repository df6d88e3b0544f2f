"""What every venue's sequence rule shares: holding back, dropping, and breaking the chain."""

from __future__ import annotations

from bookrunner.kernels.book import apply
from bookrunner.kernels.jit import spliced
from bookrunner.kernels.layout import (
    APPLIED_SNAPSHOT,
    BUFFER,
    COUNT_APPLIED,
    COUNT_BUFFERED,
    COUNT_BYTES,
    COUNT_FALLBACK,
    COUNT_GAPS,
    COUNT_MESSAGES,
    COUNT_OFF_GRID,
    COUNT_OLD,
    CROSSED,
    FINAL_ID,
    FIRST_ID,
    FULL,
    GAP,
    LAST_FIRST_ID,
    LAST_ID,
    LAST_PREVIOUS_ID,
    OFF_GRID,
    OLD,
    PREVIOUS_ID,
    SNAPSHOT_ID,
    SYNC,
    SYNC_BUFFERING,
    SYNC_LIVE,
    UNEXPECTED,
)


@spliced
def hold_back(words):
    """Count an update that came before the snapshot."""
    words[COUNT_BUFFERED] += 1
    return BUFFER


@spliced
def break_chain(words):
    """An update is missing: nothing more is applied until a snapshot. Only a live chain counts as a gap."""
    if words[SYNC] == SYNC_LIVE:
        words[COUNT_GAPS] += 1
    words[SYNC] = SYNC_BUFFERING
    return GAP


@spliced
def drop(words):
    """Count an update that the book already holds."""
    words[COUNT_OLD] += 1
    return OLD


@spliced
def drop_duplicate(words):
    """Drop an update that repeats the last one; any other that does not follow has lost us something.

    Being older is no excuse on one connection: if the last id was wrong, what follows it looks old.
    """
    same_first = words[FIRST_ID] == words[LAST_FIRST_ID]
    same_previous = words[PREVIOUS_ID] == words[LAST_PREVIOUS_ID]
    if words[FINAL_ID] == words[LAST_ID] and same_first and same_previous:
        return drop(words)
    return break_chain(words)


@spliced
def apply_due(words, due):
    """Apply the message in scratch if the rule's verdict says that it is due, and move the chain."""
    if due > APPLIED_SNAPSHOT:
        return due
    verdict = apply(words)
    if verdict == FULL:
        return FULL
    words[LAST_ID] = words[FINAL_ID]
    words[LAST_FIRST_ID] = words[FIRST_ID]
    words[LAST_PREVIOUS_ID] = words[PREVIOUS_ID]
    if due == APPLIED_SNAPSHOT:
        words[SNAPSHOT_ID] = words[FINAL_ID]
    words[COUNT_APPLIED] += 1
    # A book that stays crossed has lost something: nothing more is applied until a snapshot.
    words[SYNC] = SYNC_BUFFERING if verdict == CROSSED else SYNC_LIVE
    return verdict


@spliced
def count_frame(words, size, verdict):
    """Count a frame by its verdict; one that will be given again (OFF_GRID, FULL) counts then."""
    if verdict == OFF_GRID:
        words[COUNT_OFF_GRID] += 1
        return
    if verdict == FULL:
        return
    words[COUNT_MESSAGES] += 1
    words[COUNT_BYTES] += size
    if verdict == UNEXPECTED:
        words[COUNT_FALLBACK] += 1


@spliced
def needed(scanned, due):
    """Return what to do about a frame that is off the grid: nothing, where it is not due anyway."""
    return due if due > APPLIED_SNAPSHOT else scanned
