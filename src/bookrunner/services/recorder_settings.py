"""The recorder's settings: every limit and interval by name."""

from __future__ import annotations

import msgspec

from bookrunner.core.errors import ConfigurationError


class RecorderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and policies of the recorder."""

    flush_rows: int = 65_536
    """Rows of one kind and symbol that make a file; depth is looked at a block or a message late."""
    flush_interval_s: float = 300.0
    """Age of the oldest row at which a table is flushed whatever its size."""
    snapshot_interval_s: float = 300.0
    """How often a live book is recorded whole, beside each time it becomes live."""
    snapshot_levels: int | None = None
    """Levels a side of the periodic snapshots; ``None``: all, so that a book can be rebuilt from each."""
    waiting_rows: int = 2_000_000
    """Rows that may wait to be encoded; beyond it a batch is lost: counted, alarmed, kept as a gap."""
    put_attempts: int = 4
    """Tries at the target before a file goes to the spool."""
    retry_first_s: float = 0.25
    """Wait before the second try; doubles, with jitter, up to ``retry_longest_s``."""
    retry_longest_s: float = 5.0
    drain_interval_s: float = 10.0
    """How often the target is tried again with the oldest spooled file."""

    def __post_init__(self) -> None:
        floor = {
            "flush_rows": 1,
            "flush_interval_s": 0.1,
            "snapshot_interval_s": 1,
            "snapshot_levels": 1,
            "waiting_rows": 1,
            "put_attempts": 1,
            "retry_first_s": 0,
            "retry_longest_s": 0,
            "drain_interval_s": 0.1,
        }
        for field, least in floor.items():
            value = getattr(self, field)
            if value is not None and not value >= least:
                raise ConfigurationError(
                    "recorder setting is too small",
                    field=f"recorder.{field}",
                    value=value,
                    rule=f">= {least}",
                )
