"""The settings of the records: where they are kept, for how long, and what is tried again."""

from __future__ import annotations

from typing import Annotated

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting


class RecordSettings(BaseSettings):
    """Part of `config.Settings`."""

    database_url: SecretStr = setting(
        SecretStr(""), "DATABASE_URL", "DATABASE_URL",
        why="postgresql://user:password@host/name, or sqlite:///path. Empty: SQLite in DATA_DIR/atelier.db.",
    )  # fmt: skip
    database_timeout: float = setting(
        5.0, "DATABASE_TIMEOUT", ge=0.1, le=60,
        why="For a connection, a statement, a lock that another program holds; then what needs it is refused or tried again.",
    )  # fmt: skip
    database_threads: int = setting(
        2, "DATABASE_THREADS", ge=1, le=32,
        why="Threads, and connections, that read records. One more writes: a single writer shares its commits.",
    )  # fmt: skip
    job_lease: float = setting(
        30.0, "JOB_LEASE", ge=3, le=3600,
        why="A node that was not heard of for so long has lost its jobs to another; it says so every third of it.",
    )  # fmt: skip
    max_job_attempts: int = setting(
        10, "MAX_JOB_ATTEMPTS", ge=1, le=1000,
        why="Beginnings of a job that each ended with the server's sudden end: it may be what ends the server.",
    )  # fmt: skip
    retry_delays: Annotated[tuple[float, ...], NoDecode] = setting(
        (0.0, 30.0, 120.0), "RETRY_DELAYS",
        why="Seconds before each retry of what may go well later (no memory, no storage). As many retries; empty: none.",
    )  # fmt: skip
    max_unstored_bytes: int = setting(
        256 << 20, "MAX_UNSTORED_BYTES", ge=0,
        why="Pixels of pictures that the storage did not take, kept for the retry: 340 of 512 × 512. Others are painted anew.",
    )  # fmt: skip
    keep_finished_jobs: int = setting(
        100_000, "KEEP_FINISHED_JOBS", ge=1,
        why="Ended jobs that are remembered (about 3 kB each); what ended first is forgotten first, with its pictures.",
    )  # fmt: skip
    keep_finished_days: float = setting(
        30.0, "KEEP_FINISHED_DAYS", gt=0, le=36_500,
        why="Ended jobs and their pictures are forgotten after so long: a month to fetch them, and no disk fills unseen.",
    )  # fmt: skip
    max_stored_bytes: int = setting(
        100_000_000_000, "MAX_STORED_BYTES", ge=1,
        why="Of all pictures together (a 512 × 512 one has about 400 kB); beyond, the oldest job's are deleted first.",
    )  # fmt: skip

    cache_seconds: float = setting(
        0.0, "CACHE_SECONDS", ge=0, le=31_622_400,
        why="For so long the same asked again by its owner, seed included, has the same answer, not painted anew. 0: never.",
    )  # fmt: skip
    cache_entries: int = setting(
        10_000, "CACHE_ENTRIES", ge=1, le=10_000_000,
        why="Answers that CACHE_SECONDS looks among, 300 bytes each; their pictures are those that are kept anyway.",
    )  # fmt: skip

    @field_validator("retry_delays", mode="before")
    @classmethod
    def _split_delays(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("retry_delays")
    @classmethod
    def _delays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) > 10 or not all(0 <= delay <= 86_400 for delay in value):
            raise ValueError("must be at most 10 numbers of seconds, each from 0 to 86400")
        return value
