"""The settings as a table for people, made from the model so that it cannot go stale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from bookrunner.app.settings import Section, Settings, VenueSettings
from bookrunner.core.errors import ConfigurationError


def settings_table() -> str:
    """Return the configuration table of the README, as Markdown."""
    lines = ["| key | default | rule | what |", "|---|---|---|---|"]
    lines += [
        f"| `{path}` | {_default_text(default)} | {_cell(rule_text(kind))} | {_cell(description)} |"
        for path, default, kind, description in _rows(Settings(), "")
    ]
    return "\n".join(lines)


def rule_text(kind: Any) -> str:
    """Say in words which values the type ``kind`` admits."""
    return _rule(inspect.type_info(kind))


def _rows(section: Section, prefix: str) -> Iterator[tuple[str, object, Any, str]]:
    for field in msgspec.structs.fields(section):
        default = getattr(section, field.name)
        if isinstance(default, Section):
            yield from _rows(default, f"{prefix}{field.name}.")
        elif not isinstance(section, VenueSettings) or prefix.endswith("binance_usdm."):
            yield f"{prefix}{field.name}", default, field.type, _description(field.type)
        elif default != getattr(Settings().venues.binance_usdm, field.name):
            yield f"{prefix}{field.name}", default, field.type, "Likewise"


def _description(kind: Any) -> str:
    found = _described(inspect.type_info(kind))
    if found is None:
        raise ConfigurationError("a setting has no description", field=str(kind))
    return found


def _described(info: inspect.Type) -> str | None:
    found = (info.extra_json_schema or {}).get("description") if isinstance(info, inspect.Metadata) else None
    return found if isinstance(found, str) else None


def _default_text(value: object) -> str:
    if value is None or value == {}:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _rule(info: inspect.Type) -> str:  # noqa: PLR0911 - one line per kind of value
    match info:
        case inspect.Metadata(type=inner):
            return _rule(inner)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return _number_rule(info)
        case inspect.EnumType(cls=choices):
            return "one of " + ", ".join(str(choice.value) for choice in choices)
        case inspect.StrType(pattern=str(pattern)):
            return f"text like {pattern}"
        case inspect.VarTupleType(item_type=item, min_length=least):
            return f"a list{f' of at least {least}' if least else ''}; each {_described(item) or _rule(item)}"
        case inspect.DictType(value_type=value):
            return f"a table; each {_rule(value)}"
        case inspect.UnionType(types=members):
            return next(_rule(member) for member in members if not isinstance(member, inspect.NoneType))
        case _:
            return "text"


def _number_rule(info: inspect.IntType | inspect.FloatType) -> str:
    noun = "an integer" if isinstance(info, inspect.IntType) else "a number"
    bounds = [
        f"{word} {limit:g}" if isinstance(limit, float) else f"{word} {limit}"
        for word, limit in (
            ("above", info.gt),
            ("at least", info.ge),
            ("below", info.lt),
            ("at most", info.le),
        )
        if limit is not None
    ]
    return f"{noun} {', '.join(bounds)}" if bounds else noun


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
