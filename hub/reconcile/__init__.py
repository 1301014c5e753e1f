"""Does it tie out? What Stripe says must be in AvaTax and NetSuite, against what they say they hold.

expect    from Stripe's objects to the documents that must be there; pure, and nothing of it is a mapping
gather    what else must be known of Stripe for that: the invoice of a payment, the credit notes of a refund
compare   the two sides, document by document and as control totals; pure
run       one reconciliation: window by window, the leftovers singly; kept in a table; on a schedule
repair    a difference that can be mended, as deliveries like any other
shown     the result as a table, JSON and CSV
"""

from __future__ import annotations

from typing import Any

from hub.db import SQL, Connection, Database
from hub.metrics import Metrics
from hub.reconcile.compare import Name
from hub.reconcile.expect import COMPARED
from hub.search import Page


async def gauges(db: Database, metrics: Metrics) -> None:
    """The last reconciliation of each destination, as every process that is scraped tells it. None yet: no gauge."""
    for row in await db.fetch("last_reconciliations", list(COMPARED)):
        metrics.reconciled_until.labels(row["destination"]).set(row["up_to"].timestamp())
        for name in Name:
            metrics.differences.labels(row["destination"], str(name)).set(row["counts"].get(str(name), 0))


async def kept(connection: Connection[Any], destination: str | None, limit: int, after: int | None) -> Page:
    """The reconciliations that were made, newest first, with what they found."""
    rows = await connection.fetch(SQL["list_reconciliations"], destination, after, limit + 1)
    return Page([dict(r) for r in rows[:limit]], rows[limit - 1]["id"] if len(rows) > limit else None)
