"""The command line: `hub <command> --help`. Thin: each command reads settings, calls one function and shows the result.

Exit codes: 0 good; 1 the answer is no (differences found, a check failed); 2 the command could not be carried out.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from hub.errors import ConfigError, HubError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its traceback shows local variables, and some of them are secrets
    rich_markup_mode="rich",
    help="Stripe tells it what happened; it makes Salesforce, NetSuite, AvaTax and the lake agree.",
)
out = Console(width=None if sys.stdout.isatty() else 240)  # into a file or a pipe: one line a row
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Entry point: errors of ours become one clear message, never a traceback."""
    try:
        app()
    except ConfigError as error:
        err.print("[red]These settings cannot work:[/]")
        for problem in error.problems:
            err.print(f"  - {problem}", markup=False, soft_wrap=True)
        err.print("`hub config` lists every setting with its meaning.", markup=False)
        raise SystemExit(2) from None
    except HubError as error:
        _give_up(str(error))
    except _of_the_database() as error:
        _give_up(f"{type(error).__name__}: {error}. Is the database running, and is HUB_DATABASE_URL right?")
    except (OSError, TimeoutError, RuntimeError) as error:
        _give_up(f"{type(error).__name__}: {error}")


def _of_the_database() -> tuple[type[Exception], ...]:
    """asyncpg's own errors; imported only when something was raised."""
    import asyncpg

    return asyncpg.PostgresError, asyncpg.InterfaceError


def _give_up(message: str) -> NoReturn:
    err.print(message, style="red", markup=False, soft_wrap=True)
    raise SystemExit(2)


def _print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode() + "\n")


@app.command()
def up(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Also start the five vendors and a stream of business.")
    ] = False,
    sandbox_port: Annotated[int, typer.Option(help="Port of the sandbox on loopback.")] = 9700,
    business: Annotated[float | None, typer.Option(help="Events of sandbox business a second.")] = None,
) -> None:
    """Everything on one machine: database, web server, workers, and a live summary. Ctrl-C stops."""
    from hub.commands import common
    from hub.commands.up import up as run_up

    raise SystemExit(
        common.run(
            run_up,
            with_sandbox=sandbox,
            sandbox_port=sandbox_port,
            console=Console(stderr=False),
            events_per_second=business,
        )
    )


@app.command()
def serve() -> None:
    """The web process: webhooks, API, health, metrics. Needs `hub migrate` first."""
    _process("serve", serving=True)


@app.command()
def work() -> None:
    """The worker process: delivers to every destination. Run as many as you like."""
    _process("work", serving=False)


def _process(name: str, *, serving: bool) -> None:
    from hub import app as root
    from hub.commands import common, processes

    settings, stripe = root.read_settings(serving=serving)
    dsn, embedded = common.database(settings)
    try:
        common.run(getattr(processes, name), settings, stripe, dsn)
    finally:
        if embedded:
            embedded.stop()


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9700,
    seed: Annotated[int, typer.Option(help="Ids and choices are drawn from it.")] = 7,
    webhook_url: Annotated[str | None, typer.Option(help="Where Stripe's webhooks go.")] = None,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks sent twice.")] = 0.0,
    disorder: Annotated[float, typer.Option(min=0, max=1, help="Share of webhooks overtaken by later ones.")] = 0.0,
    business: Annotated[float | None, typer.Option(help="Events of made-up business a second.")] = None,
) -> None:
    """Five vendors on loopback, strict, with a side door at /__sandbox/ for state, requests and faults."""
    from connectors.sandbox.environment import environment
    from hub.commands import common, processes

    url = f"http://{host}:{port}"
    secret = environment(url)["HUB_STRIPE_WEBHOOK_SECRETS"].split(",")[0]
    out.print(
        f"sandbox at {url}; side door {url}/__sandbox/; point a hub at it with HUB_SANDBOX_URL={url}", soft_wrap=True
    )
    common.run(
        processes.sandbox,
        host=host,
        port=port,
        seed=seed,
        webhook_url=webhook_url,
        secret=secret,
        duplicates=duplicates,
        disorder=disorder,
        business=business,
    )


