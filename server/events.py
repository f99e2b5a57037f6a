"""What a job says as it goes. Events are numbered from 0 in the order in which they happen; the last one is terminal.

`Accepted` is always number 0. `Progress` and `Preview` are fleeting: a watcher that cannot keep up gets the latest only. `Output`
is not: who cannot keep up gets fewer and longer pieces, and no gap.
`Succeeded`, `Failed` and `Canceled` are terminal: every job says exactly one of them, and nothing after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ai.types import Json
from server.errors import JobFailure


class Phase(StrEnum):
    """Where a running job is."""

    QUEUED = "queued"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    WRITING = "writing"
    FINISHING = "finishing"
    PARKED = "parked"
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A stored picture. `key` is its name in the storage, `url` where it can be fetched ("" where it has no address).

    `access` is what an address of it at the HTTP door ends with, so that it may be seen there; like `url`, it is not recorded.
    """

    image_index: int
    key: str
    url: str
    size: int
    sha256: str
    content_type: str
    width: int
    height: int
    seed: int
    access: str = ""


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
class Output:
    """More of a text: its characters from `offset` on.

    Pieces follow each other without gaps. In another life of the server a job that had not ended begins anew, and with the same
    seed writes the same text: it is told again from offset 0, under higher numbers, and says nothing else than before.
    """

    number: int
    job_id: str
    offset: int
    text: str

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.offset + len(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """Every picture is signed and stored; or, of a job that paints nothing, there is an `output` (JSON), with figures of how it
    came about."""

    number: int
    job_id: str
    artifacts: tuple[Artifact, ...]
    warnings: tuple[str, ...]
    queued_seconds: float
    processing_seconds: float
    output: Json = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """There will be no picture, nor text."""

    number: int
    job_id: str
    failure: JobFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled:
    """The owner, or the end of the owner's connection, stopped the job."""

    number: int
    job_id: str


TerminalEvent = Succeeded | Failed | Canceled
Event = Accepted | Progress | Preview | Output | TerminalEvent


def joined(earlier: Output | None, later: Output) -> Output:
    """Two pieces as one, under the later's number. One that begins anew, before what the earlier has, is all that is kept."""
    if earlier is None or not earlier.offset <= later.offset <= earlier.end:
        return later
    text = earlier.text[: later.offset - earlier.offset] + later.text
    return Output(number=later.number, job_id=later.job_id, offset=earlier.offset, text=text)
