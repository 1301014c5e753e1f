"""Alembic's entry: runs the steps on the connection that `hub.migrate` opened. There is no offline mode.

With each step the schema is marked with the oldest code that may run on it, in the same transaction as its version. A
comment on the version's own table, because there it is never without the version, and needs no table and no right.
"""

from typing import Any

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]


def mark(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:  # noqa: ARG001 - as Alembic calls it
    """Write the step's `oldest_code` down. Steps before 0004 have none: only their own code runs on them."""
    oldest = getattr(step.up_revision.module, "oldest_code", None)
    if oldest is not None:
        connection.execute(text(f"COMMENT ON TABLE alembic_version IS 'oldest code: {int(oldest):04d}'"))


context.configure(connection=connection, transaction_per_migration=True, on_version_apply=mark)
with context.begin_transaction():
    context.run_migrations()
