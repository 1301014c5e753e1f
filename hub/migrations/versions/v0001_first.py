"""The first schema: events, deliveries, lanes, batches, attempts, links, destinations, rejected bodies."""

from hub.migrations.steps import in_transaction

revision = "0001"
down_revision = None


def upgrade() -> None:
    """All or nothing: nobody uses these tables yet."""
    in_transaction(__file__)
