"""Settings → the HTTP door: its parts, its socket, its end."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from ai.types import EngineNumbers
from config import Settings, SettingsError
from factory.listening import Endpoint, read_endpoint
from factory.sockets import bind, given, shown
from server.accounts.service import AccountService
from server.doors.http.app import make_app
from server.doors.http.connections import ConnectionLimits
from server.doors.http.following import Listeners
from server.doors.http.parts import HttpLimits, HttpParts, Waits
from server.doors.http.serving import HttpServer
from server.futures import Tasks
from server.handlers import HandlerTable
from server.health import Health
from server.identity import Identities
from server.interfaces import ArtifactStore, JobStore, SettingsShelf
from server.jobs.admission import Limits
from server.jobs.board import Board
from server.landing import Landing
from server.metering.usage import UsageRecords
from server.metrics.web import WebMeasures
from server.outgoing import Outgoing
from server.picture_access import PictureAccess
from server.vigil import Vigil

CLOSING_TIME = 5.0  # seconds that answers under way get when the server stops


class HttpDoor:
    """The door as the service starts and stops it; one that is off does nothing."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        identities: Identities,
        handlers: HandlerTable,
        board: Board,
        store: JobStore,
        artifacts: ArtifactStore,
        health: Health,
        request_limits: Limits,
        outgoing: Outgoing | None,
        landing: Landing | None = None,
        measures: WebMeasures | None = None,
        numbers: Callable[[], EngineNumbers] = EngineNumbers,
        accounts: AccountService | None = None,
        access: PictureAccess | None = None,
        usage: UsageRecords | None = None,
        shelf: SettingsShelf | None = None,
    ) -> None:
        self._endpoint = settings.http_endpoint()
        self._given = settings.given_sockets().get("http")
        self._listeners = Listeners(reactor, settings.http_keep_alive)
        self._server: HttpServer | None = None
        self._limits = connection_limits(settings)
        self._clock = reactor
        self.parts = HttpParts(
            handlers=handlers,
            board=board,
            store=store,
            artifacts=artifacts,
            identities=identities,
            vigil=Vigil(identities, reactor),
            accounts=accounts,
            access=access,
            registration=settings.registration,
            health=health,
            listeners=self._listeners,
            clock=reactor,
            tasks=Tasks(),
            limits=HttpLimits(
                max_body_bytes=settings.http_max_body_bytes,
                max_bodies_bytes=settings.http_max_bodies_bytes,
                chunk_bytes=settings.chunk_bytes,
                max_batch=settings.http_max_batch,
            ),
            request_limits=request_limits,
            webhook_secret=settings.webhook_secret,
            outgoing=outgoing,
            landing=landing,
            base_url=settings.http_base_url.rstrip("/"),
            anonymous_owner=settings.http_anonymous_owner,
            cors_origins=settings.cors_origins,
            measures=measures,
            numbers=numbers,
            usage=usage,
            settings=shelf,
            waits=Waits(
                generation_timeout=settings.generation_timeout,
                cancel_on_disconnect=settings.http_cancel_on_disconnect,
            ),
        )

    async def listen(self) -> str:
        """Listen; gives the address to show, "" where the door is off. Raises SettingsError, CannotListenError."""
        if not self._endpoint:
            return ""
        endpoint = read_endpoint(self._endpoint, "ATELIER_HTTP_LISTEN")
        tls = _tls(endpoint)
        try:
            self._server = HttpServer(make_app(self.parts), self._clock, self._limits, tls=tls)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"ATELIER_HTTP_LISTEN: {error}") from error
        bound = bind(endpoint) if self._given is None else given(self._given, "ATELIER_SOCKETS")
        address = shown(bound, "https" if tls else "http")
        await self._server.listen(bound)
        return address

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._server.connections if self._server else 0

    def stop_listening(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.stop_listening()

    async def close_all(self) -> None:
        """Tell what has ended, let go of who waits for what has not, and close."""
        self._listeners.leave()
        if self._server is not None:
            await self._server.close_all(CLOSING_TIME)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """The connections' part of the settings."""
    return ConnectionLimits(
        header_timeout=settings.http_header_timeout,
        body_timeout=settings.http_body_timeout,
        idle_timeout=settings.http_idle_timeout,
        slow_reader_timeout=settings.slow_reader_timeout,
        max_header_bytes=settings.http_max_header_bytes,
        max_connections=settings.http_max_connections,
        upload_timeout=settings.upload_timeout,
    )


def _tls(endpoint: Endpoint) -> tuple[str, str] | None:
    if endpoint.kind != "ssl":
        return None
    key = endpoint.options.get("privateKey", "server.pem")  # Twisted's own defaults
    return key, endpoint.options.get("certKey", key)
