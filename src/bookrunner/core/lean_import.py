"""Imports without the extras that a library loads for features we never use."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def import_without(name: str, *extras: str) -> ModuleType:
    """Import ``name`` as if its optional ``extras`` were not installed.

    structlog loads Rich for tracebacks that we render plainly, httpx loads Click and Rich for a command line
    of its own; each costs a twentieth of the time that the whole start may take. Extras that something else
    has loaded stay as they are, and all can be imported afterwards.
    """
    if name in sys.modules:
        return sys.modules[name]
    hidden = [extra for extra in extras if extra not in sys.modules]
    for extra in hidden:
        sys.modules[extra] = None  # type: ignore[assignment]  # how the import system spells "not here"
    try:
        return import_module(name)
    finally:
        for extra in hidden:
            del sys.modules[extra]
