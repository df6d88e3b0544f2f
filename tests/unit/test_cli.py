import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer

from bookrunner.app import cli
from bookrunner.core.errors import ConfigurationError, InvalidRequestError, JournalCorruptError

COMMANDS = ("run", "record", "books", "venue", "import", "doctor", "journal")
HEAVY = {"fastapi", "httpx", "numba", "numpy", "prometheus_client", "psutil", "pyarrow", "pydantic", "rich"}


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


def ran(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    code = caught.value.code
    assert code is None or isinstance(code, int)
    return code or 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3_600.0), ("1.5", 1.5), ("1d", 86_400.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert cli.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "nan", "inf", "3x", "1e99h", "3 s s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        cli.duration_s(text)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command} " in shown


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--for", "3x"], ["run", "--summary", "xml"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert ran(*arguments) == 2


@pytest.mark.parametrize("option", ["--speed", "--time-scale"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused_by_its_option(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran("venue", option, value, "--port", "0", "--rest-port", "0") == 2
    shown = capsys.readouterr().err
    assert option in shown
    assert value in shown


def test_help_and_settings_errors_import_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from bookrunner.app import cli\n"
        "try: cli.main(['run', '--config', '/nonexistent.toml'])\n"
        "except SystemExit as left: assert left.code == 2\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "error: config = /nonexistent.toml: must be a readable file" in done.stderr


def test_a_service_builds_without_what_only_later_parts_need() -> None:
    program = (
        "import sys\n"
        "from bookrunner.app import cli\n"
        "cli._settings(None)\n"
        "from bookrunner.app.build import build\n"
        "import bookrunner.app.commands.run, bookrunner.fanout.service, bookrunner.services.recorder\n"
        f"print(sorted({HEAVY - {'numba', 'numpy'}} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_wrong_setting_is_a_line_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bookrunner.toml"
    config.write_text("[api]\nport = 70000\n[fanout]\nprt = 1\n")
    assert ran("run", "--config", str(config)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: fanout.prt = (not shown): must be a known key; did you mean port? [bookrunner.toml]",
        "error: api.port = 70000: must be an integer at least 0, at most 65535 [bookrunner.toml]",
    ]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidRequestError("no such journal", field="path"), 2, "error: no such journal (field='path')"),
        (ConfigurationError("no such venue", field="venue"), 2, "error: no such venue (field='venue')"),
        (JournalCorruptError("bad record", offset=7), 1, "error: JOURNAL_CORRUPT: bad record (offset=7)"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    said: str,
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert ran() == code
    assert capsys.readouterr().err.strip() == said


def test_journal_commands_reach_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("journal", "verify", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["records"] == 0
    assert ran("journal", "stat", str(tmp_path / "missing")) == 2
