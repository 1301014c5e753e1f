"""`hub backfill`: bring in Stripe's objects as they are now."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from hub import app
from hub.backfill import Backfilled
from hub.commands.common import core_for, dim, patience
from hub.config import Settings, VendorSettings
from hub.errors import ConfigError


def moment(since: str | None) -> datetime | None:
    """`2026-11-02` or a full ISO 8601 time; without an offset it is UTC. Raises `ConfigError`."""
    if since is None:
        return None
    try:
        parsed = datetime.fromisoformat(since)
    except ValueError as error:
        raise ConfigError([f"--since: {since!r} is no date; write it as 2026-11-02"]) from error
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


async def backfill(
    settings: Settings, stripe: VendorSettings, dsn: str, since: datetime | None, console: Console, *, dry_run: bool
) -> Backfilled:
    """Run once, telling the console how far it has got. Raises `HubError` when Stripe does not let it end."""

    def tell(object_type: str, so_far: Backfilled) -> None:
        count = so_far.counts[object_type]
        text = f"{object_type}: listed {count.listed}, new {count.new}, known {count.known}; reads {so_far.reads}"
        dim(console, text)

    stopped = "Stripe's lists could not be followed to the end"
    otherwise = "Run the same command again: it goes on where this one ended."
    async with (
        core_for(settings, stripe, dsn, stopped=stopped, otherwise=otherwise) as core,
        app.backfill(core, patience(console)) as one,
    ):
        return await one.run(since, dry_run=dry_run, progress=tell)


def table(done: Backfilled) -> Table:
    """What was found, a row per object type."""
    found = Table("object", "listed", "new", "known", "deleted", "gone", "reads")
    for name, c in done.counts.items():
        found.add_row(name, *(str(n) for n in (c.listed, c.new, c.known, c.deleted, c.gone, c.reads)))
    return found


def shown(done: Backfilled) -> dict[str, Any]:
    """As JSON."""
    return {
        "complete": done.complete,
        "complete_until": done.started_at.isoformat() if done.complete else None,
        "since": done.since.isoformat() if done.since else None,
        "dry_run": done.dry_run,
        "resumed": done.resumed,
        "events": done.events,
        "reads": done.reads,
        "gaps_closed": done.closed,
        "objects": {name: asdict(count) for name, count in done.counts.items()},
        "note": done.note,
    }
