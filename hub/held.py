"""Drafts that the hub keeps from being finalised until they have tax: how many, for how long, for how much money.

Told from the stored events: a draft is held if its newest known snapshot says so (metadata `hub_tax_hold`, which the
destination `tax` sets), and looked for only where a delivery to that destination is not done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import asyncpg
from asyncpg import Connection

from hub.db import SQL
from hub.metrics import Metrics

MOST = 500
"""Drafts that are shown one by one."""
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """All held drafts. Amounts are totals without the missing tax, in minor units by currency (lower case)."""

    drafts: int
    oldest_seconds: int
    amounts: dict[str, int]
    items: list[Row]
    """Longest held first, at most `MOST`: `invoice`, `customer`, `since`, `finalizes_at`, `total`, `currency`, and of
    the delivery that would put tax on it `delivery`, `state`, `code`, `cause`, `fix`."""


async def held(connection: Connection[Any], now: datetime) -> Row:
    """What there is, as plain values."""
    rows = [_shown(row) for row in await connection.fetch(SQL["held_drafts"])]
    rows.sort(key=lambda row: (row["since"] or "", row["invoice"]))
    amounts: dict[str, int] = {}
    for row in rows:
        amounts[row["currency"]] = amounts.get(row["currency"], 0) + row["total"]
    begun = [moment for row in rows if (moment := _moment(row["since"])) is not None]
    oldest = max(0, int((now - min(begun)).total_seconds())) if begun else 0
    return asdict(Held(len(rows), oldest, dict(sorted(amounts.items())), rows[:MOST]))


def show(found: Mapping[str, Any], metrics: Metrics) -> None:
    """Bring the gauges up to date with what `held` told."""
    metrics.held_drafts.set(found["drafts"])
    metrics.held_seconds.set(found["oldest_seconds"])
    metrics.held_money.clear()
    for currency, amount in found["amounts"].items():
        metrics.held_money.labels(currency).set(amount)


def _shown(row: asyncpg.Record) -> Row:
    since, _, until = str(row["mark"]).partition("/")
    about = {name: row[name] for name in ("invoice", "customer", "total", "currency", "delivery", "state")}
    return {**about, "since": since, "finalizes_at": until or None, **{n: row[n] for n in ("code", "cause", "fix")}}


def _moment(text: str) -> datetime | None:
    """A person may have written anything there."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
