"""What a long history needs: indexes for people, retention, and the mark that says which code may run on a schema."""

from hub.migrations.steps import outside

revision = "0004"
down_revision = "0003"
oldest_code = "0002"
"""Everything in it is beside what was there: no row, column or right that older code uses has changed."""


def upgrade() -> None:
    """While the hub runs: the tables are large when this matters."""
    outside(__file__)
