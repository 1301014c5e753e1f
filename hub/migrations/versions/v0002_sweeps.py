"""The sweeps over Stripe's event list: up to when nothing is missing."""

from hub.migrations.steps import in_transaction

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """All or nothing: nobody uses these tables yet."""
    in_transaction(__file__)
