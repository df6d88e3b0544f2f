"""Which venues there are: the one place that knows every adapter by name."""

from __future__ import annotations

from bookrunner.engine.ports.venue_feed import VenueFeed


def make_feed(venue: str) -> VenueFeed:
    """Return the protocol of a venue id.

    Raises:
        KeyError: no such venue.
    """
    from bookrunner.venues.binance import feed as binance
    from bookrunner.venues.bybit import feed as bybit

    feeds = {**binance.FEEDS, **bybit.FEEDS}
    return feeds[venue]()


def detect_venue(frame: bytes, url: str) -> str | None:
    """Tell the venue of a recorded frame, or ``None`` where it does not say."""
    from bookrunner.venues.binance import feed as binance
    from bookrunner.venues.bybit import feed as bybit

    return binance.detect_venue(frame, url) or bybit.detect_venue(frame, url)
