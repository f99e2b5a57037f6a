"""The asynchronous client: many jobs on one connection, which it keeps up.

    client = Client(reactor, "tcp:127.0.0.1:9000", token="…")
    await client.connect()
    handle = await client.submit("a small red star on a blue background", num_images=2)
    async for event in handle:
        ...
    outcome = await handle.result()
    await client.close()

When the connection drops, it is opened again, and everything that was under way goes on: a Submit that was not answered is sent
again under its idempotency key, a job that was accepted is watched from the first event not yet heard. Coroutines are
asyncio's; everything runs on the reactor's thread.
"""

from __future__ import annotations

import random as randomness
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Unpack, cast

import structlog
from google.protobuf.message import Message

from ai.types import Json
from bot.conversation import Question
from bot.errors import RefusedError
from bot.jobs import JobHandle
from bot.orders import PredictFields, SubmitFields, predict_message, submit_message
from bot.patience import Backoff, Patience
from bot.reconnecting import Reconnecting, Tell
from bot.waiting import pause
from proto import atelier_pb2 as pb
from server.clock import Clock
from server.errors import Code

log = structlog.get_logger("atelier.client")
M = TypeVar("M", bound=Message)


class Client:
    """One owner's way to one server. `endpoint` is a Twisted endpoint string ("tcp:host:port", "tls:host:port", "unix:path").

    `exclusive` takes `client_name` for this client alone: one that has it already is put out, as this one is by the next.
    `tell` gets a line for people whenever the connection is tried anew (attempt 1, 2, …) or regained (0). `clock` and
    `random` (numbers from 0 to 1) are arguments for tests; by default the clock is the reactor.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str,
        *,
        token: str = "",
        client_name: str = "",
        exclusive: bool = False,
        patience: Patience | None = None,
        tell: Tell | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._clock: Clock = clock or cast(Clock, reactor)
        self._random = random
        self._connection = Reconnecting(
            reactor,
            endpoint,
            token=token,
            client_name=client_name,
            exclusive=exclusive,
            patience=patience or Patience(),
            tell=tell or (lambda text, attempt: log.warning("connection", text=text, attempt=attempt)),
            clock=self._clock,
            random=random,
        )

    # The connection

    async def connect(self) -> pb.Welcome:
        """Connect once; later losses are made good. Raises CannotConnectError, NotWelcomeError."""
        return await self._connection.connect()

    async def close(self) -> None:
        """Hang up. Jobs live on at the server; whoever waits for one here gets ClientClosedError."""
        await self._connection.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._connection.connected

    # Requests

    async def submit(
        self, prompt: str, *, retry_exhausted_for: float = 0.0, **fields: Unpack[SubmitFields]
    ) -> JobHandle:
        """Ask for pictures; gives the job once it is accepted. Raises RefusedError, ClientError.

        `fields` are those of Submit in proto/atelier.proto. Where the server refuses for want of room (RESOURCE_EXHAUSTED), it is
        asked again, when it says so, for `retry_exhausted_for` seconds. Cancelling this coroutine does not take a Submit back.
        """
        if not fields.get("idempotency_key"):
            fields["idempotency_key"] = str(uuid.uuid4())
        return await self._order(submit_message(prompt, fields), retry_exhausted_for)

    async def predict(
        self,
        model: str,
        given: Mapping[str, Json],
        *,
        retry_exhausted_for: float = 0.0,
        **fields: Unpack[PredictFields],
    ) -> JobHandle:
        """Ask a model that paints nothing, `given` by its input_schema; as `submit`. Iterate over the job for the text as it is
        written (`server.events.Output`); its outcome has the `output`. Raises RefusedError, ClientError."""
        if not fields.get("idempotency_key"):
            fields["idempotency_key"] = str(uuid.uuid4())
        return await self._order(predict_message(model, given, fields), retry_exhausted_for)

    async def _order(self, message: pb.Submit | pb.Predict, retry_exhausted_for: float) -> JobHandle:
        until = self._clock.seconds() + retry_exhausted_for
        waits = Backoff(1.0, 30.0, self._random)
        while True:
            handle = JobHandle(message, self._cancel_job)
            try:
                self._connection.begin(handle)
                await handle.accepted()
            except RefusedError as refusal:
                wait = max(refusal.retry_after_seconds, waits.next())
                if refusal.code is not Code.RESOURCE_EXHAUSTED or self._clock.seconds() + wait > until:
                    raise
                await pause(self._clock, wait)
            else:
                return handle

    async def watch(
        self,
        job_id: str,
        *,
        from_event: int = 0,
        progress: bool = True,
        previews: bool = False,
        inline_pictures: bool = True,
        output: bool = True,
    ) -> JobHandle:
        """Follow a job of this owner's, also one that has ended. Raises RefusedError (JOB_NOT_FOUND), ClientError."""
        job = await self.get_job(job_id)
        watch = pb.Watch(
            job_id=job_id,
            from_event=from_event,
            progress=progress,
            previews=previews,
            inline_pictures=inline_pictures,
            output=output,
        )
        handle = JobHandle(watch, self._cancel_job)
        handle.seed = job.seed
        self._connection.begin(handle)
        return handle

    async def cancel(self, job_id: str) -> pb.JobState:
        """Ask that a job be stopped; gives its state at that moment. Raises RefusedError, ClientError."""
        return await self._cancel_job(job_id)

    async def get_job(self, job_id: str) -> pb.Job:
        """A job as it stands. Raises RefusedError, ClientError."""
        return await self._ask(pb.Envelope(get_job=pb.GetJob(job_id=job_id)), pb.Job, "job")

    async def models(self) -> list[pb.Model]:
        """What the server has models of, the default first. Raises RefusedError, ClientError."""
        answer = await self._ask(pb.Envelope(list_models=pb.ListModels()), pb.Models, "models")
        return list(answer.models)

    async def status(self) -> pb.ServerStatus:
        """How the server is doing. Raises RefusedError, ClientError."""
        question = pb.Envelope(get_server_status=pb.GetServerStatus())
        return await self._ask(question, pb.ServerStatus, "server_status")

    async def ping(self) -> pb.Pong:
        """Whether it is there, and its time. Raises RefusedError, ClientError."""
        ping = pb.Ping(client_time_us=int(self._clock.seconds() * 1_000_000))
        return await self._ask(pb.Envelope(ping=ping), pb.Pong, "pong")

    async def _cancel_job(self, job_id: str) -> pb.JobState:
        question = pb.Envelope(cancel=pb.Cancel(job_id=job_id))
        return (await self._ask(question, pb.CancelRequested, "cancel_requested")).state

    async def _ask(self, asked: pb.Envelope, answer: type[M], kind: str) -> M:
        question = Question(asked, kind)
        self._connection.begin(question)
        try:
            message = await question.answer
        finally:
            self._connection.forget(question)
        assert isinstance(message, answer)
        return message
