import json
import socket
from pathlib import Path

import pytest

from bookrunner.app.commands import doctor as doctor_module
from bookrunner.app.commands.doctor import Finding, Outcome, doctor, examine
from bookrunner.app.settings_table import settings_table
from bookrunner.core.clock import SystemClock


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings with free ports and folders of their own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "settings.toml"
    path.write_text(
        "[api]\nport = 0\n[fanout]\nport = 0\n"
        "[journal]\npath = 'journal'\nlow_disk_bytes = 0\n[recorder]\npath = 'catalogue'\n"
    )
    return path


def findings(config: Path) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(config, SystemClock())}


def test_a_sound_machine_has_nothing_wrong(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(config, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"]
    checks = {finding["check"] for finding in document["findings"]}
    assert {
        "python", "cores", "memory", "open_files", "kernel_cache", "clock_steadiness", "clock_date",
        "settings", "port_fanout", "port_api",
        "disk_journal", "fsync_journal", "disk_catalogue", "fsync_catalogue",
    } == checks  # fmt: skip


def test_a_taken_port_is_wrong(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(f"[api]\nport = {port}\n[fanout]\nport = 0\n")
        finding = findings(config)["port_api"]
    assert finding.outcome is Outcome.WRONG
    assert str(port) in finding.found
    assert "api.port" in finding.advice


def test_a_full_disk_is_wrong(config: Path) -> None:
    config.write_text(
        config.read_text().replace("low_disk_bytes = 0", "low_disk_bytes = 1000000000000000000")
    )
    assert findings(config)["disk_journal"].outcome is Outcome.WRONG


def test_wrong_settings_are_named_and_exit_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("[api]\nport = -1\n")
    assert doctor(config, as_json=False) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "api.port = -1" in shown
    found = findings(config)
    assert found["settings"].outcome is Outcome.WRONG
    assert "port_api" not in found


def test_a_folder_that_cannot_be_written_is_wrong(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor_module, "_fsync_ms", refuse)
    finding = findings(config)["fsync_journal"]
    assert (finding.outcome, finding.found) == (Outcome.WRONG, "cannot write: Permission denied")


def test_a_slow_disk_and_an_unset_clock_are_told(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "_fsync_ms", lambda *_: [1.0, 900.0])

    class Year2000(SystemClock):
        wall_ns = staticmethod(lambda: 946_684_800 * 10**9)

    found = {finding.check: finding for finding in examine(config, Year2000())}
    assert found["fsync_journal"].outcome is Outcome.WARNING
    assert found["clock_date"].outcome is Outcome.WRONG
    assert found["clock_steadiness"].outcome is Outcome.WARNING


def test_the_settings_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(None, as_json=False, only_table=True) == 0
    assert capsys.readouterr().out.strip() == settings_table()
