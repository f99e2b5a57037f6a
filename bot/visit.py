"""One visit: what was asked, when what was heard, and all that was wrong with it. The same whichever door it went by.

    intended → sent → accepted → (progress, preview)* → one end
                    ↘ refused

Times are seconds of the run's clock, from its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from bot.choosing import Conduct, Order
from server.errors import AtelierError, Code
from server.events import Artifact


class End(StrEnum):
    """How a visit came out."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REFUSED = "refused"
    LOST = "lost"  # no end was heard
    UNSENT = "unsent"  # it could not even be asked for


@dataclass(slots=True, eq=False)
class Visit:
    """A visitor's way through. Doors tell it what they hear; it judges that, and keeps the pictures until they are checked."""

    order: Order
    key: str
    intended: float
    now: Callable[[], float]
    sent: float | None = None
    accepted: float | None = None
    first_progress: float | None = None
    ended: float | None = None
    job_id: str = ""
    seed: int | None = None
    end: End | None = None
    code: Code | None = None
    retry_after: float = 0.0
    reason: str = ""
    terminals: int = 0
    last_number: int = -1
    complain: Callable[[Visit, str], None] = field(default=lambda visit, wrong: None)
    artifacts: tuple[Artifact, ...] = ()
    pictures: tuple[bytes, ...] = ()
    cancel_asked: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    has_id: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def polite(self) -> bool:
        """Whether its times say something of the server: it read, waited and stayed."""
        return self.order.conduct is Conduct.POLITE

    def wrong(self, what: str) -> None:
        """Something is not as promised. It may be seen long after the end."""
        self.complain(self, what)

    # What doors tell

    def on_sent(self) -> None:
        """The request has left. Sent again after a loss, the first time counts."""
        if self.sent is None:
            self.sent = self.now()

    def on_accepted(self, job_id: str, seed: int | None) -> None:
        """The job has an id. It may be told again, on another connection, and must be the same."""
        if self.job_id and self.job_id != job_id:
            self.wrong(f"the same key gave job {self.job_id} and then {job_id}")
        if seed is not None and seed != self.order.seed:
            self.wrong(f"seed {self.order.seed} was asked for, {seed} was accepted")
        if self.accepted is None:
            self.accepted = self.now()
        self.job_id, self.seed = job_id, seed
        self.has_id.set()

    def on_event(self, kind: str, number: int) -> None:
        """Progress or a preview, with its number."""
        if self.accepted is None:
            self.wrong(f"{kind} {number} came before Accepted")
        if number <= self.last_number:
            self.wrong(f"event {number} came after event {self.last_number}")
        if self.terminals:
            self.wrong(f"{kind} {number} came after the end")
        self.last_number = max(self.last_number, number)
        if self.first_progress is None and kind == "progress":
            self.first_progress = self.now()

    def on_terminal(self, end: End) -> None:
        """An end was heard. There must be one."""
        self.terminals += 1
        if self.accepted is None:
            self.wrong(f"it {end.value} before it was accepted")
        if self.terminals > 1:
            self.wrong(f"a second end: {end.value} after {self.end.value if self.end else 'nothing'}")

    def on_success(self, artifacts: tuple[Artifact, ...], pictures: tuple[bytes, ...]) -> None:
        """The pictures are here."""
        self.artifacts, self.pictures = artifacts, pictures
        self.finish(End.SUCCEEDED)

    def on_error(self, end: End, error: AtelierError) -> None:
        """It failed, or was refused."""
        self.code, self.retry_after, self.reason = error.code, error.retry_after_seconds, str(error)
        self.finish(end)

    def finish(self, end: End, reason: str = "") -> None:
        """Nothing more is expected."""
        if self.end is None:
            self.end, self.ended = end, self.now()
            self.reason = self.reason or reason
        self.over.set()
        self.has_id.set()
