"""What happens to this node's jobs becomes calls in the outbox: states in their own transaction, progress beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.clock import Clock
from server.errors import JobFailure, RecordsUnavailable
from server.events import Event, Progress, TerminalEvent
from server.futures import Tasks
from server.interfaces import Outbox
from server.job import Job
from server.webhook import OutboxCall
from server.webhooks.calls import Said, calls_of, progress_call, refused_calls


class Telling:
    """An `Announcer`, and a `Watcher` of every job. `live_job` gives a job that this node runs, as it stands, `said` its text.

    `door` is what others call our HTTP door, "" where that is not known.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        live_job: Callable[[str], Job | None],
        said: Callable[[str], str] = lambda job_id: "",
        backend_url: str,
        clock: Clock,
        door: str = "",
    ) -> None:
        self._outbox = outbox
        self._live_job = live_job
        self._said_text = said
        self._backend_url = backend_url
        self._clock = clock
        self._door = door
        self._said: dict[str, Said] = {}
        self._tasks = Tasks()

    def calls(self, job: Job) -> Sequence[OutboxCall]:
        """For a job that comes to its state."""
        return calls_of(job, self._backend_url, self._door)

    async def refused(self, generation_id: int, failure: JobFailure, url: str) -> None:
        """Of a message that becomes no job; when this returns it will be told, once. Raises RecordsUnavailable."""
        calls = refused_calls(generation_id, failure, url, self._backend_url)
        await self._outbox.add(calls, at=self._clock.seconds(), durable=True)

    def job_event(self, event: Event) -> None:
        """Progress may be worth a call; after its end a job says nothing more."""
        if isinstance(event, TerminalEvent):
            self._said.pop(event.job_id, None)
        elif isinstance(event, Progress):
            job = self._live_job(event.job_id)
            if job is not None and job.webhook is not None:
                self._tell_progress(job, event)

    def _tell_progress(self, job: Job, event: Progress) -> None:
        said = self._said.get(job.id, Said())
        text = self._said_text(job.id)
        found = progress_call(job, event, said, self._clock.seconds(), self._backend_url, self._door, text=text)
        if found is not None:
            call, self._said[job.id] = found
            self._tasks.start(self._add(call))

    async def _add(self, call: OutboxCall) -> None:
        try:
            await self._outbox.add([call], at=self._clock.seconds(), durable=False)
        except RecordsUnavailable:
            self._said.pop(call.job_id or "", None)  # the next progress says it
