"""What Alembic runs: the steps, on the connection that `server.database.migrating` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from server.database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
