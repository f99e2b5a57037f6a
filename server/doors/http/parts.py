"""What every route of the door shares, and the few things that each of them asks of the house.

admitted = await submit(parts, command)                       a job there is, durably
view = await look_at(parts, owner, job_id)                    a job as it stands
async with await listen_to(parts, owner, job_id, from_event) as listener:
    async for event in listener: …                            every event, as many as a slow reader can take
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from ai.types import EngineNumbers
from server.accounts.service import AccountService
from server.clock import Clock
from server.commands import Cancel, Command, GetJob, Predict, Submit, Watch
from server.doors.http.following import Hearing, Listener, Listeners
from server.futures import Tasks
from server.handlers import HandlerTable
from server.health import Health
from server.identity import Identities
from server.interfaces import ArtifactStore, JobStore, SettingsShelf
from server.job import TERMINAL
from server.jobs.admission import Limits
from server.jobs.board import Board
from server.landing import Landing
from server.metering.usage import UsageRecords
from server.metrics.web import WebMeasures
from server.outgoing import Outgoing
from server.picture_access import PictureAccess
from server.replies import Admitted, CancelRequested, JobView
from server.vigil import Vigil


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bytes and jobs of one request (see config.http for the reasons)."""

    max_body_bytes: int
    max_bodies_bytes: int
    chunk_bytes: int
    max_batch: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Of requests that wait for their picture: how many seconds it may take, and whether it is given up with its client."""

    generation_timeout: float = 300.0
    cancel_on_disconnect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpParts:
    """`base_url` is what others call this door ("": as each request calls it); `cors_origins` are pages that may call it.

    `anonymous_owner` owns what comes without a token; "" where nobody does. `store` is read for pictures alone: everything else
    goes through `handlers`. `numbers` are the engine's; `request_limits` are told to clients; `outgoing` fetches images that they
    give addresses of; what owners are told of their webhooks is made of `webhook_secret`. `registration` (here, open, off) says
    who may make an account; `access` who may see pictures (None: whoever has an address).
    """

    handlers: HandlerTable
    board: Board
    store: JobStore
    artifacts: ArtifactStore
    identities: Identities
    vigil: Vigil
    health: Health
    listeners: Listeners
    clock: Clock
    tasks: Tasks
    limits: HttpLimits
    request_limits: Limits
    webhook_secret: SecretStr | None = None
    outgoing: Outgoing | None = None
    landing: Landing | None = None  # of uploads; none are taken where there is none
    base_url: str = ""
    anonymous_owner: str = ""
    cors_origins: tuple[str, ...] = ()
    measures: WebMeasures | None = None
    numbers: Callable[[], EngineNumbers] = EngineNumbers
    waits: Waits = Waits()
    accounts: AccountService | None = None
    registration: str = "off"
    access: PictureAccess | None = None
    usage: UsageRecords | None = None
    settings: SettingsShelf | None = None  # that are handed out to other nodes


def parts_of(connection: HTTPConnection) -> HttpParts:
    """The parts of the application that a request has come to, for dependencies at a module's top."""
    return cast(HttpParts, connection.app.state.parts)


async def carry_out(parts: HttpParts, command: Command) -> Any:
    """The handler's reply. Raises Refusal."""
    reply: Any = parts.handlers[type(command)](command)
    return await reply if inspect.isawaitable(reply) else reply


async def submit(parts: HttpParts, command: Submit | Predict) -> Admitted:
    """A job, durable when this returns. Runs to its end though the client goes away: what was accepted is accepted.

    Raises Refusal.
    """
    return cast(Admitted, await asyncio.shield(asyncio.ensure_future(carry_out(parts, command))))


async def cancel(parts: HttpParts, owner: str, job_id: str) -> CancelRequested:
    """Ask a job to stop; its row is free at the next step. Raises Refusal (JOB_NOT_FOUND)."""
    return cast(CancelRequested, await carry_out(parts, Cancel(owner=owner, job_id=job_id)))


async def look_at(parts: HttpParts, owner: str, job_id: str) -> JobView:
    """A job as it stands. Raises Refusal (JOB_NOT_FOUND)."""
    return cast(JobView, await carry_out(parts, GetJob(owner=owner, job_id=job_id)))


async def listen_to(
    parts: HttpParts,
    owner: str,
    job_id: str,
    from_event: int = 0,
    *,
    progress: bool = True,
    previews: bool = True,
) -> Listener:
    """A job's events from number `from_event` on; enter it, and it listens until it is left. Raises Refusal (JOB_NOT_FOUND)."""
    await carry_out(parts, Watch(owner=owner, job_id=job_id))
    return Listener(parts.board, parts.listeners, job_id, from_event, progress=progress, previews=previews)


def has_ended(view: JobView) -> bool:
    """Whether nothing more will become of the job."""
    return view.job.state in TERMINAL


async def watch_client(receive: Any, listener: Hearing) -> None:
    """Read on until the client goes away; then let the listener go."""
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass
    listener.let_go()
