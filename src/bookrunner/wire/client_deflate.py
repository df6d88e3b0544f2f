"""permessage-deflate (RFC 7692) for one body shared by many clients. Pure: bytes in, bytes out.

Raw deflate blocks may be joined, so a message can be a stored (uncompressed) block with what is the client's
own, followed by blocks that were compressed once for all. Without context takeover no block looks back into
another message, so the compressed blocks serve every client.
"""

from __future__ import annotations

import zlib

from bookrunner.core.errors import InvalidRequestError

WINDOW_BITS = 12
"""Our compressor's window: 4 KiB holds a whole message of the usual size."""
WINDOW_BITS_MIN = 9
WINDOW_BITS_MAX = 15
LEVEL = 1
"""zlib's fastest: a books message shrinks to about a third in some 30 µs."""
COMPRESS_FROM_BYTES = 256
"""Shorter bodies are sent as they are, which the extension allows per message."""
OFFERS_MAX = 8
"""Extension offers looked at; the rest are ignored."""
_FLUSH_TAIL = b"\x00\x00\xff\xff"
_NAME = "permessage-deflate"
_KNOWN_FLAGS = frozenset({"server_no_context_takeover", "client_no_context_takeover"})


def deflate_body(body: bytes) -> bytes:
    """Compress a body into blocks that end at a byte boundary and look back at nothing before them."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS)
    return (compressor.compress(body) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_FLUSH_TAIL)]


def stored_block(data: bytes) -> bytes:
    """Return ``data`` (at most 65,535 bytes) as one uncompressed block, not the last (RFC 1951, 3.2.4)."""
    length = len(data)
    return b"\x00" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little") + data


def inflate(payload: bytes, bytes_max: int) -> bytes | None:
    """Inflate a client's message; ``None`` when it would be longer than ``bytes_max``.

    Raises:
        InvalidRequestError: the payload is no deflate stream.
    """
    inflater = zlib.decompressobj(-WINDOW_BITS_MAX)
    try:
        message = inflater.decompress(payload + _FLUSH_TAIL, bytes_max + 1)
    except zlib.error as error:
        raise InvalidRequestError(
            "the message is not a deflate stream", field="frame", value=payload[:16].hex(), rule="RFC 7692"
        ) from error
    return None if len(message) > bytes_max else message


def accept_offer(headers: list[str]) -> str | None:
    """Choose among a client's ``Sec-WebSocket-Extensions``; return our answer, or ``None`` to decline.

    The first offer of permessage-deflate that we can keep is taken: neither side keeps context, so that one
    compressed body serves all clients.
    """
    offers = [offer for header in headers for offer in header.split(",")]
    for offer in offers[:OFFERS_MAX]:
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() == _NAME:
            answer = _answer(parameters)
            if answer is not None:
                return answer
    return None


def _answer(parameters: list[str]) -> str | None:
    answer = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
    seen = set()
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name in seen:
            return None
        seen.add(name)
        if name == "server_max_window_bits":
            if not value.isdecimal() or not WINDOW_BITS <= int(value) <= WINDOW_BITS_MAX:
                return None
            answer += f"; server_max_window_bits={WINDOW_BITS}"
        elif name == "client_max_window_bits":
            if value and (not value.isdecimal() or not WINDOW_BITS_MIN - 1 <= int(value) <= WINDOW_BITS_MAX):
                return None
        elif name not in _KNOWN_FLAGS or value:
            return None
    return answer
