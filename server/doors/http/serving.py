"""uvicorn's protocols on a bound socket of the reactor's loop. Of uvicorn nothing else is used: its Server would poll, take over
signals, and end the process where it cannot listen.
"""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate
from typing import Protocol

import structlog
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.server import ServerState

from server.clock import Clock, Timer
from server.doors.http.connections import ConnectionLimits, HttpConnection

log = structlog.get_logger("atelier.http")

LOOK_EVERY = 0.5  # seconds; a deadline is kept as exactly
BACKLOG = 2048  # uvicorn's own
MAX_SOCKET_MESSAGE = 4096  # bytes; nobody has anything to tell us over a WebSocket


class Connection(Protocol):
    """HttpConnection or WebSocketConnection."""

    def look(self, now: float) -> None:
        """Cut the client off where it is late."""
        ...

    def shutdown(self) -> None:
        """End when what is under way has been said."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


class HttpServer:
    """Listens, and has the connections. `tls` is the files of a private key and a certificate."""

    def __init__(
        self, app: ASGIApp, clock: Clock, limits: ConnectionLimits, *, tls: tuple[str, str] | None = None
    ) -> None:
        self.clock = clock
        self.limits = limits
        key, certificate = tls or (None, None)
        self.config = Config(
            app,
            http=HttpConnection,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            log_level="critical",  # we log what matters ourselves; strangers' bytes fill no log
            access_log=False,
            proxy_headers=False,  # anyone could say anything
            server_header=False,
            ws_max_size=MAX_SOCKET_MESSAGE,
            ws_per_message_deflate=False,  # memory and time for messages of 200 bytes
            ssl_keyfile=key,
            ssl_certfile=certificate,
        )
        self.config.load()
        self.state = ServerState()
        self._open: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._timer: Timer | None = None
        self._all_gone: asyncio.Future[bool] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The reactor's."""
        return asyncio.get_running_loop()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def listen(self, bound: socket.socket) -> None:
        """Take connections from a bound socket, which is ours from now on."""
        self._server = await self.loop.create_server(
            lambda: HttpConnection(self), sock=bound, ssl=self.config.ssl, backlog=BACKLOG
        )
        self._look()

    def stop_listening(self) -> None:
        """Take no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close_all(self, within: float) -> None:
        """Let every answer that is under way end, for at most so many seconds; then cut what is left."""
        self.stop_listening()
        for connection in tuple(self._open):
            connection.shutdown()
        if self._open:
            self._all_gone = self.loop.create_future()
            timer = self.clock.callLater(within, self._all_gone.set_result, False)
            if await self._all_gone:
                timer.cancel()
        for connection in tuple(self._open):
            connection.abort()
        for task in tuple(self.state.tasks):
            task.cancel()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def opened(self, connection: Connection) -> None:
        """There is one more."""
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        """There is one less."""
        self._open.discard(connection)
        if self._all_gone is not None and not self._open and not self._all_gone.done():
            self._all_gone.set_result(True)

    def _look(self) -> None:
        now = self.clock.seconds()
        self.state.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]
        for connection in tuple(self._open):
            connection.look(now)
        self._timer = self.clock.callLater(LOOK_EVERY, self._look)
