"""``bookrunner record``: follow the venues into journal and catalogue, and serve nobody."""

from __future__ import annotations

from bookrunner.app.commands.run import run
from bookrunner.app.settings import Settings


def record(settings: Settings, *, duration_s: float | None) -> int:
    """Record until stopped; return the exit code."""
    return run(settings, duration_s=duration_s, summary=False, demo=False, faces=False)
