"""How something that serves starts: where it listens goes to stdout, why it does not to stderr and into the exit status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import structlog
from twisted.internet.error import CannotListenError

from atelier.running import say
from config import SettingsError
from factory.supervisor import NotStarted

log = structlog.get_logger("atelier")


class Service(Protocol):
    """What is served."""

    addresses: list[str]

    @property
    def live_jobs(self) -> int:
        """Jobs that have not ended."""
        ...

    async def start(self) -> None:
        """Listen. Raises SettingsError, CannotListenError."""
        ...

    async def stop(self) -> None:
        """Finish what runs, and end."""
        ...


S = TypeVar("S", bound=Service)


class Starting(Generic[S]):
    """`status` is the exit status: 2 for a setting that does not fit, 1 where it cannot start.

    `started` is called when it has.
    """

    def __init__(self, reactor: Any, service: S, started: Callable[[], None] = lambda: None) -> None:
        self._reactor = reactor
        self._service = service
        self._started = started
        self._starting: asyncio.Task[bool] | None = None
        self._stopping = False
        self.status = 0

    async def _start(self) -> bool:
        try:
            await self._service.start()
        except SettingsError as error:
            self._fail(2, str(error))
        except CannotListenError as error:
            self._fail(1, f"cannot listen: {error}")
        except NotStarted as error:
            if not self._stopping:
                self._fail(2 if str(error).endswith("status 2") else 1, f"cannot start: {error}")
        except Exception as error:
            log.exception("server.broken")
            self._fail(1, f"cannot start: {error}")
        else:
            self._started()
            for address in self._service.addresses:
                print(f"listening on {address}", flush=True)
            if not self._service.addresses:
                print("working: jobs come from RabbitMQ", flush=True)
            return True
        return False

    def _fail(self, status: int, text: str) -> None:
        say(text)
        self.status = status
        if not self._stopping:
            self._reactor.stop()
