"""What the rooms ask of one another. Each interface is small; policy wraps a backend instead of living in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar

from ai.cards import ModelCard
from ai.types import EngineNumbers, GenerationRequest
from server.errors import JobFailure
from server.events import Artifact, Event
from server.job import Job, JobState

P = ParamSpec("P")
T = TypeVar("T")


class Painter(Protocol):
    """The engine as the jobs see it. Its events come back by `ai.types.Deliver`."""

    @property
    def cards(self) -> Sequence[ModelCard]:
        """Every model, the default first."""
        ...

    def submit(self, request: GenerationRequest) -> None:
        """Take a request; returns at once."""
        ...

    def cancel(self, request_id: str) -> None:
        """Stop a request at the next step boundary; unknown ones are ignored."""
        ...

    def numbers(self) -> EngineNumbers:
        """What was measured last."""
        ...


class JobStore(Protocol):
    """Where jobs are kept. What `admit` and `move` returned is as durable as this store is."""

    async def admit(self, job: Job) -> Job:
        """Keep a new job, and return it; where its owner used its idempotency key before, return that older job instead."""
        ...

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The owner's job under this key."""
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job, whoever owns it."""
        ...

    async def move(
        self,
        job_id: str,
        state: JobState,
        *,
        at: float,
        last_event: int,
        artifacts: tuple[Artifact, ...] = (),
        warnings: tuple[str, ...] = (),
        failure: JobFailure | None = None,
    ) -> Job:
        """Record a transition at time `at`. Raises IllegalTransition, and keeps the job as it was."""
        ...


class ArtifactStore(Protocol):
    """Where pictures are kept. Keys are the server's own."""

    async def put(self, key: str, data: bytes, content_type: str) -> str:
        """Store a picture, whole or not at all, and return its address ("" where it has none). Raises OSError."""
        ...

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on. Raises OSError."""
        ...


class Pool(Protocol):
    """Threads for work that would hold up the reactor."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on one of the threads."""
        ...


class Watcher(Protocol):
    """Someone who follows a job. Called on the reactor thread, in the order of the events' numbers."""

    def job_event(self, event: Event) -> None:
        """Take one event. Must not block, and must not raise."""
        ...


Handler = Callable[..., object | Awaitable[object]]
"""Carries out one command; see server.handlers."""
