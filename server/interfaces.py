"""What the rooms ask of one another. Each interface is small; policy wraps a backend instead of living in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from ai.cards import Card
from ai.types import EngineNumbers, Request, SavedImage
from server.events import Event
from server.job import Job
from server.listing import JobPage
from server.webhook import CallState, Claimed, OutboxCall, Settlement

P = ParamSpec("P")
T = TypeVar("T")


class Painter(Protocol):
    """The engines as the jobs see them: whatever a job asks for. Their events come back by `ai.types.Deliver`."""

    @property
    def cards(self) -> Sequence[Card]:
        """The models that it was made with, the default first."""
        ...

    def add(self, card: Card) -> None:
        """Paint with one more model."""
        ...

    def remove(self, model: str) -> None:
        """Let go of a model when the requests that name it have ended."""
        ...

    def submit(self, request: Request) -> None:
        """Take a request; returns at once."""
        ...

    def cancel(self, request_id: str) -> None:
        """Stop a request at the next step boundary; unknown ones are ignored."""
        ...

    def save(self, request_id: str) -> None:
        """Have it told, by `ai.types.Saved`, how far a request is; unknown ones are ignored."""
        ...

    def numbers(self) -> EngineNumbers:
        """What was measured last."""
        ...


class JobStore(Protocol):
    """Where jobs are kept. What `admit` returned is durable, and so is the end of a job that `move` returned.

    Everything here raises RecordsUnavailable while the database cannot be used.
    """

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """Keep a new job and what is to be told of it, and return it; it is this node's, or (not `leased`) nobody's yet.

        Where its owner used its idempotency key before, return that older job instead.
        """
        ...

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The owner's job under this key."""
        ...

    async def get(self, job_id: str) -> Job | None:
        """The job, whoever owns it."""
        ...

    async def page(self, owner: str, page: JobPage) -> tuple[list[Job], bool]:
        """The owner's jobs of this page, newest first, and whether there are more where it ends.

        Pictures that came with their requests are left out, as are their signatures.
        """
        ...

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """Record a job as a transition leaves it (`server.job.moved`), and what is to be told of that.

        The very same once more changes nothing. Raises IllegalTransition, and LeaseLost where the job's fence is another, and
        keeps the job as it was.
        """
        ...


class JobObserver(Protocol):
    """Someone who measures jobs. Called on the reactor thread after what it is told was recorded; must not block, nor raise."""

    def admitted(self, job: Job) -> None:
        """A new job."""
        ...

    def moved(self, job: Job) -> None:
        """A job has come to the state it has here."""
        ...


class Leases(Protocol):
    """Which of the jobs that have not ended are this node's to run. Their fences keep stale holders from writing."""

    async def take_up(self, *, at: float, begin: bool) -> list[Job]:
        """Jobs whose lease has expired, queued anew under this node's lease; those of its earlier life too if it begins."""
        ...

    async def renew(self, *, at: float) -> None:
        """This node lives, and keeps what it holds."""
        ...

    async def give_back(self, *, at: float) -> None:
        """This node stops: what it holds is queued anew, for its next life or whichever node takes it up first."""
        ...


class Claims(Protocol):
    """Jobs by their names, for a node that was told of them."""

    async def take(self, job_id: str, *, at: float) -> Job | None:
        """This job, queued anew under this node's lease; None where it has ended, or another's lease holds."""
        ...

    async def unclaimed(self, *, since: float, most: int) -> list[str]:
        """Live jobs, admitted before `since`, that no node has taken yet; at most so many, the oldest first."""
        ...


class Takings(Protocol):
    """Live jobs taken from the node that runs them, and how that node learns of it. For nodes with no broker between them."""

    async def take_away(self, job_id: str, *, at: float) -> Job | None:
        """This job of another node, queued anew under this node's lease; None where it has ended, or is this node's."""
        ...

    async def held(self) -> frozenset[str]:
        """The live jobs whose lease this node has."""
        ...


class Latents(Protocol):
    """How far the images of live jobs were when they were last parked, or cut short by a stop."""

    async def keep_latents(self, job_id: str, images: Sequence[SavedImage], *, fence: int) -> None:
        """Keep them, in place of older ones; nothing where the job has ended or its fence is another."""
        ...

    async def latents(self, job_id: str) -> tuple[SavedImage, ...]:
        """What was kept, in the order of the images."""
        ...


