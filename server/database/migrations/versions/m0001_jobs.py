"""Jobs, what they were given and what came of them; an ended job stays as it ended, whoever writes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_LIVE = sa.text("state IN ('processing', 'queued', 'retrying', 'starting')")
_ENDED = sa.text("state IN ('canceled', 'failed', 'succeeded')")
_FINAL = "OLD.state IN ('canceled', 'failed', 'succeeded') AND NEW.state <> OLD.state"
_STALE = "NEW.fence < OLD.fence"


def upgrade() -> None:
    """Make the tables and the triggers."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("body_hash", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("signature", sa.Text),
        sa.Column("deadline_seconds", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("completed_at", sa.Double),
        sa.Column("warnings", sa.Text, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("last_event", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.UniqueConstraint("owner", "idempotency_key", name="one_job_for_a_key"),
        sa.CheckConstraint(
            "state IN ('canceled', 'failed', 'processing', 'queued', 'retrying', 'starting', 'succeeded')",
            name="state_is_known",
        ),
        sa.CheckConstraint(
            "(completed_at IS NOT NULL) = (state IN ('canceled', 'failed', 'succeeded'))", name="completed_when_ended"
        ),
    )
    op.create_index("live_jobs", "jobs", ["node", "lease_until"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("ended_jobs", "jobs", ["completed_at"], sqlite_where=_ENDED, postgresql_where=_ENDED)
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "artifacts",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("image_index", sa.Integer, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
    )
    for name, wrong, words in (
        ("ends_are_final", _FINAL, "an ended job stays as it ended"),
        ("fences_only_rise", _STALE, "a lease of an earlier holder"),
    ):
        _refuse(name, wrong, words)


def _refuse(name: str, wrong: str, words: str) -> None:
    """Let the database itself refuse an UPDATE of jobs that would do `wrong`."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON jobs WHEN {wrong} BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE UPDATE ON jobs FOR EACH ROW WHEN ({wrong}) EXECUTE FUNCTION {name}()")
