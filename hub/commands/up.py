"""`hub up`: everything on one machine. The web server runs here; the workers and the sandbox are children, restarted or
reported when they end; a live summary shows business flowing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hub import app, log
from hub.commands import common
from hub.commands.processes import spare_the_collector, web_server
from hub.config import Settings, read
from hub.db import UNAVAILABLE, Embedded

SANDBOX_PORT = 9700
BUSINESS_RATE = 10.0
"""Events of made-up business a second in the sandbox."""


async def migrate_in_child(dsn: str, env: dict[str, str]) -> None:
    """Bring the schema up to date in a process of its own: the tools for it are 40 MB that need not stay."""
    child = await common.Child.start("hub migrate", "migrate", "--quiet", env={**env, "HUB_DATABASE_URL": dsn})
    if await child.process.wait():
        raise RuntimeError("the schema could not be brought up to date; see the message above")


async def up(*, with_sandbox: bool, sandbox_port: int, console: Console, events_per_second: float | None) -> int:
    """Run until Ctrl-C. Returns the exit code."""
    wanted = read(Settings)
    common.require_port(wanted.host, wanted.port, "HUB_PORT")
    if with_sandbox:
        common.require_port("127.0.0.1", sandbox_port, "--sandbox-port")
    folder = common.data_dir(wanted)
    console.print(f"[dim]data and logs in {folder}[/]")
    embedded = await _database(folder, console, with_sandbox=with_sandbox)
    dsn = os.environ["HUB_DATABASE_URL"]
    children: list[common.Child] = []
    try:
        await migrate_in_child(dsn, {})
        if with_sandbox:
            children.append(await _start_sandbox(folder, sandbox_port, events_per_second))
            os.environ["HUB_SANDBOX_URL"] = f"http://127.0.0.1:{sandbox_port}"
            os.environ.setdefault("HUB_LAKE_LINGER", "10")  # something to see within seconds
            os.environ.setdefault("HUB_API_TOKEN", common.local_secret(folder, "api_token"))
        settings, stripe = app.read_settings(serving=True)
        log.configure(settings.log_level)
        log.to_file(folder / "hub.log")
        core = await app.open_core(settings, stripe, dsn)
        web = web_server(core, stripe)
        stop = asyncio.Event()
        common.on_signals(stop.set)
        spare_the_collector()
        serving = asyncio.create_task(web.serve())
        workers = await _start_workers(folder)
        children.append(workers)
        try:
            await _watch(
                stop, serving, children, folder, core, console, _urls(settings, folder, with_sandbox, sandbox_port)
            )
        finally:
            console.print("[dim]stopping: finishing what is in flight ...[/]")
            web.should_exit = True
            for child in reversed(children):
                await child.stop(settings.shutdown_seconds + 5)
            await serving
    finally:
        for child in children:
            await child.stop(5)
        if embedded is not None:
            embedded.stop()
    console.print("stopped cleanly; nothing that was accepted is lost")
    return 0


async def _database(folder: Path, console: Console, *, with_sandbox: bool) -> Embedded | None:
    if os.environ.get("HUB_DATABASE_URL"):
        return None
    console.print("[dim]starting the embedded PostgreSQL ...[/]")
    embedded = await asyncio.to_thread(Embedded, folder / "postgres")
    choose = common.sandbox_database if with_sandbox else common.own_database
    os.environ["HUB_DATABASE_URL"] = choose(embedded, folder)
    return embedded


async def _start_sandbox(folder: Path, port: int, rate: float | None) -> common.Child:
    hub_port = read(Settings).port
    child = await common.Child.start(
        "hub sandbox",
        "sandbox",
        "--port",
        str(port),
        "--seed",
        str(secrets.randbelow(10**9)),  # other customers than last time
        "--webhook-url",
        f"http://127.0.0.1:{hub_port}/webhooks/stripe",
        "--business",
        str(rate if rate is not None else BUSINESS_RATE),
        "--duplicates",
        "0.05",
        "--disorder",
        "0.1",
        env={},
        log=folder / "sandbox.log",
    )
    url = f"http://127.0.0.1:{port}/__sandbox/"
    await common.until(lambda: common.answers(url), seconds=60, what=f"an answer from {url}", child=child)
    return child


async def _start_workers(folder: Path) -> common.Child:
    return await common.Child.start("hub work", "work", env={}, log=folder / "worker.log")


async def _watch(
    stop: asyncio.Event,
    serving: asyncio.Task[None],
    children: list[common.Child],
    folder: Path,
    core: app.Core,
    console: Console,
    head: Callable[[], Text],
) -> None:
    """Show the summary; restart workers that end; stop when told, or when the web server or the sandbox ends."""
    notes: list[str] = []
    started = time.monotonic()
    live = Live(console=console, refresh_per_second=2, transient=False) if console.is_terminal else None
    with live or contextlib.nullcontext():
        said = 0.0
        while not stop.is_set():
            if serving.done():
                serving.result()
                raise RuntimeError("the web server ended")
            for i, child in enumerate(children):
                if child.process.returncode is None:
                    continue
                if child.name != "hub work":
                    raise RuntimeError(
                        f"{child.name} ended with code {child.process.returncode}; see {folder}/sandbox.log"
                    )
                notes.append(
                    f"workers ended with code {child.process.returncode} and were started again; see worker.log"
                )
                await asyncio.sleep(1)
                children[i] = await _start_workers(folder)
            asked = time.monotonic()
            table = await _summary(core)
            took = time.monotonic() - asked
            if live:
                live.update(Group(head(), table, *(Text(n, style="yellow") for n in notes[-3:])))
            elif time.monotonic() - said >= 5 or said == 0.0:
                line = head() if said == 0.0 else Text(_line(table, time.monotonic() - started))
                console.print(line, soft_wrap=True)
                said = time.monotonic()
            with contextlib.suppress(TimeoutError):
                # It counts everything there is: in a long history that takes a while, and is then done seldom.
                await asyncio.wait_for(stop.wait(), max(1.0, min(10.0, 30 * took)))


def _urls(settings: Settings, folder: Path, with_sandbox: bool, sandbox_port: int) -> Callable[[], Text]:  # noqa: FBT001
    base = f"http://{settings.host}:{settings.port}"
    lines = [f"hub      {base}   webhooks: POST {base}/webhooks/stripe   API: {base}/api/v1/   metrics: {base}/metrics"]
    if with_sandbox:
        lines.append(f"sandbox  http://127.0.0.1:{sandbox_port}/__sandbox/   token of the API: {folder}/api_token")
    lines.append("Ctrl-C stops")
    return lambda: Text("\n".join(lines))


async def _summary(core: app.Core) -> Table:
    table = Table(title="deliveries", title_justify="left")
    for column in ("destination", "waiting", "in flight", "unknown", "held", "dead", "done", "superseded", ""):
        table.add_column(column, justify="left" if column in ("destination", "") else "right")
    try:
        rows = await core.db.fetch("summary")
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        table.add_row(f"database: {type(error).__name__}, waiting for it")
        return table
    for row in rows:
        table.add_row(
            row["name"],
            *(str(row[c]) for c in ("waiting", "claimed", "unknown", "held", "dead", "done", "superseded")),
            f"paused: {row['reason']}" if row["reason"] else "",
        )
    return table


def _line(table: Table, seconds: float) -> str:
    cells: list[list[Any]] = [list(c.cells) for c in table.columns]
    parts = [
        f"{name}: {cells[6][i]} done, {cells[7][i]} superseded, {cells[1][i]} open, {cells[5][i]} dead {cells[8][i]}"
        for i, name in enumerate(cells[0])
    ]
    return f"{seconds:5.0f} s  " + " | ".join(parts)
