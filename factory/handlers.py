"""Every command's handler, made of what the server is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from factory.catalogue import Models
from server.backlog import BacklogWatch
from server.clock import Clock
from server.handlers import HandlerTable, handler_table
from server.handlers.cancel import CancelHandler, Cancels
from server.handlers.get_job import GetJobHandler
from server.handlers.list_jobs import ListJobsHandler
from server.handlers.list_models import GetModelHandler, ListModelsHandler
from server.handlers.live import LiveHandlers
from server.handlers.ping import PingHandler
from server.handlers.server_status import ServerStatusHandler
from server.handlers.submit import SubmitHandler
from server.handlers.watch import WatchHandler
from server.health import Health
from server.interfaces import Handler, JobStore, Painter
from server.jobs.board import Board
from server.jobs.lifecycle import Lifecycle
from server.lag import LagMeter
from server.live.events import Live


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerParts:
    """What the handlers are joined to. `connections` counts the open ones of all doors."""

    submit: SubmitHandler
    cancels: Cancels
    store: JobStore
    board: Board
    health: Health
    models: Models
    painter: Painter
    lifecycle: Lifecycle
    lag: LagMeter
    backlog: BacklogWatch
    connections: Callable[[], int]
    device: str
    live: Live
    connect_udp: Handler
    settings: Callable[[], str] = str


def make_handlers(parts: HandlerParts, clock: Clock) -> HandlerTable:
    """The table that every door dispatches by."""
    return handler_table(
        submit=parts.submit,
        cancel=CancelHandler(parts.store, parts.cancels),
        watch=WatchHandler(parts.store),
        get_job=GetJobHandler(parts.store, parts.board),
        list_jobs=ListJobsHandler(parts.store, parts.board),
        list_models=ListModelsHandler(parts.health, parts.models.catalogue, parts.live),
        get_model=GetModelHandler(parts.health, parts.models.catalogue, parts.models.hosting.hear_news),
        catalogue=parts.models.handlers,
        server_status=ServerStatusHandler(
            health=parts.health,
            painter=parts.painter,
            lifecycle=parts.lifecycle,
            lag=parts.lag,
            clock=clock,
            connections=parts.connections,
            device=parts.device,
            backlog=lambda: parts.backlog.latest,
            settings=parts.settings,
        ),
        ping=PingHandler(clock.seconds),
        live=LiveHandlers(parts.live),
        connect_udp=parts.connect_udp,
    )
