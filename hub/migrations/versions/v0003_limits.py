"""Limits and the circuit breaker, shared by all nodes."""

from hub.migrations.steps import in_transaction

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """All or nothing: nobody uses these tables yet."""
    in_transaction(__file__)
