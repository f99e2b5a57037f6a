"""For jobs that paint nothing: what came of them, and figures of how."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add to the jobs; those of before painted."""
    op.add_column("jobs", sa.Column("output", sa.Text))
    op.add_column("jobs", sa.Column("figures", sa.Text))
