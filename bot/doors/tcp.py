"""Bots at the TCP door: Atelier's wire protocol. Each bot is a connection; one more asks how the server is doing."""

from __future__ import annotations

import random
from typing import Any

from bot.babble import BABBLES, cope
from bot.client import Client
from bot.conversation import Question
from bot.doors.door import Health
from bot.errors import ClientError, JobCanceledError, JobFailedError, PictureBrokenError, RefusedError
from bot.events import TERMINAL_KINDS, Outcome
from bot.jobs import JobHandle
from bot.line import Line
from bot.orders import submit_message
from bot.patience import Patience
from bot.reconnecting import Reconnecting, Tell
from bot.usurping import usurped
from bot.visit import End, Visit
from proto import atelier_pb2 as pb
from server.errors import Code
from server.events import Succeeded
from server.wire.connection import Received

REMEMBERED = 5000  # jobs of a session, whose second ends would be noticed
_ENDS = {"result": End.SUCCEEDED, "failed": End.FAILED, "canceled": End.CANCELED}
_STATES: dict[int, str] = {number: name.removeprefix("JOB_").lower() for name, number in pb.JobState.items() if number}


class Followed(JobHandle):
    """A job whose every message is told to its visit before the client makes sense of it."""

    def __init__(self, visit: Visit, followed: dict[str, Visit]) -> None:
        super().__init__(submit_message(visit.order.prompt, visit.order.fields(visit.key)), _not_this_way)
        self.visit = visit
        self._followed = followed

    def opening(self) -> pb.Envelope:
        """Submit, or Watch on a later connection."""
        self.visit.on_sent()
        return super().opening()

    def hear(self, kind: str, message: Any) -> bool:
        """Tell the visit what was heard as it was heard, then what it means."""
        visit = self.visit
        if kind == "accepted":
            visit.on_accepted(message.job_id, message.seed)
            self._followed[message.job_id] = visit
            if len(self._followed) > REMEMBERED:
                del self._followed[next(iter(self._followed))]
        elif kind in TERMINAL_KINDS:
            visit.on_terminal(_ENDS[kind])
        elif kind in ("progress", "preview"):
            visit.on_event(kind, message.event_number)
        over = super().hear(kind, message)
        if self.ended:
            self._conclude()
        return over

    def fail(self, error: Exception) -> None:
        """No more will be heard."""
        super().fail(error)
        self._conclude()

    def _conclude(self) -> None:
        visit, end, terminal = self.visit, self._end, self._terminal
        if isinstance(end, Outcome) and isinstance(terminal, Succeeded):
            visit.on_success(end.artifacts, end.pictures)
        elif isinstance(end, PictureBrokenError):
            visit.wrong(str(end))
            visit.finish(End.SUCCEEDED if terminal else End.LOST, str(end))
        elif isinstance(end, JobFailedError):
            visit.on_error(End.FAILED, end)
        elif isinstance(end, JobCanceledError):
            visit.finish(End.CANCELED)
        elif isinstance(end, RefusedError) and not visit.job_id:
            visit.on_error(End.REFUSED, end)
        else:
            visit.finish(End.LOST, str(end))


