"""For models and adapters that users register."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_THERE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    """Add two tables; the counter begins at nothing."""
    op.create_table(
        "catalogue",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", sa.Double),
    )
    columns = ["kind", "owner", "name"]
    op.create_index("one_of_a_name", "catalogue", columns, unique=True, sqlite_where=_THERE, postgresql_where=_THERE)
    op.create_index("catalogue_changes", "catalogue", ["revision"])
    op.create_table(
        "catalogue_revision",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(
        sa.table("catalogue_revision", sa.column("id", sa.Integer), sa.column("revision", sa.BigInteger)),
        [{"id": 1, "revision": 0}],
    )
