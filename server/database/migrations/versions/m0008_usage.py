"""What jobs ask for in numbers, what ended jobs used, and owners' own quotas. Jobs that ended before are counted nowhere."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_LIVE = sa.text("state IN ('processing', 'queued', 'retrying', 'starting')")


def upgrade() -> None:
    """Add to the jobs, and make two tables."""
    op.add_column("jobs", sa.Column("pictures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("cost", sa.Double, nullable=False, server_default="0"))
    op.create_index("live_jobs_of_owner", "jobs", ["owner", "created_at"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_table(
        "usage",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double, nullable=False),
        sa.Column("pictures", sa.Integer, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.Double, nullable=False),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
    )
    op.create_index("usage_of_owner", "usage", ["owner", "asked_at", "pictures", "cost"])
    op.create_index("usage_of_model", "usage", ["model", "ended_at"])
    op.create_index("usage_of_day", "usage", ["day"])
    op.create_table(
        "quotas",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("pictures", sa.Integer),
        sa.Column("cost", sa.Double),
    )
