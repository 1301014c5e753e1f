"""Alembic's entry: runs the steps on the connection that `hub.migrate` opened. There is no offline mode."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
