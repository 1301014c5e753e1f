"""`hub bench`: what this machine does with this code. Every figure is checked against the database before it is shown.

    ingest   webhooks acknowledged a second, and how long each takes, beside a server that stores nothing
    drain    deliveries carried out a second when the vendor takes no time
    memory   of all processes of a hub with many deliveries waiting
    calls    vendor calls per thousand events

Nothing of the caller's hub is touched: each runs on a PostgreSQL of its own, in a folder that is removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from hub.bench.engine import drain
from hub.bench.footprint import memory
from hub.bench.ground import BenchError, Say, silent
from hub.bench.intake import ingest
from hub.bench.vendor_calls import calls

__all__ = ["WHAT", "BenchError", "calls", "drain", "ingest", "memory", "render", "run"]

WHAT = ("ingest", "drain", "memory", "calls")


async def run(
    what: str = "all",
    *,
    seconds: float = 10.0,
    customers: int = 50,
    connections: int = 64,
    deliveries: int = 20_000,
    waiting: int = 100_000,
    seed: int = 7,
    console: Console | None = None,
) -> dict[str, Any]:
    """One benchmark, or `all` of them one after the other; with a console, what is being done is shown on it.

    Raises `BenchError` for an unknown name, and when a benchmark's own checks fail.
    """
    if what not in (*WHAT, "all"):
        raise BenchError(f"there is no benchmark {what!r}; there are {', '.join(WHAT)}, and all")
    results: dict[str, Any] = {}
    for name in WHAT if what == "all" else (what,):
        with _shown(name, console) as say:
            match name:
                case "ingest":
                    results |= await ingest(seconds, connections, say=say)
                case "drain":
                    results |= await drain(deliveries, say=say)
                case "memory":
                    results |= await memory(waiting, seconds, say=say)
                case _:
                    results |= await calls(customers, seed, say=say)
    return results


@contextlib.contextmanager
def _shown(name: str, console: Console | None) -> Iterator[Say]:
    if console is None:
        yield silent
        return
    with console.status(name) as status:
        yield lambda text: status.update(f"[bold]{name}[/] {text}")


_UNITS = {"_per_s": "/s", "_ms": "ms", "_mb": "MB", "_us": "µs", "_us_per_ack": "µs", "_us_per_delivery": "µs"}


def render(results: dict[str, Any]) -> Table:
    """A table of everything in `results`, one figure a row."""
    table = Table("benchmark", "figure", title="hub bench", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("unit")
    for bench, figures in results.items():
        shown = bench
        for name, value in _flat(figures):
            unit = next((u for end, u in _UNITS.items() if name.endswith(end)), "")
            if bench == "calls_per_1000_events":
                unit = "calls per 1000 events"
            table.add_row(shown, name, value, unit)
            shown = ""
        table.add_section()
    return table


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            yield prefix + name, ", ".join(f"{v:,}" for v in value)
        else:
            yield prefix + name, f"{value:,}" if isinstance(value, int | float) else str(value)
