"""`hub bench`: what this machine does with this code. Every figure is checked against the database before it is shown.

    ingest     webhooks acknowledged a second, and how long each takes, beside a server that stores nothing
    drain      deliveries carried out a second when the vendor takes no time
    memory     of all processes of a hub with many deliveries waiting
    calls      vendor calls per thousand events
    drafts     from a draft's last line until Stripe has the tax on it
    latency    from receipt to each destination's confirmation; whole lives of invoices a second
    growth     whether it gets slower as the history gets longer
    isolation  whether one vendor's trouble slows the others down
    nodes      what more web and worker processes bring
    soak       whether memory, connections, tables and queue stay flat

Nothing of the caller's hub is touched: each runs on a PostgreSQL of its own, in a folder that is removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from hub.bench import machine
from hub.bench.curves import draw
from hub.bench.drafts import drafts
from hub.bench.endurance import soak
from hub.bench.engine import drain
from hub.bench.footprint import memory
from hub.bench.ground import BenchError, Say, silent
from hub.bench.intake import ingest
from hub.bench.lives import latency
from hub.bench.scale import nodes
from hub.bench.trouble import isolation
from hub.bench.vendor_calls import calls

__all__ = [
    "SECONDS", "WHAT", "BenchError", "calls", "drafts", "drain", "ingest", "isolation", "latency", "memory", "nodes",
    "passed", "render", "run", "soak", "without_curves", "write",
]  # fmt: skip

WHAT = ("ingest", "drain", "memory", "calls", "drafts", "latency", "growth", "isolation", "nodes", "soak")
SECONDS = {
    "ingest": 10.0,
    "memory": 10.0,
    "drafts": 10.0,
    "latency": 20.0,
    "isolation": 8.0,
    "nodes": 5.0,
    "soak": 60.0,
}
"""How long each measures if nothing is said: `isolation` in each window, `nodes` for the acks of each form."""
SOAK_SECONDS = 1800.0
"""A soak asked for by name."""
GROWN, GROWN_ALONE = 100_000, 1_000_000
"""Events of `growth`'s long history, among all the others and asked for by name."""
ROUNDS = 2
"""Of `isolation` and `nodes`, if nothing is said: a look. To judge isolation takes three, and longer windows."""


async def run(
    what: str = "all",
    *,
    seconds: float | None = None,
    rounds: int | None = None,
    rate: float | None = None,
    customers: int = 50,
    connections: int = 64,
    deliveries: int = 20_000,
    waiting: int = 100_000,
    seed: int = 7,
    console: Console | None = None,
) -> dict[str, Any]:
    """One benchmark, or `all` of them one after the other; with a console, what is being done is shown on it.

    `seconds`: instead of `SECONDS`. `rate`: events a second of `latency`, `isolation` and `soak`, drafts of `drafts`,
    instead of their own. Raises `BenchError` for an unknown name, and when a benchmark's own checks fail.
    """
    if what not in (*WHAT, "all"):
        raise BenchError(f"there is no benchmark {what!r}; there are {', '.join(WHAT)}, and all")
    usual = SECONDS if what == "all" else SECONDS | {"soak": SOAK_SECONDS}
    offered = {} if rate is None else {"rate": rate}
    results: dict[str, Any] = {}
    for name in WHAT if what == "all" else (what,):
        share = seconds or usual.get(name, 0.0)
        with _shown(name, console) as say:
            match name:
                case "ingest":
                    results |= await ingest(share, connections, say=say)
                case "drain":
                    results |= await drain(deliveries, say=say)
                case "memory":
                    results |= await memory(waiting, share, say=say)
                case "calls":
                    results |= await calls(customers, seed, say=say)
                case "drafts":
                    results |= await drafts(share, say=say, **offered)
                case "latency":
                    results |= await latency(share, customers=customers, say=say, **offered)
                case "growth":
                    results |= await _growth(GROWN if what == "all" else GROWN_ALONE, say)
                case "isolation":
                    results |= await isolation(share, rounds=rounds or ROUNDS, say=say, **offered)
                case "nodes":
                    results |= await nodes(share, rounds=rounds or ROUNDS, say=say)
                case _:
                    results |= await soak(share, say=say, **offered)
    return results


async def _growth(large: int, say: Say) -> dict[str, Any]:
    from hub.bench.growth import growth  # up there the function would hide the module of the same name

    return await growth(large=large, say=say)


def passed(results: Mapping[str, Any]) -> bool:
    """Whether no benchmark came to the verdict "not ...". "Too short to judge" is no failure, and no pass either."""
    verdicts = [f["verdict"] for f in results.values() if isinstance(f, Mapping) and "verdict" in f]
    return not any(v.startswith("not ") for v in verdicts)


def without_curves(results: Mapping[str, Any]) -> dict[str, Any]:
    """The figures alone, for a table or a terminal."""
    return {
        name: {k: v for k, v in figures.items() if k != "curves"} if isinstance(figures, Mapping) else figures
        for name, figures in results.items()
    }


def write(results: Mapping[str, Any], folder: Path, now: datetime) -> list[Path]:
    """`bench.json` with everything, the machine included, and an SVG for each benchmark that has curves."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.json"
    whole = {"machine": machine.facts(now), **results}
    path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")
    return [path, *draw(results, folder)]


@contextlib.contextmanager
def _shown(name: str, console: Console | None) -> Iterator[Say]:
    if console is None:
        yield silent
        return
    with console.status(name) as status:
        yield lambda text: status.update(f"[bold]{name}[/] {text}")


_UNITS = {"_per_s": "/s", "_ms": "ms", "_mb": "MB", "_us": "µs", "_us_per_ack": "µs", "_us_per_delivery": "µs"}


def render(results: dict[str, Any]) -> Table:
    """A table of everything in `results` but the curves, one figure a row."""
    table = Table("benchmark", "figure", title="hub bench", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("unit")
    for bench, figures in without_curves(results).items():
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
            yield prefix + name, ", ".join(f"{v:,}" if isinstance(v, int | float) else str(v) for v in value)
        else:
            yield prefix + name, f"{value:,}" if isinstance(value, int | float) else str(value)