@app.command()
def migrate(quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing if all is well.")] = False) -> None:
    """Bring the database schema up to date, under a lock."""
    from hub import migrate as migration
    from hub.commands import common
    from hub.config import Settings, read

    dsn, embedded = common.database(read(Settings))
    try:
        reached = asyncio.run(migration.migrate(dsn))
    finally:
        if embedded:
            embedded.stop()
    if not quiet:
        out.print(f"the schema is at {reached}")


@app.command()
def check(
    connect: Annotated[
        bool, typer.Option("--connect", help="Also log in at every vendor with one cheap call.")
    ] = False,
    json: Json = False,
) -> None:
    """Settings, mappings and their examples; with --connect also addresses and credentials."""
    from hub.commands.check import check as run_check

    results = run_check(connect=connect)
    if json:
        _print_json([r.shown() for r in results])
    else:
        table = Table("what", "", "details")
        for r in results:
            table.add_row(r.what, "[green]ok[/]" if r.ok else "[red]problem[/]", r.detail)
        out.print(table)
    raise SystemExit(0 if all(r.ok for r in results) else 1)


@app.command()
def sweep(json: Json = False) -> None:
    """Compare Stripe's list of events with what was received, and accept what is missing. Exit 1: a gap is left."""
    from hub import app as root
    from hub.commands import common
    from hub.commands import sweep as command

    settings, stripe = root.read_settings(serving=False)
    dsn, embedded = common.database(settings)
    try:
        swept = common.run(command.sweep, settings, stripe, dsn, None if json else err)
    finally:
        if embedded:
            embedded.stop()
    if json:
        _print_json(command.shown(swept))
    else:
        out.print(swept.said(), markup=False, soft_wrap=True)
        if swept.note:
            err.print(swept.note, style="red" if swept.gap else "yellow", markup=False, soft_wrap=True)
    raise SystemExit(1 if swept.gap or swept.unreadable else 0)


@app.command()
def backfill(
    since: Annotated[
        str | None, typer.Option(help="A day or moment, UTC: older invoices only if they were not final.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List and compare only; accept nothing.")] = False,
    json: Json = False,
) -> None:
    """Bring in Stripe's objects as they are now, where events are lost for good. Exit 1: it is not complete."""
    from hub import app as root
    from hub.commands import backfill as command
    from hub.commands import common

    beginning = command.moment(since)
    settings, stripe = root.read_settings(serving=False)
    dsn, embedded = common.database(settings)
    try:
        done = common.run(command.backfill, settings, stripe, dsn, beginning, err, dry_run=dry_run)
    finally:
        if embedded:
            embedded.stop()
    if json:
        _print_json(command.shown(done))
    else:
        out.print(command.table(done))
        out.print(done.said(), markup=False, soft_wrap=True)
        if done.note:
            err.print(done.note, style="red", markup=False, soft_wrap=True)
    raise SystemExit(0 if done.complete or (done.dry_run and done.note is None) else 1)


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove settled history that is older than HUB_RETENTION_DAYS, in small steps; `hub work` does it every hour."""
    from hub.commands import common
    from hub.commands import prune as command
    from hub.config import Settings, read

    settings = read(Settings)
    dsn, embedded = common.database(settings)
    try:
        pruned = common.run(command.prune, settings, dsn, None if json else err, dry_run=dry_run)
    finally:
        if embedded:
            embedded.stop()
    if json:
        _print_json(command.shown(pruned))
    else:
        out.print(pruned.said(), markup=False, soft_wrap=True)


@app.command()
def config(json: Json = False) -> None:
    """Every setting: name, type, default, what it does, and whether it is set. Secrets are never shown."""
    from hub.commands.check import settings_table

    rows = settings_table()
    if json:
        _print_json(rows)
        return
    table = Table("setting", "type", "default", "set", "meaning")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row["name"], row["type"], row["default"], row["value"] or "", row["help"])
    out.print(table)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Run to the end, tie out, exit.")] = False,
    customers: Annotated[int, typer.Option(min=1, help="How many customers' lives.")] = 50,
    seed: Annotated[int, typer.Option(help="Everything made up is drawn from it.")] = 7,
    lost_replies: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of vendor writes whose reply is lost after they were applied.")
    ] = 0.0,
    json: Json = False,
) -> None:
    """Customers' lives through the hub into four sandbox systems, then the proof that all agree. Exit 1: they do
    not.
    """
    from hub.commands import common
    from hub.commands.demo import Options, passed
    from hub.commands.demo import demo as run_demo

    if not once:
        raise typer.BadParameter("use --once; for a steady stream run `hub up --sandbox`", param_hint="--once")
    options = Options(customers, seed, lost_replies)
    result, tie = common.run(run_demo, options, err, quiet=json or not err.is_terminal)
    good = passed(result, tie)
    if json:
        _print_json(result)
    else:
        _show_demo(result, good)
    for difference in [*result["dead_letters"], *tie.amounts, *tie.statuses, *tie.money.all()][:50]:
        err.print(difference, markup=False, soft_wrap=True)
    raise SystemExit(0 if good else 1)


def _counts(counts: dict[str, Any]) -> str:
    """How much each system has; where it is so, currency by currency."""
    if any(isinstance(n, dict) for n in counts.values()):
        return "; ".join(f"{currency}: {_counts(systems)}" for currency, systems in counts.items())
    return ", ".join(f"{system} {n}" for system, n in counts.items())


def _show_demo(result: dict[str, Any], good: bool) -> None:  # noqa: FBT001
    table = Table("destination", "done", "superseded", "dead", title="deliveries", title_justify="left")
    for name, states in result["deliveries"].items():
        table.add_row(name, *(str(states[s]) for s in ("done", "superseded", "dead")))
    out.print(table)
    tie = result["tie_out"]
    invoices = ", ".join(f"{k} {v}" for k, v in tie["invoices"].items())
    out.print(f"{result['events']} events, {result['duplicates_sent']} sent twice, {result['seconds']} s")
    out.print(f"invoices: {invoices}")
    out.print(result["reconcile"]["said"], markup=False)
    out.print(f"differences: {tie['amount_differences']} in amount, {tie['status_differences']} in status")
    for kind, wrong in tie["differences"].items():
        out.print(f"{kind.replace('_', ' ')}: {_counts(tie.get(kind, {}))}, differences {wrong}")
    out.print(f"lake: {tie['lake_events']} events, {tie['lake_duplicates']} duplicates")
    out.print("[green]all systems agree[/]" if good else "[red]the systems do not agree[/]")


@app.command()
def bench(
    what: Annotated[
        str,
        typer.Argument(help="ingest, drain, memory, calls, drafts, latency, growth, isolation, nodes, soak, or all."),
    ] = "all",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="How long each load is offered; isolation: each window. Default: 5 to 60 as it needs; "
            "`hub bench soak`: 1800.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="isolation, nodes: how often each form has its turn. Default: 2.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="drafts, latency, isolation, soak: events (drafts) a second. soak's default: half of the most.",
        ),
    ] = None,
    customers: Annotated[int, typer.Option(min=1, help="calls, latency: how many customers' lives.")] = 50,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Also write bench.json and the curves as SVG into this folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure this machine. All of it takes its time, and says what it is at. Exit 1: a verdict is no."""
    module: Any = importlib.import_module("hub.bench")
    from hub.commands import common

    results = common.run(
        module.run, what, seconds=seconds, rounds=rounds, rate=rate, customers=customers,
        console=None if json else err,
    )  # fmt: skip
    if out_folder is not None:
        for path in module.write(results, out_folder, datetime.now(UTC)):
            err.print(f"written: {path}", markup=False, soft_wrap=True)
    if json:
        _print_json(module.without_curves(results))
    else:
        out.print(module.render(results))
    raise SystemExit(0 if module.passed(results) else 1)


def _register_looking() -> None:
    from hub.commands import look, netsuite, proof, tax

    look.register(app)
    netsuite.register(app)
    proof.register(app)
    tax.register(app)


_register_looking()

if __name__ == "__main__":
    main()
