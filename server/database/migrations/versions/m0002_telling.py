"""Retries, how far images were, whom a job's course is told, and the outbox: what is to be told elsewhere."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_WAITING = sa.text("state IN ('sending', 'waiting')")


def upgrade() -> None:
    """Add to the jobs, and make the outbox."""
    op.add_column("jobs", sa.Column("retries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("webhook", sa.Text))
    op.add_column("jobs", sa.Column("object_key", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "latents",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("image_index", sa.Integer, primary_key=True),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("claimed_until", sa.Double),
        sa.Column("settled_at", sa.Double),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.UniqueConstraint("job_id", "name", name="one_call_of_a_name"),
        sa.CheckConstraint(
            "state IN ('dead', 'delivered', 'dropped', 'sending', 'unknown', 'waiting')", name="call_state_is_known"
        ),
    )
    op.create_index("calls_to_make", "outbox", ["channel", "next_at"], sqlite_where=_WAITING, postgresql_where=_WAITING)
