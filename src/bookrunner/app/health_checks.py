"""What parts that know nothing of health say of themselves, put into its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bookrunner.services.health import HEALTHY, ComponentHealth, HealthState, degraded
from bookrunner.services.metrics import BYTES_PER_MEGABYTE
from bookrunner.storage.journal import Journal

if TYPE_CHECKING:
    from bookrunner.fanout.service import FanoutService
    from bookrunner.services.recorder import Recorder


def journal_health(journal: Journal) -> ComponentHealth:
    """Degraded once its writer has failed, or while it refuses records for lack of disk."""
    counters = journal.counters()
    if counters.state != "open":
        return degraded(counters.state)
    return degraded("records are refused: the disk is full") if counters.disk_exhausted else HEALTHY


def disk_health(journal: Journal) -> ComponentHealth:
    """Degraded while less is free than the alarm's threshold."""
    counters = journal.counters()
    free = f"{counters.disk_free_bytes / BYTES_PER_MEGABYTE:,.0f} MB free"
    return degraded(free) if counters.disk_low else ComponentHealth(HealthState.HEALTHY, free)


def recorder_health(recorder: Recorder) -> ComponentHealth:
    """Degraded once rows were lost, or while the catalogue takes no files."""
    counters = recorder.counters()
    if counters.lost_rows:
        return degraded(f"{counters.lost_rows} rows lost")
    return degraded("the catalogue refuses files") if counters.target_refuses else HEALTHY


def fanout_health(fanout: FanoutService) -> ComponentHealth:
    """Degraded when it does not listen, for whatever reason, or takes no more clients."""
    clients, most = fanout.websocket_connections_active, fanout.settings.clients_max
    if not fanout.listening:
        return degraded("not listening")
    if clients >= most:
        return degraded(f"{clients} clients, and no more are taken")
    return ComponentHealth(HealthState.HEALTHY, f"{clients} clients")