class TcpSession:
    """One bot's connection."""

    def __init__(self, door: TcpDoor, name: str) -> None:
        self._door = door
        self._followed: dict[
            str, Visit
        ] = {}  # by job id, of those that ended the latest: a second end has no other owner
        self._up = False
        self._dropped = False  # by ourselves: nothing to tell
        self._line = Reconnecting(
            door.reactor, door.address, token=door.token, client_name=name, patience=door.patience,
            tell=self._tell, clock=door.reactor, random=random.random, on_stray=self._stray,
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether there is a connection, or may be one again."""
        return self._up and not self._line.ended

    async def open(self) -> None:
        """Connect and say Hello."""
        await self._line.connect()
        self._up = True

    def send(self, visit: Visit) -> None:
        """Submit."""
        self._line.begin(Followed(visit, self._followed))

    async def cancel(self, job_id: str) -> None:
        """Cancel."""
        await self._ask(pb.Envelope(cancel=pb.Cancel(job_id=job_id)), "cancel_requested")

    def drop(self) -> None:
        """Abort the connection."""
        self._dropped = True
        self._with_line(Line.abort)

    def hold(self, held: bool) -> None:
        """Let the kernel's buffers fill, or empty them."""
        self._with_line(Line.pause if held else Line.resume)

    async def close(self) -> None:
        """Hang up."""
        self._up = False
        await self._line.close()

    def _tell(self, text: str, attempt: int) -> None:
        if not self._dropped:
            self._door.tell(text, attempt)
        elif attempt == 0:
            self._dropped = False

    def _with_line(self, act: Any) -> None:
        if self._line.line is not None:
            act(self._line.line)

    def _stray(self, received: Received) -> None:
        """What belongs to nothing that is under way: an end, if it is one, is one too many."""
        visit = self._followed.get(getattr(received.message, "job_id", ""))
        if visit is not None and received.kind in TERMINAL_KINDS:
            visit.on_terminal(_ENDS[received.kind])
        elif visit is not None and received.kind in ("progress", "preview"):
            visit.on_event(received.kind, received.message.event_number)  # type: ignore[attr-defined]

    async def _ask(self, asked: pb.Envelope, kind: str) -> Any:
        question = Question(asked, kind)
        self._line.begin(question)
        try:
            return await question.answer
        finally:
            self._line.forget(question)


async def _not_this_way(job_id: str) -> pb.JobState:
    raise ClientError(f"job {job_id} is cancelled by its session")


class TcpDoor:
    """A server by its Twisted endpoint string."""

    def __init__(self, reactor: Any, address: str, *, token: str, patience: Patience, tell: Tell) -> None:
        self.reactor = reactor
        self._address = address
        self.token = token
        self.patience = patience
        self.tell = tell
        self._room: int | None = None
        self._asking = Client(reactor, address, token=token, client_name="bot-watch", patience=patience, tell=_silent)

    @property
    def address(self) -> str:
        """The endpoint string."""
        return self._address

    def session(self, name: str) -> TcpSession:
        """A bot."""
        return TcpSession(self, name)

    @property
    def room(self) -> int | None:
        """Of Welcome."""
        return self._room

    async def open(self) -> None:
        """Connect the one that asks."""
        self._room = (await self._asking.connect()).limits.max_pending_jobs_per_owner or None

    async def styles(self) -> list[str]:
        """By ListModels."""
        models = await self._asking.models()
        return list(models[0].adapters) if models else []

    async def health(self) -> Health:
        """By GetServerStatus."""
        status = await self._asking.status()
        held = [device.memory for device in status.devices]
        return Health(
            ready=status.state == pb.READY,
            connections=status.connections,
            jobs_waiting=status.jobs_waiting,
            jobs_running=status.jobs_running,
            batch_size=status.batch_size,
            step_seconds=status.step_seconds,
            reactor_lag_ms=status.reactor_lag_p99_ms,
            device_memory=sum(use.models + use.adapters + use.latents for use in held) or None,
            version=status.server_version,
            problem=status.problem,
        )

    async def state_of(self, job_id: str) -> str:
        """By GetJob."""
        try:
            return _STATES.get((await self._asking.get_job(job_id)).state, "unknown")
        except RefusedError as refusal:
            if refusal.code is Code.JOB_NOT_FOUND:
                return "unknown"
            raise

    async def babble(self, number: int) -> str | None:
        """One of bot.babble's, in turns."""
        return await cope(self.reactor, self._address, self.token, BABBLES[number % len(BABBLES)])

    async def usurp(self, count: int) -> str:
        """By Hello's `exclusive`."""

        name = f"bot-only-{random.getrandbits(32):08x}"

        def client(exclusive: bool) -> Client:
            return Client(
                self.reactor, self._address, token=self.token, client_name=name, exclusive=exclusive,
                patience=self.patience, tell=_silent,
            )  # fmt: skip

        return await usurped(self.reactor, [client(True) for _ in range(count)], client(False))

    async def close(self) -> None:
        """Hang up."""
        await self._asking.close()


def _silent(text: str, attempt: int) -> None:
    """The sessions tell already that the server is away."""