class Forgetting(Protocol):
    """Ended jobs, those that ended first first."""

    async def oldest(self, *, beyond: int, ended_before: float, more_bytes_than: int, most: int) -> list[Job]:
        """At most so many jobs to forget: more than `beyond` ended ones, ended before a time, their pictures too large in all."""
        ...

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Forget ended jobs and all that belongs to them; jobs that have not ended are left alone."""
        ...


class AnswerRecords(Protocol):
    """Which jobs were answered, by a key over what they asked for. Raises RecordsUnavailable."""

    async def earlier(self, key: str, owner: str, *, since: float) -> str | None:
        """The owner's job under this key that ended at that time or later."""
        ...

    async def keep(self, key: str, owner: str, job_id: str, *, at: float) -> None:
        """This job from now on; nothing where there is no such job any more."""
        ...

    async def forget(self, *, beyond: int, before: float) -> None:
        """The oldest of more than `beyond`, and all from before that time."""
        ...


class Announcer(Protocol):
    """What is to be told elsewhere of a job (webhooks, other nodes), as a pure function of it."""

    def calls(self, job: Job) -> Sequence[OutboxCall]:
        """For a job that comes to the state it has here; recorded in the same transaction."""
        ...


class Outbox(Protocol):
    """The calls of one channel. Several nodes may make them; everything here raises RecordsUnavailable."""

    async def begin(self, *, at: float) -> None:
        """This node starts: whether the calls that its earlier life was making have arrived is not known."""
        ...

    async def add(self, calls: Sequence[OutboxCall], *, at: float, durable: bool) -> None:
        """Keep calls to be made; those whose id, or whose name for their job, was there before are left as they are."""
        ...

    async def claim(
        self, *, at: float, until: float, most: int, room: Mapping[str, int], others: int
    ) -> Sequence[Claimed]:
        """At most so many calls whose turn it is, `room` of each target, `others` of those that are not named there.

        They are this node's until `until`, recorded so on the disk. Whoever claims and is not heard of again may have made them.
        """
        ...

    async def settle(self, settlement: Settlement, *, at: float) -> None:
        """Record what became of a claimed call; where another has claimed it since, only that it was delivered."""
        ...

    async def postpone(self, target: str, *, until: float) -> None:
        """Nothing that waits for this target is due before then."""
        ...

    async def forget(self, *, settled_before: float) -> None:
        """Forget calls of which nothing is to be done any more."""
        ...

    async def counts(self) -> Mapping[CallState, int]:
        """How many calls wait, are under way, or are for a person to look at."""
        ...


class ArtifactStore(Protocol):
    """Where pictures are kept. Keys are the server's own."""

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Store a picture, whole or not at all; the same once more changes nothing. Raises OSError."""
        ...

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on. Raises OSError."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a picture; one that is not there is no error. Raises OSError."""
        ...

    async def address(self, key: str) -> str:
        """Where a picture can be fetched, from now on and perhaps not for ever; "" where it cannot. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is now: another content has another `etag`."""

    size: int
    etag: str


class ObjectChanged(OSError):
    """An object has not the content any more that was asked for."""


class ObjectSource(Protocol):
    """Where others put objects for us to read. Raises FileNotFoundError for one that is not there, else OSError."""

    async def stat(self, key: str) -> StoredObject:
        """The object as it is now."""
        ...

    def pieces(self, key: str, offset: int, etag: str) -> AsyncIterator[bytes]:
        """The content with this etag, from `offset` on. Raises ObjectChanged."""
        ...


class FileStore(ObjectSource, Protocol):
    """A storage of files of any size, whose keys can be listed. Raises OSError."""

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file of this machine, whole or not at all."""
        ...

    async def keys(self, folder: str, most: int) -> list[str]:
        """All keys below a folder (its key without a slash at the end), in order; `most` of them at most."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...


@dataclass(frozen=True, slots=True)
class FetchedAdapter:
    """An adapter's file, or folder, on this machine. It stays there until `release` is called, once."""

    path: str
    release: Callable[[], None]


class AdapterSource(Protocol):
    """Where adapters come from that no model's card knows. Their names have a colon in them (server.adapter_names)."""

    def check(self, name: str) -> None:
        """Raises Refusal (ADAPTER_INVALID) for a name that can never be fetched. Asks nobody."""
        ...

    async def fetch(self, name: str) -> FetchedAdapter:
        """The adapter as it is now. Raises JobFailure: ADAPTER_NOT_FOUND or ADAPTER_INVALID (they stay so), STORAGE_FAILED."""
        ...


class Pool(Protocol):
    """Threads for work that would hold up the reactor."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on one of the threads."""
        ...


class SettingsShelf(Protocol):
    """Settings that are handed out to other nodes."""

    async def at(self, path: str) -> Any:
        """What stands at a path of names joined by /, everything at "". Raises Refusal (INVALID_PARAMETER)."""
        ...


class Watcher(Protocol):
    """Someone who follows a job. Called on the reactor thread, in the order of the events' numbers."""

    def job_event(self, event: Event) -> None:
        """Take one event. Must not block, and must not raise."""
        ...


Handler = Callable[..., object | Awaitable[object]]
"""Carries out one command; see server.handlers."""
