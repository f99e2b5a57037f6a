"""Everything that is refused or fails, as types, and the one enum of codes.

AtelierError
├── Refusal             a request that is not carried out: the caller's mistake, or a limit of this server
│   ├── StreamBroken    a peer's mistake after which its byte stream cannot be read on; the connection closes
│   └── RecordsUnavailable  the database cannot be used now; what was asked may be asked again
└── JobFailure          why an accepted job failed; kept with the job

A door turns these into its own dialect by `Code` alone; the text for people is written here, once.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """The reason for a refusal or failure; numbers as in proto/atelier.proto, where each is explained."""

    OK = 0
    UNKNOWN_MESSAGE = 1
    INTERNAL_ERROR = 10001
    INVALID_PARAMETER = 10002
    UNAUTHENTICATED = 10004
    DUPLICATE_LOGIN = 10006

    MALFORMED_MESSAGE = 10101
    FRAME_TOO_LARGE = 10102
    UNSUPPORTED_VERSION = 10103
    HELLO_REQUIRED = 10104
    UNEXPECTED_MESSAGE = 10105
    HANDSHAKE_TIMEOUT = 10106
    FRAME_TIMEOUT = 10107
    IDLE_TIMEOUT = 10108
    SLOW_READER = 10109
    TOO_MANY_CONNECTIONS = 10110
    PERMISSION_DENIED = 10111

    JOB_NOT_FOUND = 10120
    MODEL_NOT_FOUND = 10121
    ADAPTER_NOT_FOUND = 10122
    IDEMPOTENCY_CONFLICT = 10123
    RESOURCE_EXHAUSTED = 10124
    UNAVAILABLE = 10125
    ADAPTER_INVALID = 10126
    LIVE_NOT_FOUND = 10127

    MODEL_LOAD_FAILED = 10140
    GPU_OUT_OF_MEMORY = 10141
    GENERATION_FAILED = 10142
    DEADLINE_EXCEEDED = 10143
    STORAGE_FAILED = 10144
    SIGNATURE_FAILED = 10145
    MEMORY_LIMIT_EXCEEDED = 10146
    LIVE_FAILED = 10147


class AtelierError(Exception):
    """Base of everything above. `str(error)` is for people, `code` is for programs."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str = "",
        limit: str = "",
        retry_after_seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.name}, {self.message!r}, field={self.field!r}, limit={self.limit!r})"


class Refusal(AtelierError):
    """A request that is not carried out: `field` is the offending one, `limit` what would have been taken."""

    @classmethod
    def invalid(cls, field: str, limit: str, given: object) -> Refusal:
        """INVALID_PARAMETER for one field: what it must be, and (shortened) what it was."""
        shown = repr(given)
        if len(shown) > 60:
            shown = f"{shown[:57]}..."
        return cls(Code.INVALID_PARAMETER, f"{field} must be {limit}, not {shown}", field=field, limit=limit)


class StreamBroken(Refusal):
    """The peer's bytes cannot be read on. The connection is told why and closed; its jobs live on."""


class RecordsUnavailable(Refusal):
    """The database cannot be used now. `reason` is its own words, for the log; callers need not know our hosts and files."""

    def __init__(self, reason: str) -> None:
        text = "the server's records cannot be reached now; try again in a moment"
        super().__init__(Code.UNAVAILABLE, text, retry_after_seconds=5.0)
        self.reason = reason


class JobFailure(AtelierError):
    """Why a job failed."""
