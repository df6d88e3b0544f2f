"""The journal's settings: every limit and interval by name."""

from __future__ import annotations

import msgspec

from bookrunner.core.errors import ConfigurationError

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
DAY_S = 86_400


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits and policies of one journal; ``None`` means "not limited"."""

    commit_interval_ms: float = 2.0
    """How often the writer thread hands the buffer to the operating system (then it survives ``kill -9``)."""
    fsync_interval_ms: float = 50.0
    """How often written bytes are forced to the disk (then they survive power loss); 0 = at every commit."""
    buffer_bytes: int = 64 * MEBIBYTE
    """Records waiting to be written; at this bound ``append`` raises ``JournalFullError``."""
    segment_bytes: int = 256 * MEBIBYTE
    """A segment is sealed before it grows beyond this."""
    segment_age_s: float = 3_600.0
    """A segment older than this is sealed by the next append."""
    compress: bool = True
    """Whether sealed segments are compressed with zstd."""
    compression_level: int = 3
    retention_bytes: int | None = 50 * GIBIBYTE
    """Oldest sealed segments are deleted while the journal is larger."""
    retention_age_s: float | None = 14.0 * DAY_S
    """Sealed segments whose newest record is older are deleted."""
    upkeep_interval_s: float = 5.0
    """How often compression, retention and the disk check run (also after each sealed segment)."""
    disk_low_bytes: int = 5 * GIBIBYTE
    """Free disk below this raises the alarm (logged, counted, callback); appends go on."""
    disk_minimum_bytes: int = 512 * MEBIBYTE
    """Free disk below this makes ``append`` raise ``DiskLowError`` until there is space again."""

    def __post_init__(self) -> None:
        floor = {
            "commit_interval_ms": 0.1,
            "fsync_interval_ms": 0,
            "buffer_bytes": 4_096,
            "segment_bytes": 4_096,
            "segment_age_s": 1,
            "compression_level": 1,
            "retention_bytes": 0,
            "retention_age_s": 0,
            "upkeep_interval_s": 0.1,
            "disk_low_bytes": 0,
            "disk_minimum_bytes": 0,
        }
        for field, least in floor.items():
            value = getattr(self, field)
            if value is not None and not value >= least:
                raise ConfigurationError(
                    "journal setting is too small", field=f"journal.{field}", value=value, rule=f">= {least}"
                )
        most = 19
        if self.compression_level > most:
            raise ConfigurationError(
                "no such zstd level",
                field="journal.compression_level",
                value=self.compression_level,
                rule=f"1 to {most}",
            )
        if self.disk_low_bytes < self.disk_minimum_bytes:
            raise ConfigurationError(
                "the alarm must come before the hard minimum",
                field="journal.disk_low_bytes",
                value=self.disk_low_bytes,
                rule=">= journal.disk_minimum_bytes",
            )
