"""Atelier's TCP door with nothing behind it but Ping: the factory's parts and the environment's settings, without an engine.

    ATELIER_TCP_LISTEN=tcp:0:interface=127.0.0.1 python -m bench.door

What it is measured beside has no model either; and the heap that loading one leaves behind, with room for thousands of
connections in it, would hide what a connection takes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

from twisted.internet import asyncioreactor

from config import Settings, load_settings
from factory.limits import door_limits
from factory.logs import set_up_logging
from factory.tcp import TcpDoor
from server.clock import Clock
from server.commands import Ping
from server.door_parts import DoorParts
from server.futures import Tasks
from server.handlers.ping import PingHandler
from server.identity import Identities
from server.interfaces import JobStore
from server.jobs.board import Board
from server.pools import ThreadedPool
from server.storage.local import LocalArtifacts
from server.vigil import Vigil


def build_door(settings: Settings, reactor: Any) -> TcpDoor:
    """The door as factory.service builds it, and one handler."""
    clock = cast(Clock, reactor)
    pool = ThreadedPool("finishing", settings.finishing_threads)  # never started
    identities = Identities(settings.tokens)
    parts = DoorParts(
        handlers={Ping: PingHandler(clock.seconds)},
        board=Board(cast(JobStore, None)),  # there are no jobs
        artifacts=LocalArtifacts(Path("nowhere"), pool, ""),
        identities=identities,
        vigil=Vigil(identities, clock),
        clock=clock,
        tasks=Tasks(),
        limits=door_limits(settings),
    )
    return TcpDoor(
        parts, max_connections=settings.max_connections, max_per_address=settings.max_connections_per_address
    )


async def listen(settings: Settings, reactor: Any) -> None:
    """Listen, and tell the port on stdout."""
    port = await build_door(settings, reactor).listen(reactor, settings.tcp_listen)
    print(json.dumps({"port": port.getHost().port}), flush=True)


def main() -> None:
    """Serve until the process is ended."""
    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)  # type: ignore[no-untyped-call]
    from twisted.internet import reactor as installed

    reactor: Any = installed
    settings = load_settings()
    set_up_logging(settings)
    listening = loop.create_task(listen(settings, reactor))
    listening.add_done_callback(lambda task: task.result())
    reactor.run()


if __name__ == "__main__":
    main()
