"""`hub reconcile` as a command: its options. What it does is in `hub/commands/reconcile.py`, imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(commands: typer.Typer) -> None:
    """Add the command."""
    commands.command()(reconcile)


def reconcile(
    since: Annotated[
        str | None, typer.Option(help="A day or moment, UTC, from which on. Default: HUB_RECONCILE_DAYS ago.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="The last day, or a moment before which. Default: a grace time ago.")
    ] = None,
    destination: Annotated[
        list[str] | None, typer.Option(help="netsuite or avalara; may be given twice. Default: all that are enabled.")
    ] = None,
    format: Annotated[str, typer.Option(help="table, json or csv.")] = "table",  # noqa: A002 - the option's name
    out: Annotated[Path | None, typer.Option(help="Write it into this file instead.")] = None,
    repair: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--repair", help="Say which differences would be mended by writing again, and which not.")
    ] = False,
    yes: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--yes", help="With --repair: do it.")
    ] = False,
) -> None:
    """Compare what NetSuite and AvaTax hold with what Stripe says, to the cent. Exit 1: there are differences."""
    from hub import app as root
    from hub.commands import common
    from hub.commands import reconcile as command
    from hub.commands.backfill import moment

    if yes and not repair:
        raise typer.BadParameter("goes with --repair", param_hint="--yes")
    screen, err = Console(width=None if sys.stdout.isatty() else 240), Console(stderr=True)
    first, last = moment(since), command.until_of(until)
    settings, stripe = root.read_settings(serving=False)
    command.checked(format, destination or [], settings, first, last)
    dsn, embedded = common.database(settings)
    try:
        done = common.run(
            command.reconcile, settings, stripe, dsn, err,
            since=first, until=last, destinations=destination or [], repair=yes if repair else None,
        )  # fmt: skip
    finally:
        if embedded:
            embedded.stop()
    text = command.rendered(done, format, None if out else screen.width)
    if out is None:
        sys.stdout.write(text)
    else:
        command.save(out, text)
        err.print(f"written: {out}", markup=False, soft_wrap=True)
    for line in done.repairs:
        err.print(("sent: " if yes else "would send: ") + line, markup=False, soft_wrap=True)
    if done.repairs and yes:
        err.print("These are deliveries now (`hub deliveries`). Reconcile again when they are done.", soft_wrap=True)
    raise SystemExit(0 if done.agrees else 1)
