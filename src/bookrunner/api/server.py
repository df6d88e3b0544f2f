"""The API as a service: a socket bound at start, FastAPI and uvicorn loaded when the books have theirs.

This module is cheap to import; everything heavy is imported by ``run``, on another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import structlog

from bookrunner.core.errors import ConfigurationError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

BACKLOG = 128
CONCURRENT_REQUESTS_MAX = 256
"""Requests and connections beyond are answered 503."""
KEEP_ALIVE_S = 15
GRACE_S = 1
"""Time that open requests have to end at stop."""
IMPORT_DELAY_S = 2.0
"""Longest wait for the first books before the heavy imports begin; they would slow the start."""

log = structlog.get_logger(__name__)


class ApiService:
    """Serves an ASGI application on the running loop.

    Args:
        make_app: imports and builds the application; called on another thread, once.
        host: address to listen on.
        port: port; 0 picks a free one, then ``port`` says which.
        after: set when the process has better things behind it; waited for ``IMPORT_DELAY_S`` at most.
    """

    name = "api"

    def __init__(
        self, make_app: Callable[[], ASGIApp], host: str, port: int, after: asyncio.Event | None = None
    ) -> None:
        self.host = host
        self.port = port
        self.ready = asyncio.Event()
        """Set when requests are answered."""
        self._make_app = make_app
        self._after = after
        self._stopping = asyncio.Event()
        self._socket: socket.socket | None = None

    async def start(self) -> None:
        """Bind the port; requests wait in the backlog until ``run`` serves them.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            self._socket = socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                "cannot listen", field="api.port", value=f"{self.host}:{self.port}", rule=error.strerror
            ) from error
        self.port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Load the application and serve it until ``stop``."""
        if self._after is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IMPORT_DELAY_S):
                    await self._after.wait()
        server = await asyncio.to_thread(self._make_server)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve(sockets=[self._socket] if self._socket else None))
            log.info("api_listening", host=self.host, port=self.port)
            self.ready.set()
            await self._stopping.wait()
            server.should_exit = True
            await serving

    async def stop(self) -> None:
        """Take no more requests and let open ones end."""
        self._stopping.set()

    def _make_server(self) -> uvicorn.Server:
        import uvicorn

        class Server(uvicorn.Server):
            """Leaves the process's signals to their owner."""

            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        options: dict[str, Any] = {
            "access_log": False,
            "http": "httptools",
            "lifespan": "off",
            "limit_concurrency": CONCURRENT_REQUESTS_MAX,
            "log_config": None,
            "server_header": False,
            "timeout_graceful_shutdown": GRACE_S,
            "timeout_keep_alive": KEEP_ALIVE_S,
            "ws": "none",
        }
        return Server(uvicorn.Config(self._make_app(), **options))
