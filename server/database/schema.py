"""The tables of the records. `server/database/migrations` brings a database to what stands here; a test compares the two.

Times are seconds since 1970 (UTC). Texts that callers chose are kept as JSON, where every character has a form that every
database takes (PostgreSQL's text takes no NUL).
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from server.job import TERMINAL, JobState
from server.webhook import CallState, Care

REVISION = "0009"  # the newest migration's; a test compares it with the folder
VERSIONS_TABLE = "alembic_version"


def one_of(states: Collection[StrEnum]) -> str:
    """As SQL has them between parentheses."""
    return ", ".join(f"'{state.value}'" for state in sorted(states))


LIVE = frozenset(JobState) - TERMINAL
IS_LIVE = text(f"state IN ({one_of(LIVE)})")
IS_ENDED = text(f"state IN ({one_of(TERMINAL)})")
IS_WAITING = text(f"state = '{CallState.WAITING.value}'")
IS_SENDING = text(f"state = '{CallState.SENDING.value}'")
IS_SETTLED = text("settled_at IS NOT NULL")

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("idempotency_key", Text),  # NULL: none was given
    Column("body_hash", Text, nullable=False),
    Column("request", Text, nullable=False),  # JSON, its bytes in job_inputs
    Column("signature", Text),  # JSON, the same; NULL: none, or the job has ended
    Column("deadline_seconds", Double),
    Column("created_at", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", Double),
    Column("completed_at", Double),
    Column("warnings", Text, nullable=False),  # JSON
    Column("failure", Text),  # JSON
    Column("last_event", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),  # how often work was begun
    # The lease: which node runs the job, until when others leave it alone, and the number that a stale holder does not have.
    Column("node", Text, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("webhook", Text),  # JSON; NULL: nobody is called
    Column("object_key", Text, nullable=False, server_default=""),
    Column("output", Text),  # JSON; NULL: pictures, or none yet
    Column("figures", Text),  # JSON, of how the output came about
    Column("pictures", Integer, nullable=False, server_default="0"),  # asked for
    Column("cost", Double, nullable=False, server_default="0"),  # see server.metering.cost
    UniqueConstraint("owner", "idempotency_key", name="one_job_for_a_key"),
    CheckConstraint(f"state IN ({one_of(frozenset(JobState))})", name="state_is_known"),
    CheckConstraint(f"(completed_at IS NOT NULL) = (state IN ({one_of(TERMINAL)}))", name="completed_when_ended"),
    Index("live_jobs", "node", "lease_until", sqlite_where=IS_LIVE, postgresql_where=IS_LIVE),
    Index("jobs_of_owner", "owner", "created_at", "id"),
    Index("live_jobs_of_owner", "owner", "created_at", sqlite_where=IS_LIVE, postgresql_where=IS_LIVE),
    Index("ended_jobs", "completed_at", sqlite_where=IS_ENDED, postgresql_where=IS_ENDED),
)

job_inputs = Table(
    "job_inputs",  # pictures that a request brought along; gone when its job has ended
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

latents = Table(
    "latents",  # how far the images of a live job were when they were parked or cut short; gone when the job has ended
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("image_index", Integer, primary_key=True),
    Column("step", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("image_index", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
)

usage = Table(
    "usage",  # of each ended job, for as long as somebody may ask what it was; it outlives the job's own row
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("day", Integer, nullable=False),  # on which it ended, since 1970 (UTC)
    Column("asked_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double, nullable=False),
    Column("pictures", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", Double, nullable=False),
    Column("gpu_seconds", Double, nullable=False),
    Column("price", Double, nullable=False),
    Column("cached", Boolean, nullable=False, server_default=false()),  # answered as the same was before
    Index("usage_of_owner", "owner", "asked_at", "pictures", "cost"),
    Index("usage_of_model", "model", "ended_at"),
    Index("usage_of_day", "day"),
)

answers = Table(
    "answers",  # which job was answered, by a hash over all that its answer follows from (server.jobs.answers)
    metadata,
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Double, nullable=False),
    Index("answers_by_time", "at"),
    Index("answers_of_job", "job_id"),
)

quotas = Table(
    "quotas",  # of owners that have others than the settings say
    metadata,
    Column("owner", Text, primary_key=True),
    Column("pictures", Integer),  # a day; NULL: as many as they like
    Column("cost", Double),
)

outbox = Table(
    "outbox",  # what is to be told elsewhere, recorded with what makes it true
    metadata,
    Column("id", Text, primary_key=True),  # what a receiver tells a repetition by
    Column("job_id", Text),  # NULL: of a message that never became a job. It outlives the job's own row
    Column("name", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("payload", Text, nullable=False),  # JSON, the channel's own
    Column("position", BigInteger, nullable=False),  # in the order of the job's calls
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),  # when to try it
    Column("attempts", Integer, nullable=False),
    Column("claimed_until", Double),  # a sender has it until then
    Column("settled_at", Double),
    Column("last_error", Text, nullable=False),
    Column("target", Text, nullable=False, server_default=""),  # what is told to one does not wait for another
    Column("care", Text, nullable=False, server_default=Care.REPEATED.value),
    Column("claimed_by", Text),  # the sender's node
    Column("ends_job", Boolean, nullable=False, server_default=false()),  # nothing more is told of the job
    UniqueConstraint("job_id", "name", name="one_call_of_a_name"),
    CheckConstraint(f"state IN ({one_of(frozenset(CallState))})", name="call_state_is_known"),
    Index("waiting_calls", "channel", "next_at", sqlite_where=IS_WAITING, postgresql_where=IS_WAITING),
    Index("claimed_calls", "channel", "claimed_until", sqlite_where=IS_SENDING, postgresql_where=IS_SENDING),
    Index("settled_calls", "channel", "state", "settled_at", sqlite_where=IS_SETTLED, postgresql_where=IS_SETTLED),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("username", Text, nullable=False),  # who owns what this account makes
    Column("username_key", Text, nullable=False),  # in lower case
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("not_before", Double, nullable=False),  # access tokens from before hold no more
    UniqueConstraint("username_key", name="one_user_of_a_name"),
    UniqueConstraint("email_key", name="one_user_of_an_address"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("digest", Text, nullable=False),  # SHA-256; the key itself is not kept
    Column("scopes", Text, nullable=False),  # with blanks between
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),  # written now and then
    UniqueConstraint("digest", name="one_key_of_a_digest"),
    Index("keys_of_user", "user_id"),
)

audit = Table(
    "audit",  # what admins and keys did
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("acts_by_time", "at"),
)

published_jobs = Table(
    "published_jobs",  # whose pictures everybody may see
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("at", Double, nullable=False),
)

IS_THERE = text("deleted_at IS NULL")

catalogue = Table(
    "catalogue",  # models and adapters that users registered
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False),  # JSON (server.model_records)
    Column("revision", BigInteger, nullable=False),  # of its last change
    Column("deleted_at", Double),
    Index(
        "one_of_a_name",
        "kind",
        "owner",
        "name",
        unique=True,
        sqlite_where=IS_THERE,
        postgresql_where=IS_THERE,
    ),
    Index("catalogue_changes", "revision"),
)

catalogue_revision = Table(
    "catalogue_revision",  # one row: the number of the last change of the catalogue
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
