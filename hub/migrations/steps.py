"""How a step of the schema is run: its SQL file, statement by statement, in the order of the file.

Two ways, chosen by the step's file: `in_transaction` (all or nothing; for what is done in a moment) and `outside` (for
indexes on tables that are in use: they are built while everybody goes on, which PostgreSQL does only outside of a
transaction; so every statement must be one that may be run again).
"""

from __future__ import annotations

import re
from pathlib import Path

from alembic import op

# Building an index waits for older transactions, and nobody waits for it: it has time. DDL has not (hub.migrate).
PATIENCE = "120s"

_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)")
_COMMENTS = re.compile(r"^\s*--.*$", re.MULTILINE)


def statements(text: str) -> list[str]:
    """The statements of a file, without comments between them. A `;` within `$$ ... $$` does not end one."""
    found, rest = [], ""
    for piece in _COMMENTS.sub("", text).split(";\n"):
        rest += piece
        if rest.count("$$") % 2:
            rest += ";\n"
        else:
            found.append(rest.strip().removesuffix(";"))
            rest = ""
    return [s for s in found if s]


def in_transaction(step: str) -> None:
    """Run the `.sql` beside the step; what fails leaves nothing behind."""
    for statement in statements(Path(step).with_suffix(".sql").read_text()):
        op.execute(statement)


def outside(step: str) -> None:
    """Run the `.sql` beside the step, each statement committed by itself: what fails is run again from the first.

    An index that an earlier try left half built is invalid, slows writing, and would count as existing: it goes first.
    """
    with op.get_context().autocommit_block():
        for statement in statements(Path(step).with_suffix(".sql").read_text()):
            if index := _INDEX.match(statement):
                op.execute(f"SET lock_timeout = '{PATIENCE}'")
                if not _is_valid(index[1]):
                    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index[1]}")
                op.execute(statement)
                op.execute("RESET lock_timeout")
            else:
                op.execute(statement)


def _is_valid(index: str) -> bool:
    found = op.get_bind().exec_driver_sql(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1::text)", (index,)
    )
    return bool(found.scalar())
