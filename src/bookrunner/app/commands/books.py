"""``bookrunner books``: order books in the terminal, live or out of a recording."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import structlog

from bookrunner.core.errors import InvalidRequestError
from bookrunner.market.live_book import LiveBook
from bookrunner.wire.recording import RecordedMessage, RecordingReport, format_of, read_messages

log = structlog.get_logger(__name__)


def play_books(paths: list[Path], venue: str | None) -> tuple[list[LiveBook], list[RecordingReport]]:
    """Play recordings together through the connectors' own code and return the final books.

    Raises:
        InvalidRequestError: a file is missing or no recording, or the venue is unknown or cannot be told.
    """
    from bookrunner.app.venue_feeds import detect_venue, make_feed
    from bookrunner.services.recording_player import RecordingPlayer
    from bookrunner.storage.recordings import open_recording

    player = RecordingPlayer(make_feed, detect_venue, venue=venue)
    reports = [RecordingReport() for _ in paths]
    with ExitStack() as stack:
        streams: list[Iterator[RecordedMessage]] = []
        for path, report in zip(paths, reports, strict=True):
            try:
                lines = stack.enter_context(open_recording(path))
                streams.append(read_messages(lines, format_of(path.name), report))
            except (OSError, ValueError) as error:
                raise InvalidRequestError(
                    "cannot read the recording", field="from", value=str(path), rule=str(error)
                ) from error
        player.play(*streams)
    if player.unrecognised or player.unread:
        log.warning("recorded_messages_unused", unrecognised=player.unrecognised, unread=player.unread)
    if not len(player.books):
        raise InvalidRequestError(
            "no order book in the recording",
            field="venue",
            value=venue,
            rule="depth frames of one venue; name it with --venue where the frames do not tell",
        )
    return sorted(player.books, key=lambda live: (live.venue, live.symbol)), reports


def book_summary(live: LiveBook, depth: int) -> dict[str, Any]:
    """Return a book as JSON-ready values; prices and quantities are exact decimal text, best first."""
    grid = live.instrument.grid
    bid_ticks, bid_lots, ask_ticks, ask_lots = live.book.top(depth)
    return {
        "venue": live.venue,
        "symbol": live.symbol,
        "state": live.state.value,
        "bids": [[grid.price(t), grid.quantity(q)] for t, q in zip(bid_ticks, bid_lots, strict=True)],
        "asks": [[grid.price(t), grid.quantity(q)] for t, q in zip(ask_ticks, ask_lots, strict=True)],
        "last_update_id": live.last_update_id,
        "messages": live.messages,
        "updates": live.updates,
        "gaps": live.gaps,
        "crossed": live.crossed,
    }


def books_from_recordings(paths: list[Path], venue: str | None, depth: int, *, as_json: bool) -> None:
    """Print the final books of recordings, as one JSON object or as tables."""
    books, reports = play_books(paths, venue)
    if as_json:
        document = {"books": [book_summary(live, depth) for live in books]}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        return
    from rich.console import Console

    from bookrunner.app.book_tables import ladder

    console = Console()
    for live in books:
        console.print(ladder(book_summary(live, depth)))
        if live.malformed:
            console.print(f"{live.malformed:,} depth messages could not be read", style="red")
    for path, report in zip(paths, reports, strict=True):
        console.print(f"{path.name}: {report.messages:,} messages, {report.bad_lines} bad lines", style="dim")
