"""Custom models' processes, as Twisted runs them (ai.custom.launching says what is run)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ai.custom.cards import CustomCard
from ai.custom.framing import Frames, FramingError, frame
from ai.custom.launching import command
from ai.custom.process import Ending, Listener

log = structlog.get_logger("atelier.custom")

_CONTROL, _STATUS, _PRINTED, _REQUESTS, _ANSWERS = range(5)
_PIPES = {_CONTROL: "w", _STATUS: "r", _PRINTED: "r", _REQUESTS: "w", _ANSWERS: "r"}
LINE = 1000  # characters of a printed line that are logged
LINES_A_MINUTE = 60  # what is printed beyond it is counted
_REAP_EVERY = 0.1  # seconds: where nobody hears of SIGCHLD (a reactor that was not given the signals)
_CLOSE_AFTER = 1.0  # seconds from a keeper's end to its pipes being closed
_KILL_AFTER = 5.0  # seconds for a keeper to end what it keeps: it needs milliseconds


class Launcher:
    """Begins processes; a `Launch`."""

    def __init__(self, reactor: Any, environment: Mapping[str, str], max_output: int) -> None:
        self._reactor = reactor
        self._environment = dict(environment)
        self._max_output = max_output

    def __call__(self, card: CustomCard, memory_limit: int, listener: Listener) -> ModelProcess:
        """Begin one. Raises OSError."""
        process = ModelProcess(self._reactor, card.name, listener, self._max_output)
        arguments = command(memory_limit, _REQUESTS, _ANSWERS)
        # Without a path it is posix_spawn'ed: to fork a process of many gigabytes would hold up the reactor.
        self._reactor.spawnProcess(process, arguments[0], arguments, env=self._environment, childFDs=_PIPES)
        return process


class ModelProcess(ProcessProtocol):
    """One keeper and its model; a `Process`."""

    transport: Any  # IProcessTransport, which mypy cannot read

    def __init__(self, reactor: Any, model: str, listener: Listener, max_output: int) -> None:
        self._reactor = reactor
        self._model = model
        self._listener = listener
        self._frames = Frames(max_output)
        self._status = b""
        self._printed = Printed(model, reactor.seconds)
        self._ending = Ending("lost")
        self._killing: Any = None  # IDelayedCall, which mypy cannot read
        self._reaping: Any = None
        self._closing: Any = None
        self._over = False

    # A Process

    def send(self, head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
        """Ask it something."""
        if self.transport is not None:
            self.transport.writeToChild(_REQUESTS, frame(head, parts))

    def end(self) -> None:
        """Have the keeper end it, by closing its pipe. A keeper that does not is killed, and the kernel then kills the model."""
        if self.transport is None or self._over or self._killing is not None:
            return
        self.transport.closeChildFD(_CONTROL)
        self._killing = self._reactor.callLater(_KILL_AFTER, self._kill)

    @property
    def pid(self) -> int | None:
        """The keeper's."""
        return None if self.transport is None else self.transport.pid

    def _kill(self) -> None:
        if self.transport is not None and self.transport.pid is not None:
            self.transport.signalProcess("KILL")

    # A ProcessProtocol

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Some of what it says."""
        if childFD == _ANSWERS:
            self._answered(data)
        elif childFD == _PRINTED:
            self._printed.receive(data)
        else:
            *lines, self._status = (self._status + data).split(b"\n")
            for line in lines:
                self._told(json.loads(line))

    def childConnectionLost(self, childFD: int) -> None:
        """A pipe has closed; when the status has, the process ends, if nobody tells us so."""
        if childFD == _STATUS:
            self._reap()

    def processExited(self, reason: Failure) -> None:
        """The keeper is no more; a pipe that somebody else still holds open is waited for no longer than this."""
        if not self._over:
            self._closing = self._reactor.callLater(_CLOSE_AFTER, self._close)

    def _close(self) -> None:
        if self.transport is not None:
            for pipe in _PIPES:
                self.transport.closeChildFD(pipe)

    def processEnded(self, reason: Failure) -> None:
        """Nothing is left of it."""
        self._over = True
        for timer in (self._killing, self._reaping, self._closing):
            if timer is not None and timer.active():
                timer.cancel()
        self._printed.close()
        self._listener.ended(self._ending)

    def _answered(self, data: bytes) -> None:
        try:
            for message in self._frames.receive(data):
                self._listener.heard(message)
        except FramingError as error:
            self.transport.closeChildFD(_ANSWERS)
            self._listener.garbled(str(error))

    def _told(self, told: Mapping[str, Any]) -> None:
        if "resident" in told:
            self._listener.takes(int(told["resident"]))
        else:
            self._ending = Ending.of(told)

    def _reap(self) -> None:
        if self._over or self.transport is None:
            return
        self.transport.reapProcess()
        self._reaping = self._reactor.callLater(_REAP_EVERY, self._reap)


class Printed:
    """What a model prints, as lines of the log; not so many that they drown the rest."""

    def __init__(self, model: str, seconds: Any) -> None:
        self._model = model
        self._seconds = seconds
        self._line = b""
        self._minute = -1
        self._lines = self._more = 0

    def receive(self, data: bytes) -> None:
        """Some of it."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._say(line)
        if len(self._line) > LINE:
            self._say(self._line)
            self._line = b""

    def close(self) -> None:
        """There is no more."""
        if self._line:
            self._say(self._line)
        self._say_more()

    def _say(self, line: bytes) -> None:
        minute = int(self._seconds() // 60)
        if minute != self._minute:
            self._say_more()
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines > LINES_A_MINUTE:
            self._more += 1
        else:
            log.info("custom.printed", model=self._model, line=line.decode(errors="replace")[:LINE])

    def _say_more(self) -> None:
        if self._more:
            log.info("custom.printed_more", model=self._model, lines=self._more)
            self._more = 0
