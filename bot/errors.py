"""What can go wrong for a client, as types.

server.errors.Refusal
└── RefusedError             the server does not carry a request out; code, field and limit say why
    └── NotWelcomeError      … not even Hello: a wrong token or version, too many connections
server.errors.JobFailure
└── JobFailedError           an accepted job failed
ClientError
├── CannotConnectError       nobody answers at the address, or not in time
├── ConnectionLostError      the connection was lost and could not be regained in time
├── ClientClosedError        the client was closed, or never connected
├── JobCanceledError         somebody stopped the job
├── PictureBrokenError       a job succeeded, and its pictures did not arrive as they were announced
└── UnexpectedAnswerError    the server answered with something that does not belong to the request
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from server.errors import AtelierError, Code, JobFailure, Refusal

if TYPE_CHECKING:
    from bot.events import Outcome


class RefusedError(Refusal):
    """The server does not carry the request out."""

    @classmethod
    def told(cls, error: AtelierError) -> Self:
        """What the server said, as an error of this type."""
        return cls(
            error.code,
            error.message,
            field=error.field,
            limit=error.limit,
            retry_after_seconds=error.retry_after_seconds,
        )


class NotWelcomeError(RefusedError):
    """The server is there and does not let us in."""


class JobFailedError(JobFailure):
    """The job was accepted and failed."""

    def __init__(self, job_id: str, failure: AtelierError) -> None:
        super().__init__(failure.code, failure.message, field=failure.field, limit=failure.limit)
        self.job_id = job_id


class ClientError(Exception):
    """Base of what is neither a refusal nor a failed job."""


class CannotConnectError(ClientError):
    """The server cannot be reached, for that reason."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot connect to {address}: {reason}")
        self.reason = reason


class ConnectionLostError(ClientError):
    """The connection was lost for good. `code` is the server's reason, if it gave one with its Goodbye."""

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.code = code


class ClientClosedError(ClientError):
    """Nothing can be asked of this client now."""


class JobCanceledError(ClientError):
    """The job was cancelled."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was cancelled")
        self.job_id = job_id


class PictureBrokenError(ClientError):
    """A picture did not arrive as announced. `outcome` has its place in the server's storage, once that is known."""

    def __init__(self, job_id: str, message: str, outcome: Outcome | None = None) -> None:
        super().__init__(f"job {job_id}: {message}")
        self.job_id = job_id
        self.outcome = outcome


class UnexpectedAnswerError(ClientError):
    """The server does not keep to the protocol."""
