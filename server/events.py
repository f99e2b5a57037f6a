"""What a job says as it goes. Events are numbered from 0 in the order in which they happen; the last one is terminal.

`Accepted` is always number 0. `Progress` and `Preview` are fleeting: a watcher that cannot keep up gets the latest only.
`Succeeded`, `Failed` and `Canceled` are terminal: every job says exactly one of them, and nothing after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from server.errors import JobFailure


class Phase(StrEnum):
    """Where a running job is."""

    QUEUED = "queued"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    FINISHING = "finishing"
    PARKED = "parked"
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A stored picture. `key` is its name in the storage, `url` where it can be fetched ("" where it has no address)."""

    image_index: int
    key: str
    url: str
    size: int
    sha256: str
    content_type: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The job exists, durably."""

    number: int
    job_id: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`fraction` (0 to 1) is over all images of the job, `step` of `total_steps` its slowest image's.

    In phase RETRYING everything begins again, in `eta_seconds`.
    """

    number: int
    job_id: str
    phase: Phase
    step: int
    total_steps: int
    fraction: float
    eta_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What image `image_index` looks like after `step` steps, as a small PNG."""

    number: int
    job_id: str
    image_index: int
    step: int
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """Every picture is signed and stored."""

    number: int
    job_id: str
    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...]
    queued_seconds: float
    processing_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """There will be no picture."""

    number: int
    job_id: str
    failure: JobFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled:
    """The owner, or the end of the owner's connection, stopped the job."""

    number: int
    job_id: str


TerminalEvent = Succeeded | Failed | Canceled
Event = Accepted | Progress | Preview | TerminalEvent
