"""`hub tax held`: which drafts wait for tax, for how long, for how much money."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from hub import search
from hub.commands import look
from hub.held import held as drafts

out = Console(width=None if sys.stdout.isatty() else 240)  # into a file or a pipe: one line a row
commands = typer.Typer(no_args_is_help=True, help="Tax on drafts (HUB_AVALARA_TAX=calculate).")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="tax")


@commands.callback()
def _group() -> None:
    """Keeps `held` a word of its own while it is the only command."""


@commands.command()
def held(*, json: look.Json = False) -> None:
    """Drafts that are kept from being finalised until they have tax, longest held first."""
    found: dict[str, Any] = look.run(lambda db: db.run(search.reading, drafts, datetime.now(UTC)))
    if json:
        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    table = Table(
        "invoice", "customer", "held since", "would be finalised", "total", "delivery", "state", "cause", "fix"
    )
    for one in found["items"]:
        money = f"{one['total']} {one['currency']}"
        table.add_row(
            one["invoice"], one["customer"] or "", one["since"], one["finalizes_at"] or "", money, str(one["delivery"]),
            one["state"], one["cause"] or "", one["fix"] or "",
        )  # fmt: skip
    out.print(table)
    sums = ", ".join(f"{amount} {currency}" for currency, amount in found["amounts"].items())
    hours = found["oldest_seconds"] / 3600
    out.print(
        f"{found['drafts']} held, the longest for {hours:.1f} h; in minor units: {sums or 'nothing'}", soft_wrap=True
    )
