"""Every setting is read by what it configures, and every value that its rule admits is accepted there."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
import structlog

from bookrunner.app.build import Application
from bookrunner.app.commands import run
from bookrunner.app.logging_setup import configure_logging
from bookrunner.app.settings import Section, Settings, VenueSettings, broken_rules
from bookrunner.core.clock import ManualClock
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.services.recorder_settings import RecorderSettings
from bookrunner.storage.journal_settings import DAY_S, JournalSettings

replace = msgspec.structs.replace
Keys = tuple[str, ...]


def leaves(section: Section, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the path and the value of every setting."""
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def with_value(section: Section, path: Keys, value: object) -> Any:
    """Return a copy with one setting changed."""
    name, *rest = path
    inner = with_value(getattr(section, name), tuple(rest), value) if rest else value
    return replace(section, **{name: inner})


def settings_in(folder: Path) -> Settings:
    """Return settings that follow every venue and write nowhere but below ``folder``."""
    settings = Settings()
    venues = {name: replace(venue, enabled=True) for name, venue in settings.venues.by_id().items()}
    return replace(
        settings,
        venues=replace(settings.venues, **venues),
        journal=replace(settings.journal, path=str(folder / "journal")),
        recorder=replace(settings.recorder, path=str(folder / "catalogue"), spool_path=str(folder / "spool")),
    )


# --- read -------------------------------------------------------------------------------------------------


class Spy:
    """Looks like a section of the settings, and notes which of them are read."""

    def __init__(self, section: Section, path: Keys, read: set[Keys]) -> None:
        self._section = section
        self._path = path
        self._read = read

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._section, name)
        if isinstance(value, Section):
            return Spy(value, (*self._path, name), self._read)
        if name in self._section.__struct_fields__:
            self._read.add((*self._path, name))
        elif callable(value):
            return getattr(type(self._section), name).__get__(self)  # a method, reading through the spy
        return value


class LaunchedError(Exception):
    """Raised in place of starting the simulator."""


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """Somewhere for logs to go to; what was configured before is configured again."""
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield io.StringIO()
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


async def test_every_setting_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO
) -> None:
    settings, read = settings_in(tmp_path), set[Keys]()
    spy: Any = Spy(settings, (), read)

    async def launch(_arguments: list[str]) -> None:
        raise LaunchedError

    monkeypatch.setattr("bookrunner.venues.simulated.launch.launch_venue", launch)
    with pytest.raises(LaunchedError):
        await run._launch(spy, SimpleNamespace())  # type: ignore[arg-type]
    list(broken_rules(spy))
    configure_logging(spy.logging, stream=logs)
    application = Application(spy, ManualClock(), random.Random(1), faces=True)
    assert application.journal is not None
    application.journal.close()

    assert {path for path, _ in leaves(settings)} - read == set()


def test_the_spy_notices_a_setting_that_nothing_reads() -> None:
    read = set[Keys]()
    spy: Any = Spy(Settings(), (), read)
    assert spy.venues.enabled()
    assert spy.api.port == Settings().api.port
    venues = {("venues", name, "enabled") for name in Settings().venues.by_id()}
    assert read == venues | {("api", "port")}


# --- accepted ---------------------------------------------------------------------------------------------


def extremes(path: Keys) -> Iterator[Any]:
    """Yield the least and the greatest value that the rule of a setting admits, as far as it has them."""
    kind: Any = Settings
    for name in path:
        kind = get_type_hints(kind, include_extras=True)[name]
    rules = [rule for rule in _annotations(kind) if isinstance(rule, msgspec.Meta)]
    whole = float not in _plain(kind)
    for rule in rules:
        if rule.ge is not None:
            yield rule.ge
        if rule.gt is not None:
            yield rule.gt + 1 if whole else rule.gt + 0.001
        if rule.le is not None:
            yield rule.le


def _annotations(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        inner, *annotations = get_args(kind)
        yield from annotations
        yield from _annotations(inner)
    else:
        for argument in get_args(kind):
            yield from _annotations(argument)


def _plain(kind: Any) -> set[Any]:
    return {kind} | {found for argument in get_args(kind) for found in _plain(argument)}


BOUNDED = [
    pytest.param(path, value, id=f"{'.'.join(path)}={value}")
    for path, _ in leaves(Settings())
    if path[0] in {"book", "transport", "fanout", "journal", "recorder"}
    for value in extremes(path)
]
TOGETHER: dict[Keys, Keys] = {
    ("fanout", "throttle_ms"): ("fanout", "throttle_min_ms"),
    ("fanout", "throttle_min_ms"): ("fanout", "throttle_ms"),
    ("transport", "backoff_base_s"): ("transport", "backoff_cap_s"),
    ("transport", "backoff_cap_s"): ("transport", "backoff_base_s"),
    ("book", "levels"): ("book", "display_levels"),
    ("book", "display_levels"): ("book", "levels"),
}
"""A rule joins them: both are moved to the extreme."""


@pytest.mark.parametrize(("path", "value"), BOUNDED)
def test_what_a_rule_admits_is_accepted(path: Keys, value: float, tmp_path: Path) -> None:
    settings: Settings = with_value(settings_in(tmp_path), path, value)
    if list(broken_rules(settings)):
        settings = with_value(settings, TOGETHER[path], value)
    assert list(broken_rules(settings)) == []
    application = Application(settings, ManualClock(), random.Random(1), faces=True)
    assert application.journal is not None
    application.journal.close()


def test_extremes_are_found() -> None:
    assert list(extremes(("fanout", "throttle_ms"))) == [5, 60_000]
    assert list(extremes(("transport", "max_retries"))) == [0]
    assert list(extremes(("api", "host"))) == []
    assert len(BOUNDED) > 40


def test_the_defaults_are_those_of_the_parts() -> None:
    """What is documented of a part holds for the whole."""
    settings = Settings()
    for section, part in (
        (settings.fanout, FanoutSettings()),
        (settings.journal, JournalSettings()),
        (settings.recorder, RecorderSettings()),
    ):
        for name in set(section.__struct_fields__) & set(part.__struct_fields__) - {"flush_interval_s"}:
            assert getattr(section, name) == getattr(part, name), name
    assert settings.journal.low_disk_bytes == JournalSettings().disk_low_bytes
    assert settings.journal.retention_days * DAY_S == JournalSettings().retention_age_s
    assert settings.book.levels == FanoutSettings().depth_max
    assert settings.book.display_levels == FanoutSettings().depth
    assert {VenueSettings.__struct_fields__} == {
        venue.__struct_fields__ for venue in settings.venues.by_id().values()
    }
