"""Live sessions from the settings: the stream models that there are, and their processes (ai.live.launching says what is run)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ai.custom.launching import environment
from ai.live.launching import command
from ai.live.manifests import Manifest, ManifestError, read_manifest, read_manifests
from config import Settings, SettingsError
from config.painting import DEMO_MODEL
from factory.processes import Printed
from server.live.events import Sources
from server.live.runner import Launch, ProcessListener, Runner, TickListener
from server.live.sessions import LiveLimits, Sessions

EMBEDDED = DEMO_MODEL.with_name("stream-demo")

_PRINTED, _ERRORS, _REQUESTS, _ANSWERS = 1, 2, 3, 4
_PIPES = {0: "w", _PRINTED: "r", _ERRORS: "r", _REQUESTS: "w", _ANSWERS: "r"}


def read_stream_models(settings: Settings) -> list[Manifest]:
    """The embedded one, and the operator's; of two with the same name the operator's. Raises SettingsError."""
    try:
        found = {EMBEDDED.name: read_manifest(EMBEDDED)} if EMBEDDED.is_dir() else {}
        if settings.stream_models_dir is not None:
            found |= {manifest.name: manifest for manifest in read_manifests(settings.stream_models_dir.absolute())}
    except ManifestError as error:
        raise SettingsError(f"ATELIER_STREAM_MODELS_DIR: {error}") from None
    return list(found.values())


def make_live(settings: Settings, reactor: Any, sources: Sources | None = None) -> Sessions:
    """The sessions of this process. No stream process is begun before one is opened. Raises SettingsError."""
    launch = Launcher(reactor, environment(os.environ), settings.stream_threads)

    def runner(manifest: Manifest, listener: TickListener) -> Runner:
        return Runner(
            manifest,
            launch.of(manifest.name),
            reactor,
            listener,
            spare=settings.stream_spare,
            tick_timeout=settings.stream_tick_timeout,
            load_timeout=settings.stream_load_timeout,
        )

    limits = LiveLimits(
        sessions=settings.max_live_sessions,
        sessions_per_owner=settings.max_live_sessions_per_owner,
        idle_timeout=settings.stream_idle_timeout,
    )
    return Sessions(
        read_stream_models(settings),
        reactor,
        limits,
        runner,
        new_id=lambda: f"live-{uuid.uuid4().hex}",
        sources=sources,
    )


class Launcher:
    """Begins stream processes."""

    def __init__(self, reactor: Any, environment: Mapping[str, str], threads: int) -> None:
        self._reactor = reactor
        self._environment = dict(environment)
        self._threads = threads

    def of(self, model: str) -> Launch:
        """Those of one model."""

        def launch(listener: ProcessListener) -> StreamChild:
            child = StreamChild(self._reactor, model, listener)
            arguments = command(_REQUESTS, _ANSWERS, self._threads)
            # Without a path it is posix_spawn'ed: to fork a process of many gigabytes would hold up the reactor.
            self._reactor.spawnProcess(child, arguments[0], arguments, env=self._environment, childFDs=_PIPES)
            return child

        return launch


class StreamChild(ProcessProtocol):
    """A `StreamProcess`. It ends by itself when its pipe is closed, so also when this process is killed."""

    transport: Any  # IProcessTransport, which mypy cannot read

    def __init__(self, reactor: Any, model: str, listener: ProcessListener) -> None:
        self._reactor = reactor
        self._listener = listener
        self._printed = Printed(model, reactor.seconds)
        self._over = False

    def send(self, data: bytes) -> None:
        """Ask it something."""
        if self.transport is not None and not self._over:
            self.transport.writeToChild(_REQUESTS, data)

    def kill(self) -> None:
        """End it at once."""
        if self.transport is not None and self.transport.pid is not None:
            self.transport.signalProcess("KILL")

    @property
    def pid(self) -> int | None:
        """Its number, while it is there."""
        return None if self.transport is None else self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        """Some of what it says."""
        if childFD == _ANSWERS:
            self._listener.heard(data)
        else:
            self._printed.receive(data)

    def childConnectionLost(self, childFD: int) -> None:  # noqa: N802, N803
        """When the pipe of its answers has closed it is as good as gone: nobody waits for the kernel to say so."""
        if childFD == _ANSWERS:
            self.kill()
            self._reactor.callLater(0, self._reap)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """Nothing is left of it."""
        if self._over:
            return
        self._over = True
        self._printed.close()
        status: Any = reason.value
        if isinstance(status, ProcessDone):
            how = "ended by itself"
        elif status.signal is not None:
            how = f"was ended by signal {status.signal}"
        else:
            how = f"ended with status {status.exitCode}"
        self._listener.ended(how)

    def _reap(self) -> None:
        if not self._over and self.transport is not None:
            self.transport.reapProcess()
            self._reactor.callLater(0.05, self._reap)
