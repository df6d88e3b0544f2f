"""What the parts count is in the figures of the process."""

from __future__ import annotations

import random

import msgspec

from book_frames import live_usdm
from bookrunner.api.prometheus_text import PrometheusText
from bookrunner.app.build import Application
from bookrunner.app.settings import Settings
from bookrunner.core.clock import ManualClock
from bookrunner.fanout.publisher import FanoutCounters
from bookrunner.services.market_stream import STREAM_COUNTERS

replace = msgspec.structs.replace


def application() -> Application:
    settings = Settings()
    quiet = replace(
        settings,
        journal=replace(settings.journal, enabled=False),
        recorder=replace(settings.recorder, enabled=False),
        api=replace(settings.api, enabled=False),
    )
    return Application(quiet, ManualClock(), random.Random(1), faces=True)


async def test_what_the_fanout_and_the_stream_count_is_reported() -> None:
    running = application()
    assert running.fanout is not None
    counters = running.fanout.publisher.counters
    expected = {f"stream_{name}": 0 for name in STREAM_COUNTERS}
    for number, name in enumerate(FanoutCounters.__struct_fields__, 1):
        setattr(counters, name, number)
        expected[f"fanout_{name}"] = number
    live, _ = live_usdm()
    running.stream.on_book(live, 1)
    expected["stream_book_updates"] = 1
    totals = running.metrics.totals()
    assert {name: totals[name] for name in totals if name.startswith(("fanout_", "stream_"))} == expected
    lines = PrometheusText(running.metrics).render().decode().splitlines()
    assert {f"bookrunner_{name}_total {number:.1f}" for name, number in expected.items()} <= set(lines)
