"""`hub netsuite preflight`: would this NetSuite account take what the mappings send?"""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import orjson
import typer
from rich.console import Console
from rich.table import Table

from hub.commands import common
from hub.config import Settings, read
from hub.errors import HubError, OutcomeError
from hub.mapping import FOLDER, load
from hub.money import EXPONENTS

NAME = "netsuite"
COLOURS = {"ok": "green", "wrong": "red", "cannot tell": "yellow"}
out = Console(width=None if sys.stdout.isatty() else 240)  # into a file or a pipe: one line a row
commands = typer.Typer(no_args_is_help=True, help="NetSuite before the first document.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name=NAME)


@commands.callback()
def _group() -> None:
    """Keeps `preflight` a word of its own while it is the only command."""


@commands.command()
def preflight(
    format: Annotated[  # noqa: A002 - the option's name
        Literal["table", "json"], typer.Option("--format", help="A table for people, or JSON.")
    ] = "table",
) -> None:
    """Read the account and list everything that would make a mapping fail, with where to correct it. Changes nothing.
    Exit 1: something is wrong."""
    found = common.run(findings, datetime.now(UTC))
    wrong = sum(f.verdict == "wrong" for f in found)
    if format == "json":
        sys.stdout.write(orjson.dumps([f.shown() for f in found], option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        table = Table("check", "verdict", "cause", "fix")
        for f in found:
            table.add_row(f.check, f"[{COLOURS[f.verdict]}]{f.verdict}[/]", _plain(f.cause), _plain(f.fix))
        out.print(table)
        out.print(summary(found), markup=False, soft_wrap=True)
    raise SystemExit(1 if wrong else 0)


async def findings(now: datetime) -> list[Any]:
    """What `connectors.netsuite.preflight` finds with this hub's settings and mappings. Raises `HubError`."""
    from hub import app as root  # not at the top: every command of `hub` imports this file

    settings = read(Settings)
    root.use_sandbox(settings)
    vendor = read(root.table(NAME))
    mappings = load(settings.mappings_dir or FOLDER)
    seen = {"timezone": settings.timezone} | {
        f"{NAME}_{key}": value
        for key, value in vendor.model_dump(mode="json").items()
        if isinstance(value, str | int | bool)
    }
    today = now.astimezone(ZoneInfo(settings.timezone)).date()
    module: Any = importlib.import_module("connectors.netsuite.preflight")
    try:
        found: list[Any] = await module.preflight(
            vendor, mappings.for_destination(NAME).values(), mappings.tables, seen, today, EXPONENTS
        )
    except OutcomeError as error:
        said = common.why(error, "Then run `hub netsuite preflight` again.")
        raise HubError(f"the account could not be read: {said}") from error
    return found


def summary(found: list[Any]) -> str:
    """One line: how many of what."""
    count = {verdict: sum(f.verdict == verdict for f in found) for verdict in COLOURS}
    if count["wrong"]:
        return f"{count['wrong']} wrong, {count['cannot tell']} cannot be told, {count['ok']} ok: correct them first"
    return f"nothing is wrong: {count['ok']} ok, {count['cannot tell']} cannot be told"


def _plain(text: str) -> str:
    """Square brackets are markup to the table."""
    return text.replace("[", r"\[")
