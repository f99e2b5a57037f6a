"""For delivering the outbox's calls: to whom each goes, what is owed to it, who makes it, and where its job's calls end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_WAITING = sa.text("state = 'waiting'")
_SENDING = sa.text("state = 'sending'")
_SETTLED = sa.text("settled_at IS NOT NULL")


def upgrade() -> None:
    """Add to the outbox; SQLite uses a partial index only for a condition that says the same as the index's own."""
    op.add_column("outbox", sa.Column("target", sa.Text, nullable=False, server_default=""))
    op.add_column("outbox", sa.Column("care", sa.Text, nullable=False, server_default="repeated"))
    op.add_column("outbox", sa.Column("claimed_by", sa.Text))
    op.add_column("outbox", sa.Column("ends_job", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_index("calls_to_make", "outbox")
    for name, columns, where in (
        ("waiting_calls", ["channel", "next_at"], _WAITING),
        ("claimed_calls", ["channel", "claimed_until"], _SENDING),
        ("settled_calls", ["channel", "state", "settled_at"], _SETTLED),
    ):
        op.create_index(name, "outbox", columns, sqlite_where=where, postgresql_where=where)
