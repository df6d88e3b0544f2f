"""Opening a TCP connection that can be given up at any point."""

from __future__ import annotations

import asyncio
import contextlib
import socket

ADDRESS_TIMEOUT_S = 4.0
"""For one address of a host; then the next is tried, so that a dead route does not cost the whole attempt."""


class Dialler:
    """Opens one socket and remembers it, so that an attempt that is abandoned half-way can be ended.

    Args:
        receive_buffer_bytes: bound of the kernel's receive buffer, or ``None`` for the kernel's own
            (autotuned within ``net.ipv4.tcp_rmem``). When the loop falls behind, frames wait there, and then
            at the peer.
    """

    def __init__(self, receive_buffer_bytes: int | None) -> None:
        self._receive_buffer_bytes = receive_buffer_bytes
        self._socket: socket.socket | None = None

    async def dial(self, host: str, port: int) -> socket.socket:
        """Return a connected, non-blocking socket, trying the host's addresses in turn.

        Raises:
            OSError: none of them accepted (``TimeoutError`` is one).
        """
        loop = asyncio.get_running_loop()
        failure = OSError("host has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            opened = socket.socket(family, kind, protocol)
            try:
                opened.setblocking(False)  # noqa: FBT003 - the socket API
                if self._receive_buffer_bytes is not None:
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
                async with asyncio.timeout(ADDRESS_TIMEOUT_S):
                    await loop.sock_connect(opened, address)
            except OSError as error:
                opened.close()
                failure = error
            except BaseException:
                opened.close()
                raise
            else:
                self._socket = opened
                return opened
        raise failure

    def abandon(self) -> None:
        """End the socket under whatever owns it by now: the owner sees end of file and lets go."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # already gone, which is what is wanted
                self._socket.shutdown(socket.SHUT_RDWR)
