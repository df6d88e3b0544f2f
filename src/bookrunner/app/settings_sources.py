"""Where settings come from: defaults, then a TOML file, then ``.env``, then the environment.

The only module that reads ``os.environ``. Every problem is found before anything starts, and all are reported
together.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from bookrunner.app.redaction import redacted, shortened
from bookrunner.app.settings import BrokenRule, Section, Settings, broken_rules
from bookrunner.core.errors import ConfigurationError

PREFIX = "BOOKRUNNER_"
NESTING = "__"
CONFIG_VARIABLE = "BOOKRUNNER_CONFIG"
"""Names the TOML file where the command line does not."""
DEFAULT_CONFIG = Path("bookrunner.toml")
"""Read when it is there and nothing else is named."""

_DOTENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")

SectionType = TypeVar("SectionType", bound=Section)


class _Given(NamedTuple):
    value: object
    origin: str
    is_text: bool
    """From the environment: numbers, booleans and lists are spelt as text."""


class _Reading:
    """Values and problems gathered so far."""

    def __init__(self) -> None:
        self.given: dict[str, _Given] = {}
        self.problems: list[BrokenRule] = []

    def refuse(self, field: str, value: object, rule: str, origin: str = "") -> None:
        text = value if isinstance(value, str) else repr(value)
        shown = shortened(redacted(field, text))
        self.problems.append(BrokenRule(field, shown, f"{rule} [{origin}]" if origin else rule))


def load_settings(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path = Path(".env"),
) -> Settings:
    """Read every source and return the settings of this process.

    Args:
        config: the TOML file; ``None``: ``$BOOKRUNNER_CONFIG``, else ``bookrunner.toml`` where it exists.
        environ: the environment; ``None``: this process's.
        dotenv: file of ``NAME=value`` lines, below the environment; need not exist.

    Raises:
        ConfigurationError: ``field``, ``value``, ``rule`` of the first problem; all in ``problems``.
    """
    environment = os.environ if environ is None else environ
    reading = _Reading()
    _read_toml(reading, _config_path(config, environment))
    _read_variables(reading, _dotenv_variables(reading, dotenv), str(dotenv))
    _read_variables(reading, environment, "environment")
    settings = _overridden(Settings(), "", reading)
    if not reading.problems:
        for broken in broken_rules(settings):
            reading.refuse(broken.field, broken.value, broken.rule)
    if reading.problems:
        raise _error(reading.problems)
    return settings


def _config_path(config: Path | None, environment: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _read_toml(reading: _Reading, path: Path | None) -> None:
    if path is None:
        return
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reading.refuse("config", str(path), f"a readable file: {error.strerror}")
    except ValueError as error:  # tomllib.TOMLDecodeError and UnicodeDecodeError are both
        reading.refuse("config", str(path), f"a TOML document: {error}")
    else:
        _gather(reading, Settings, document, "", path.name)


def _gather(
    reading: _Reading, section: type[Section], table: Mapping[str, Any], prefix: str, origin: str
) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    for name, value in table.items():
        path = prefix + name
        if name not in fields:
            reading.refuse(path, "(not shown)", _unknown(name, fields), origin)
        elif not _is_section(fields[name]):
            reading.given[path] = _Given(value, origin, is_text=False)
        elif isinstance(value, dict):
            _gather(reading, fields[name], value, path + ".", origin)
        else:
            reading.refuse(path, value, "a table", origin)


def _dotenv_variables(reading: _Reading, path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reading.refuse("dotenv", str(path), f"a readable UTF-8 file: {type(error).__name__}")
        return {}
    variables = {}
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _DOTENV_LINE.fullmatch(stripped)
        if match is None:
            reading.refuse("dotenv", "(not shown)", "NAME=value", f"{path}:{number}")
        else:
            variables[match[1]] = _unquoted(match[2])
    return variables


def _unquoted(text: str) -> str:
    """Strip one pair of quotes, or a trailing comment from a bare value."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.split(" #", 1)[0].rstrip()


def _read_variables(reading: _Reading, variables: Mapping[str, str], origin: str) -> None:
    for variable, text in variables.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section: Any = Settings
        names = variable.removeprefix(PREFIX).lower().split(NESTING)
        for name in names:
            fields = (
                {field.name: field.type for field in msgspec.structs.fields(section)}
                if _is_section(section)
                else {}
            )
            if name not in fields:
                reading.refuse(variable, "(not shown)", _unknown(name, fields), origin)
                break
            section = fields[name]
        else:
            if _is_section(section):
                reading.refuse(variable, "(not shown)", f"a section: name a key with {NESTING}", origin)
            else:
                reading.given[".".join(names)] = _Given(text, f"{origin}: {variable}", is_text=True)


def _overridden(section: SectionType, prefix: str, reading: _Reading) -> SectionType:
    changes: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        path = prefix + field.name
        current = getattr(section, field.name)
        if isinstance(current, Section):
            changes[field.name] = _overridden(current, path + ".", reading)
        elif (given := reading.given.get(path)) is not None:
            try:
                changes[field.name] = _converted(given, field.type, current)
            except ValueError:  # msgspec.ValidationError is one
                from bookrunner.app.settings_table import rule_text

                reading.refuse(path, given.value, rule_text(field.type), given.origin)
    return msgspec.structs.replace(section, **changes)


def _converted(given: _Given, wanted: Any, current: object) -> object:
    value = given.value
    if given.is_text and isinstance(value, str) and isinstance(current, (tuple, Mapping)):
        if value.lstrip()[:1] in {"[", "{"}:
            value = msgspec.json.decode(value)
        else:
            value = [item.strip() for item in value.split(",") if item.strip()]
    converted: object = msgspec.convert(value, wanted, strict=not given.is_text)
    if isinstance(converted, float) and not isfinite(converted):
        raise ValueError("not finite")
    return converted


def _is_section(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Section)


def _unknown(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1)
    return (
        f"a known key; did you mean {close[0]}?"
        if close
        else f"a known key: {', '.join(known) or 'none here'}"
    )


def _error(problems: list[BrokenRule]) -> ConfigurationError:
    first = problems[0]
    return ConfigurationError(
        "a setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong",
        field=first.field,
        value=first.value,
        rule=first.rule,
        problems=tuple(problems),
    )
