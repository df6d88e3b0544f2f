"""The plainest reading of a depth message as rows."""

from __future__ import annotations

Row = tuple[int, ...]


def depth_rows(
    event_number: int,
    times: tuple[int, int, int],
    ids: tuple[int, int],
    bids: list[tuple[int, int]],
    asks: list[tuple[int, int]],
    *,
    snapshot: bool,
) -> list[Row]:
    """Rows in the order of the catalogue's depth columns; ``times`` are event, match, receive."""
    flags = 1 if snapshot else 0
    head = (event_number, *times, *ids)
    rows = [(*head, 1, tick, lots, flags) for tick, lots in bids]
    rows += [(*head, -1, tick, lots, flags) for tick, lots in asks]
    if not rows:
        return [(*head, 0, 0, 0, flags | 2 | 4)]
    return [*rows[:-1], (*rows[-1][:-1], flags | 2)]
