"""Which jobs were answered, by what they asked for, and of what was used whether it was such an answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make a table, and add a column to another."""
    op.create_table(
        "answers",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("answers_by_time", "answers", ["at"])
    op.create_index("answers_of_job", "answers", ["job_id"])
    op.add_column("usage", sa.Column("cached", sa.Boolean, nullable=False, server_default=sa.false()))
