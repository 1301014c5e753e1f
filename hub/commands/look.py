"""`hub events`, `deliveries`, `show`, `retry`, `skip`, `link`: what the console will show, for the terminal; straight
from the store.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from hub import operate, search
from hub.commands import common
from hub.config import Settings, read
from hub.db import Database
from hub.errors import HubError
from hub.mapping import FOLDER, load
from hub.model import DeliveryState, Disposition

T = TypeVar("T")
out = Console(width=None if sys.stdout.isatty() else 240)  # into a file or a pipe: one line a row

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="At most this many, newest first.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (events, deliveries, show, retry, skip, link):
        app.command()(command)


def events(
    type: Annotated[str | None, typer.Option(help="Event type, e.g. invoice.paid.")] = None,  # noqa: A002 - Stripe's word
    object: Annotated[str | None, typer.Option(help="Stripe object id.")] = None,  # noqa: A002
    disposition: Annotated[Disposition | None, typer.Option(help="What was decided about it.")] = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Events as accepted, with what was decided about each and why."""
    where = search.EventFilter(type=type, object=object, disposition=disposition)
    page = run(lambda db: db.run(search.events, where, limit))
    if json:
        _json(page.items)
        return
    table = _table("received", "event", "type", "object", "api version", "decided", "why / where to")
    for e in page.items:
        table.add_row(
            _time(e["received_at"]), e["id"], e["type"], e["object_id"] or "", e["api_version"] or "", e["disposition"],
            e["note"] or "",
        )  # fmt: skip
    out.print(table)


def deliveries(
    state: Annotated[str | None, typer.Option(help="One or more states, comma-separated, e.g. dead,held.")] = None,
    destination: Annotated[str | None, typer.Option(help="e.g. netsuite.")] = None,
    object: Annotated[str | None, typer.Option(help="Stripe object id.")] = None,  # noqa: A002
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Deliveries with their state; for dead letters the cause and the way out."""
    states = tuple(_state(s) for s in (state or "").split(",") if s)
    where = search.DeliveryFilter(states, destination, object)
    page = run(lambda db: db.run(search.deliveries, where, limit))
    if json:
        _json(page.items)
        return
    table = _table("id", "destination", "object", "event", "state", "failures", "due", "cause / note", "way out")
    for d in page.items:
        table.add_row(
            str(d["id"]), d["destination"], d["object_id"], d["event"]["type"] if d["event"] else "", d["state"],
            str(d["failures"]), _time(d["due_at"]), d["cause"] or d["note"] or "", d["fix"] or "",
        )  # fmt: skip
    out.print(table)


def show(id: Annotated[str, typer.Argument(help="A delivery's number, an event id, or a Stripe object id.")]) -> None:  # noqa: A002
    """Everything known of one delivery, event or Stripe object, as JSON."""

    async def find(db: Database) -> Any:
        if id.isdigit():
            return await db.run(search.delivery, int(id))
        if id.startswith(("evt_", "read:")):
            return await db.run(search.event, id)
        return await db.run(search.history, id)

    found = run(find)
    if found is None:
        raise HubError(f"{id} was never seen here: it takes a delivery's number, an event id or a Stripe object id")
    if isinstance(found.get("body"), bytes):
        found["body"] = orjson.loads(found["body"])
    _json(found)


def retry(id: Annotated[int, typer.Argument(help="A delivery's number.")]) -> None:  # noqa: A002
    """Try a delivery again now; what a dead letter held back follows it."""
    done = run(lambda db: db.run(operate.retry, id, _now()))
    out.print(f"delivery {id} is due now{_also(done)}", soft_wrap=True)


def skip(
    id: Annotated[int, typer.Argument(help="A delivery's number.")],  # noqa: A002
    reason: Annotated[str, typer.Option(help="Why it is not wanted; kept for ever.")],
) -> None:
    """Give a delivery up for good, with a reason; what it held back goes on."""
    done = run(lambda db: db.run(operate.skip, id, reason, _now()))
    out.print(f"delivery {id} is skipped{_also(done)}", soft_wrap=True)


def link(
    id: Annotated[int, typer.Argument(help="A delivery's number.")],  # noqa: A002
    vendor_id: Annotated[str, typer.Option(help="The record's id at the vendor; at AvaTax the document's code.")],
    reason: Annotated[str, typer.Option(help="How it came to be there; kept for ever.")],
    record: Annotated[
        str | None, typer.Option(help="The vendor's kind of record; needed if there are several.")
    ] = None,
    instead_of: Annotated[str | None, typer.Option(help="To correct a mistake: the id that was given before.")] = None,
) -> None:
    """Settle a delivery whose record exists at the vendor already; what it held back goes on, and uses that record."""
    mappings = load(read(Settings).mappings_dir or FOLDER)
    existing = operate.Existing(vendor_id, reason, record, instead_of)
    done = run(lambda db: db.run(operate.link, id, existing, mappings, _now()))
    released = f"; {done.released} held behind it are released" if done.released else ""
    out.print(f"{done.object_id} is linked to {done.record} {done.vendor_id}{released}; {done.note}", soft_wrap=True)


def run(fn: Callable[[Database], Awaitable[T]]) -> T:
    """Ask the hub's own database something."""
    dsn, embedded = common.database(read(Settings))

    async def main() -> T:
        db = await Database.connect(dsn, size=1)
        try:
            return await fn(db)
        finally:
            await db.close()

    try:
        return asyncio.run(main())
    finally:
        if embedded:
            embedded.stop()


def _also(done: operate.Requeued) -> str:
    parts = []
    if done.deliveries > 1:
        parts.append(f"with all {done.deliveries} deliveries of its batch")
    if done.released:
        parts.append(f"{done.released} held behind it are released")
    return "".join(f"; {p}" for p in (*parts, *([done.note] if done.note else [])))


def _table(*columns: str) -> Table:
    """Ids are never broken; what is written in words may be."""
    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column in ("received", "event", "object", "id", "due"))
    return table


def _state(word: str) -> DeliveryState:
    try:
        return DeliveryState(word.strip())
    except ValueError:
        raise HubError(f"there is no state {word!r}; there are {', '.join(DeliveryState)}") from None


def _now() -> datetime:
    return datetime.now(UTC)


def _time(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def _json(value: Any) -> None:
    print(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())  # noqa: T201 - the command's output
