"""What may be shown: values short enough to read, and never a secret."""

from __future__ import annotations

import re

SHOWN_CHARACTERS = 200
"""Longest value that an error about a setting repeats."""
SECRET = "(secret)"  # noqa: S105 - the word that stands for one

_SECRET_NAME = re.compile(
    r"secret|passw|passphrase|token|api_?key|credential|signature|authorization|listen_?key", re.IGNORECASE
)
_URL_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_QUERY_SECRET = re.compile(r"((?:signature|listenKey|token|api_?key|otp)=)[^&\s\"']+", re.IGNORECASE)


def redacted(name: str, text: str) -> str:
    """Return ``text`` without secrets: all of it when ``name`` names one, else URL credentials and keys."""
    if _SECRET_NAME.search(name):
        return SECRET
    return _QUERY_SECRET.sub(rf"\1{SECRET}", _URL_CREDENTIALS.sub(f"//{SECRET}@", text))


def shortened(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """Return at most so many characters, with an ellipsis where some are missing."""
    return text if len(text) <= characters else text[: characters - 1] + "…"
