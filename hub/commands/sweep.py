"""`hub sweep`: look for missed webhooks now."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from hub import app
from hub.commands.common import core_for, dim
from hub.config import Settings, VendorSettings
from hub.sweep import Swept


async def sweep(settings: Settings, stripe: VendorSettings, dsn: str, console: Console | None) -> Swept:
    """Sweep once, telling the console how far it has got. Raises `HubError` when Stripe does not let it end."""

    def tell(so_far: Swept) -> None:
        if console is not None:
            dim(console, so_far.said())

    stopped = "Stripe's events could not be listed to the end"
    otherwise = "Run `hub sweep` again: it goes on where this one ended."
    async with (
        core_for(settings, stripe, dsn, stopped=stopped, otherwise=otherwise) as core,
        app.sweeper(core) as sweeper,
    ):
        swept = await sweeper.sweep(tell)
    assert swept is not None  # only a scheduled sweep may find that it is not its turn
    return swept


def shown(swept: Swept) -> dict[str, Any]:
    """As JSON."""
    return {
        "from": swept.from_at.isoformat(),
        "complete_until": swept.to_at.isoformat(),
        "listed": swept.listed,
        "missing": swept.missing,
        "missing_by_disposition": dict(swept.by_disposition),
        "unreadable": swept.unreadable,
        "gap": [moment.isoformat() for moment in swept.gap] if swept.gap else None,
        "note": swept.note,
    }
