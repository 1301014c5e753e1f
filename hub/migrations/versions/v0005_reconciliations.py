"""What reconciliations found: a table beside what was there."""

from hub.migrations.steps import in_transaction

revision = "0005"
down_revision = "0004"
oldest_code = "0002"
"""No row, column or right that older code uses has changed."""


def upgrade() -> None:
    """All or nothing; a new table waits for nobody."""
    in_transaction(__file__)
