"""`hub sweep`: look for missed webhooks now."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from hub import app, log
from hub.commands.common import why
from hub.config import Settings, VendorSettings
from hub.errors import HubError, OutcomeError
from hub.sweep import Swept


async def sweep(settings: Settings, stripe: VendorSettings, dsn: str, console: Console | None) -> Swept:
    """Sweep once, telling the console how far it has got. Raises `HubError` when Stripe does not let it end."""
    log.configure(settings.log_level)
    core = await app.open_core(settings, stripe, dsn, pool=2)

    def tell(so_far: Swept) -> None:
        if console is not None:
            console.print(so_far.said(), style="dim", markup=False, soft_wrap=True)

    try:
        async with app.sweeper(core) as sweeper:
            swept = await sweeper.sweep(tell)
    except OutcomeError as error:
        said = why(error, "Run `hub sweep` again: it goes on where this one ended.")
        raise HubError(f"Stripe's events could not be listed to the end: {said}") from error
    finally:
        await core.db.close()
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
