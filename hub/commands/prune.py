"""`hub prune`: remove settled history now, or count what would be removed."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from rich.console import Console

from hub import log, metrics, migrate
from hub.config import Settings
from hub.db import Database
from hub.errors import ConfigError, HubError
from hub.retention import Pruned, Pruner

SAY_EVERY = 50
"""Steps between two lines of progress."""


async def prune(settings: Settings, dsn: str, console: Console | None, *, dry_run: bool) -> Pruned:
    """Prune once, from the first event on, telling the console how far it has got. Raises `HubError`."""
    log.configure(settings.log_level)
    if not settings.retention_days:
        raise HubError("HUB_RETENTION_DAYS is 0: history is kept for ever, nothing was done.")
    if (problem := (await migrate.current(dsn)).problem()) is not None:
        raise ConfigError([problem])

    def tell(so_far: Pruned) -> None:
        if console is not None and so_far.steps % SAY_EVERY == 0:
            console.print(so_far.said(), style="dim", markup=False, soft_wrap=True)

    db = await Database.connect(dsn, size=2)
    try:
        pruner = Pruner(db, metrics.create(), time.time, timedelta(days=settings.retention_days))
        pruned = await (pruner.would_prune(tell) if dry_run else pruner.prune(tell))
    finally:
        await db.close()
    assert pruned is not None  # only a scheduled one may find that it is not its turn
    return pruned


def shown(pruned: Pruned) -> dict[str, Any]:
    """As JSON."""
    found = asdict(pruned)
    return {"dry_run": found.pop("would"), **found, "before": pruned.before.isoformat()}
