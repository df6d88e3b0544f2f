"""A listening socket that bounds connections which have not completed their handshake."""

from __future__ import annotations

import socket
import weakref
from typing import Any


class GatedSocket(socket.socket):
    """Closes what it accepts beyond a bound of pending handshakes.

    A client that connects and then says nothing, or dribbles its request, holds one of the places until it
    is done or the handshake timeout ends it; further connections are closed at once meanwhile.
    """

    pending_max: int
    dropped: int
    _pending: dict[int, weakref.ref[socket.socket]]

    @classmethod
    def listening_on(cls, host: str, port: int, pending_max: int) -> GatedSocket:
        """Bind, without listening yet.

        Raises:
            OSError: the address is not ours or is in use.
        """
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        gate = cls(family, kind, protocol)
        gate.pending_max = pending_max
        gate.dropped = 0
        gate._pending = {}
        try:
            gate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            gate.bind(address)
        except OSError:
            gate.close()
            raise
        return gate

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept one connection.

        Raises:
            ConnectionAbortedError: it was closed because too many handshakes are pending; loops go on.
        """
        connection, address = super().accept()
        if len(self._pending) >= self.pending_max:
            self._forget_ended()
            if len(self._pending) >= self.pending_max:
                self.dropped += 1
                connection.close()
                raise ConnectionAbortedError("too many pending handshakes")
        self._pending[connection.fileno()] = weakref.ref(connection)
        return connection, address

    def admitted(self, descriptor: int) -> None:
        """Note that a connection completed its handshake."""
        self._pending.pop(descriptor, None)

    def _forget_ended(self) -> None:
        for descriptor, reference in list(self._pending.items()):
            connection = reference()
            if connection is None or connection.fileno() != descriptor:
                del self._pending[descriptor]
