"""`hub reconcile`: compare what the vendors hold with what Stripe says; and on a schedule."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from hub import app, config
from hub.commands.backfill import moment
from hub.commands.common import core_for, dim, patience
from hub.config import Settings, VendorSettings
from hub.destination import Statement
from hub.errors import ConfigError
from hub.patience import Patience
from hub.reconcile.expect import COMPARED, Rules
from hub.reconcile.repair import Repairs
from hub.reconcile.run import Reconciled, Reconciler, midnight
from hub.reconcile.shown import as_csv, as_json, difference_shown, totals_by_kind
from hub.worker import Beside

FORMATS = ("table", "json", "csv")
WIDE = 240
SHOWN = 200
"""Differences in the table; JSON and CSV have all."""


def checked(
    format_: str, destinations: list[str], settings: Settings, since: datetime | None, until: datetime | None
) -> None:
    """Raises `ConfigError` with every option that cannot work."""
    problems = [] if format_ in FORMATS else [f"--format: {format_!r} is none of {', '.join(FORMATS)}"]
    there = [name for name in COMPARED if name in settings.destinations]
    problems += [
        f"--destination: {name!r} cannot be reconciled; these can: {', '.join(there) or 'none'}"
        for name in destinations
        if name not in there
    ]
    if not there:
        problems.append("HUB_DESTINATIONS: names none of those that can be reconciled: " + ", ".join(COMPARED))
    if since is not None and until is not None and since >= until:
        problems.append("--until: is not after --since")
    if problems:
        raise ConfigError(problems)


async def reconcile(
    settings: Settings,
    stripe: VendorSettings,
    dsn: str,
    console: Console,
    *,
    since: datetime | None,
    until: datetime | None,
    destinations: list[str],
    repair: bool | None,
) -> Reconciled:
    """Reconcile once, telling the console how far it has got. Raises `HubError` when a vendor does not let it end."""

    def tell(so_far: Reconciled) -> None:
        counts = ", ".join(f"{r.destination} {r.documents:,}" for r in so_far.results.values())
        dim(console, f"read up to {so_far.reached}: {counts} documents")

    stopped = "The reconciliation did not come to its end"
    otherwise = "Run `hub reconcile` again; nothing was changed."
    async with (
        core_for(settings, stripe, dsn, stopped=stopped, otherwise=otherwise) as core,
        reconciler(core, patience(console), strict=True) as one,
    ):
        since = since or midnight(one.now()) - timedelta(days=settings.reconcile_days)
        done = await one.reconcile(since, until, destinations=destinations, repair=repair, progress=tell)
    assert done is not None  # only a scheduled one may find that it is not its turn
    return done


@contextlib.asynccontextmanager
async def reconciler(core: app.Core, patience: Patience, *, strict: bool = False) -> AsyncIterator[Reconciler]:
    """With connections of its own to Stripe and to every vendor that can be reconciled; limits are those of all
    processes. A vendor that is not configured is left out; `strict`: raises `ConfigError` instead.
    """
    tables: dict[str, VendorSettings] = {}
    for name in COMPARED:
        if name in core.router.kinds:
            try:
                tables[name] = config.read(app.table(name))
            except ConfigError:
                if strict:
                    raise
    source = app.make_source(core)
    statements: dict[str, Statement] = {
        name: importlib.import_module(f"connectors.{name}.statement").create(
            table, app.make_limit(core, name, table), core.mappings.tables
        )
        for name, table in tables.items()
    }
    rules = rules_of(core.settings, tables)
    repairs = Repairs(core.db, core.router, core.clock)
    grace = timedelta(minutes=core.settings.reconcile_grace_minutes)
    try:
        yield Reconciler(core.db, source, statements, rules, repairs, core.clock, grace, patience)
    finally:
        for statement in statements.values():
            await statement.close()
        await source.close()


def rules_of(settings: Settings, tables: dict[str, VendorSettings]) -> Rules:
    """What finance has decided, where the vendors' settings have it."""
    usual = Rules()
    avalara, netsuite = tables.get("avalara"), tables.get("netsuite")
    return Rules(
        timezone=settings.timezone,
        commit_on=getattr(avalara, "commit_on", usual.commit_on),
        uncollectible=getattr(avalara, "uncollectible", usual.uncollectible),
        write_off=getattr(netsuite, "write_off", "none") == "write_off",
    )


@contextlib.asynccontextmanager
async def scheduled(core: app.Core) -> AsyncIterator[tuple[Beside, ...]]:
    """What a worker process does besides, if `HUB_RECONCILE_HOURS` is not nought."""
    every = core.settings.reconcile_hours * 3600
    if not every or not any(name in core.router.kinds for name in COMPARED):
        yield ()
        return
    async with reconciler(core, Patience()) as one:
        yield (partial(one.on_schedule, every, core.settings.reconcile_days),) if one.statements else ()


def rendered(done: Reconciled, format_: str, width: int | None) -> str:
    """As a table, JSON or CSV, ending with a line break. `width` of the screen; None: of a file."""
    if format_ == "csv":
        return as_csv(done)
    if format_ == "table":
        page = Console(width=width or WIDE, record=True, file=io.StringIO())
        for table in tables(done):
            page.print(table)
        for line in done.said():
            page.print(line, markup=False, soft_wrap=True)
        return page.export_text()
    return orjson.dumps(as_json(done), default=str, option=orjson.OPT_INDENT_2).decode() + "\n"


def save(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(path)


def tables(done: Reconciled) -> list[Table]:
    """Control totals by kind and currency, and the differences."""
    sums = Table("destination", "kind", "currency", "in Stripe", "there", "", title="totals", title_justify="left")
    for total in totals_by_kind(done):
        sums.add_row(*total)
    found: list[Any] = [d for r in done.results.values() for d in r.differences]
    if not found:
        return [sums]
    listed = Table("destination", "difference", "Stripe", "in Stripe", "there", "state", "repair", title_justify="left")
    listed.title = "differences" if len(found) <= SHOWN else f"the first {SHOWN} of {len(found):,} differences"
    for one in found[:SHOWN]:
        row = difference_shown(one)
        names = ("destination", "difference", "stripe_id", "in_stripe", "there", "state", "repair")
        listed.add_row(*(row[name] for name in names))
    return [sums, listed]


def until_of(text: str | None) -> datetime | None:
    """A day is included whole; a moment is itself. Raises `ConfigError`."""
    try:
        found = moment(text)
    except ConfigError as error:
        raise ConfigError([p.replace("--since", "--until") for p in error.problems]) from error
    whole = text is not None and len(text) == 10
    return found + timedelta(days=1) if found is not None and whole else found
