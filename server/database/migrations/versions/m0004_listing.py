"""For lists of an owner's jobs, newest first."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add an index."""
    op.create_index("jobs_of_owner", "jobs", ["owner", "created_at", "id"])
