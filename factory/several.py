"""A server of several processes: the sockets and the folder held, the processes kept running, their metrics told as one."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import structlog
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError

from config import Settings, SettingsError
from config.fields import PREFIX
from config.processes import ProcessPlan
from factory.children import Launcher
from factory.listening import check_listening, read_endpoint
from factory.sockets import bind, shown
from factory.supervisor import LIVES, Launch, Supervisor
from server.clock import Clock
from server.database.folder import DataFolder, FolderInUse
from server.futures import as_future
from server.metrics.access import Access
from server.metrics.gathered import GatheredMetrics, socket_of
from server.metrics.page import metrics_site
from server.replies import ServerState

log = structlog.get_logger("atelier.supervisor")

GRACE = 20.0  # seconds beyond the drain time-out: for webhooks' last words, connections and threads
SHARED = ("tcp", "tcp6", "ssl")  # kinds of endpoints whose sockets can be given to other processes


class SeveralProcesses:
    """What `atelier serve --processes` serves. `addresses` says where it listens, once started."""

    def __init__(
        self, settings: Settings, reactor: Any, plans: Sequence[ProcessPlan], tell: Callable[[bytes], None]
    ) -> None:
        check_listening(settings)
        self._settings = settings
        self._reactor = reactor
        self._tell = tell
        self._plans = plans
        self._folder = DataFolder(settings.data_dir)
        self._sockets: dict[str, socket.socket] = {}
        self._metrics_folder: Path | None = None
        self._metrics_port: Any = None  # IListeningPort, which mypy cannot read
        self._supervisor: Supervisor | None = None
        self.addresses: list[str] = []
        self.threads_left = False

    @property
    def live_jobs(self) -> int:
        """The processes' own business."""
        return 0

    @property
    def state(self) -> ServerState:
        """Ready when all processes are up."""
        supervisor = self._supervisor
        ready = supervisor is not None and len(supervisor.up) >= supervisor.count
        return ServerState.READY if ready else ServerState.LOADING

    async def start(self) -> None:
        """Raises SettingsError, CannotListenError, NotStarted."""
        try:
            self._hold()
            if any(plan.doors for plan in self._plans):
                self._listen()
            self._supervisor = Supervisor(
                self._plans,
                self._launcher(),
                cast(Clock, self._reactor),
                patience=self._settings.drain_timeout + GRACE,
                pause=self._settings.restart_pause,
            )
            await self._tell_metrics(self._supervisor)
            await self._supervisor.start()
        except BaseException:
            await self._close()
            raise
        log.info("processes.up", processes=self._supervisor.up, addresses=self.addresses)

    async def stop(self) -> None:
        """End the processes, which finish what they do, and let go of what was held."""
        if self._supervisor is not None:
            await self._supervisor.stop()
        await self._close()
        log.info("processes.stopped")

    def roll(self) -> None:
        """Replace the processes one after the other."""
        if self._supervisor is not None:
            self._supervisor.roll()

    def _hold(self) -> None:
        try:
            self._folder.hold()
        except FolderInUse as error:
            raise SettingsError(f"{PREFIX}DATA_DIR: {error}") from None
        except OSError as error:
            raise SettingsError(f"{PREFIX}DATA_DIR: {error.filename}: {error.strerror}") from None

    def _listen(self) -> None:
        last = (self._settings.udp_port or 0) + len(LIVES) * len(self._plans) - 1
        if last > 65_535:
            raise SettingsError(
                f"{PREFIX}UDP_PORT: {len(self._plans)} processes need the ports up to {last}; 65535 is the last"
            )
        endpoints = {"tcp": (self._settings.tcp_listen, f"{PREFIX}TCP_LISTEN")}
        if self._settings.http_endpoint():
            endpoints["http"] = (self._settings.http_endpoint(), f"{PREFIX}HTTP_LISTEN")
        for door, (text, name) in endpoints.items():
            endpoint = read_endpoint(text, name)
            if endpoint.kind not in SHARED:
                raise SettingsError(f"{name}: {endpoint.kind}: several processes share tcp:, tcp6: and ssl: alone")
            self._sockets[door] = bind(endpoint)
            scheme = "tcp" if door == "tcp" else "https" if endpoint.kind == "ssl" else "http"
            self.addresses.append(shown(self._sockets[door], scheme))

    def _launcher(self) -> Launch:
        if self._settings.metrics_listen:
            self._metrics_folder = Path(tempfile.mkdtemp(prefix="atelier-"))  # a path of sockets has 107 bytes at most
        numbers = {door: bound.fileno() for door, bound in self._sockets.items()}
        return Launcher(self._reactor, numbers, self._environment, self._tell)

    def _environment(self, name: str) -> Mapping[str, str]:
        listen = f"unix:{socket_of(self._metrics_folder, name)}:mode=600" if self._metrics_folder else ""
        return {f"{PREFIX}METRICS_LISTEN": listen, **self._udp_port(name)}

    def _udp_port(self, name: str) -> Mapping[str, str]:
        """Each life its own, from the one that was set on: those that take over from others come after all of these."""
        first = self._settings.udp_port
        if not first:
            return {}
        place = [plan.name for plan in self._plans].index(name[:-1])
        return {f"{PREFIX}UDP_PORT": str(first + LIVES.index(name[-1]) * len(self._plans) + place)}

    async def _tell_metrics(self, supervisor: Supervisor) -> None:
        if self._metrics_folder is None:
            return
        token = self._settings.metrics_token
        metrics = GatheredMetrics(
            self._reactor,
            self._metrics_folder,
            token.get_secret_value(),
            lambda: supervisor.up,
            lambda: (supervisor.count, supervisor.restarts),
        )
        try:
            endpoint: Any = serverFromString(self._reactor, self._settings.metrics_listen)  # type: ignore[no-untyped-call]
            self._metrics_port = await as_future(endpoint.listen(metrics_site(metrics, Access(token), self)))
        except CannotListenError:
            raise
        except Exception as error:
            raise SettingsError(f"{PREFIX}METRICS_LISTEN: {error or type(error).__name__}") from error

    async def _close(self) -> None:
        for bound in self._sockets.values():
            bound.close()
        if self._metrics_port is not None:
            stopping = self._metrics_port.stopListening()
            if stopping is not None:
                await as_future(stopping)
        if self._metrics_folder is not None:
            shutil.rmtree(self._metrics_folder, ignore_errors=True)
        self._folder.release()
