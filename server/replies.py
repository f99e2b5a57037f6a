"""What the handlers answer: plain data, for a door to put into its own dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ai.cards import Card, ModelCard
from ai.types import EngineNumbers
from server.job import Job, JobState
from server.live.events import LiveClosed, LiveOpened, StreamModel
from server.model_records import AdapterRecord, ModelRecord, VersionRecord


@dataclass(frozen=True, slots=True)
class Admitted:
    """A job there is now, or (`duplicate`) was already under this idempotency key. Its events come to its watchers."""

    job: Job
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """A job that may be followed."""

    job: Job


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """`state` is the job's when the request came."""

    job_id: str
    state: JobState


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it stands; `fraction` (0 to 1) of its steps are done, `last_event` is the number of its latest event."""

    job: Job
    fraction: float
    last_event: int


@dataclass(frozen=True, slots=True)
class JobList:
    """A page of jobs, newest first; whether there are `older` ones, and `newer` ones."""

    views: tuple[JobView, ...]
    older: bool
    newer: bool


@dataclass(frozen=True, slots=True)
class Pong:
    """Microseconds since 1970, UTC."""

    client_time_us: int
    server_time_us: int


class ModelState(StrEnum):
    """Whether a model can paint now."""

    ON_DISK = "on_disk"
    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a registered model as this node has it; no card until it was looked at."""

    version: VersionRecord
    card: Card | None
    state: ModelState
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model, its state, and why it is unavailable if it is.

    One that somebody registered has its `record` and `versions`, the oldest first; `card`, `state` and `problem` are then those
    of the version with the largest share.
    """

    card: Card
    state: ModelState
    problem: str = ""
    record: ModelRecord | None = None
    versions: tuple[VersionView, ...] = ()

    @property
    def name(self) -> str:
        """What a request calls it."""
        return self.card.name if self.record is None else self.record.full_name


@dataclass(frozen=True, slots=True)
class Unoffered:
    """A registered model of which no version can be used: they are being looked at, or were refused."""

    record: ModelRecord
    versions: tuple[VersionView, ...]
    card: None = None


@dataclass(frozen=True, slots=True)
class ModelList:
    """Every model that the caller may use, the default first; then the `unoffered` ones that the caller may see, and those for
    live sessions."""

    models: tuple[ModelView, ...]
    unoffered: tuple[Unoffered, ...] = ()
    stream: tuple[StreamModel, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The model that is meant, and the version where one was named."""

    model: ModelView | Unoffered
    version: VersionView | None = None

    @property
    def paints(self) -> bool:
        """Whether pictures are asked of it. Of one that cannot be used yet its record tells: it may come at any moment."""
        card = (self.version or self.model).card
        if card is not None:
            return isinstance(card, ModelCard)
        return self.model.record is None or self.model.record.paints

    @property
    def word(self) -> str:
        """What a request names it by."""
        record = self.model.record
        if record is None:
            return self.model.card.name if isinstance(self.model, ModelView) else ""
        return record.full_name if self.version is None else f"{record.full_name}:{self.version.version.version}"


@dataclass(frozen=True, slots=True)
class AdapterList:
    """Uploaded adapters, the newest first."""

    adapters: tuple[AdapterRecord, ...]


class ServerState(StrEnum):
    """What the server can do now."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxView:
    """What is still to be told elsewhere, by all nodes; seconds since the oldest of it is to be told."""

    webhooks_waiting: int = 0
    webhooks_unknown: int = 0
    webhooks_failed: int = 0
    webhooks_oldest_seconds: float = 0.0
    dispatches_waiting: int = 0
    dispatches_oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveFollowed:
    """A session that the asker may follow; `opened_here`: it is the asker's connection's own, and ends with it."""

    opened: LiveOpened
    opened_here: bool


@dataclass(frozen=True, slots=True)
class LiveEnded:
    """A session that was closed."""

    closed: LiveClosed


@dataclass(frozen=True, slots=True)
class UdpAddress:
    """Where datagrams go, and the key that signs them; "" is the host that was asked."""

    host: str
    port: int
    key_id: int
    key: bytes = field(repr=False)
    expires_seconds: float
    heartbeat_seconds: float


NO_OUTBOX = OutboxView()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReply:
    """How the server is doing. Counts of ended jobs are since its start."""

    state: ServerState
    server_version: str
    uptime_seconds: float
    connections: int
    jobs_waiting: int
    jobs_running: int
    jobs_succeeded: int
    jobs_failed: int
    jobs_canceled: int
    batch_size: int
    steps: int
    step_seconds: float
    reactor_lag_p99_ms: float
    device: str
    problem: str
    queue_wait_seconds: float
    join_wait_seconds: float
    devices: tuple[EngineNumbers, ...]
    outbox: OutboxView = NO_OUTBOX
    settings: str = ""
