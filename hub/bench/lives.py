"""How long from a webhook's receipt until each destination has confirmed it, and how many invoices' whole lives go
through everything in a second.

The second figure is the demo's own run (`hub demo`): customers' lives through four simulators, tied out at the end; but
on a durable database, with tax as Stripe has it, timed from the first event received to the last delivery settled.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from hub.bench.ground import BenchError, Ground, Say, ask, fetch, ground, silent
from hub.bench.stand import LINGER, confirmed, curve, quantiles, standing, window
from hub.commands import common, demo
from hub.config import Settings

RATE = 50.0
WARM = 3.0


async def latency(
    seconds: float = 20.0, *, rate: float = RATE, customers: int = 30, say: Say = silent
) -> dict[str, Any]:
    """Offer `rate` made-up events a second for `seconds`, then run `customers` whole lives as fast as they go.

    The lake's time includes its linger, Salesforce's the coalescing; both are reported beside it. Raises `BenchError`
    if a delivery dies or does not end, or if the systems do not agree at the end of the lives.
    """
    async with ground(say) as place:
        say("starting a hub and a sandbox ...")
        async with standing(place, business=rate, env={}, sandbox_port=common.free_port()):
            say(f"{rate:g} events a second for {seconds:g} s ...")
            await window(WARM)
            over = await window(seconds)
            say("waiting for the last confirmation ...")
            taken = await confirmed(place, over)
        (row,) = await fetch(
            place.dsn,
            "SELECT count(*) AS n FROM events WHERE received_at >= $1 AND received_at < $2 AND kind <> 'read'",
            over.since,
            over.until,
        )
    return {
        "latency": {
            "asked_events_per_s": rate,
            "offered_events_per_s": round(row["n"] / (over.until - over.since).total_seconds(), 1),
            **{name: {**quantiles(values), "deliveries": len(values)} for name, values in taken.items()},
            "lake_linger_s": LINGER,
            "coalesce_s": Settings.model_fields["coalesce_seconds"].default,
            "end_to_end": await end_to_end(customers, say=say),
            "curves": {name: curve(values) for name, values in taken.items()},
        }
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """Customers' lives for the child process (`python -m hub.bench lives`)."""

    dsn: str
    folder: str
    customers: int
    seed: int = 7


async def end_to_end(customers: int, *, say: Say = silent) -> dict[str, Any]:
    """Whole lives of invoices a second at saturation: vendors, hub, workers and database all on this machine."""
    async with ground(say) as place:
        say(f"{customers} customers' lives, as fast as they go ...")
        plan = orjson.dumps(asdict(Plan(place.dsn, str(place.folder), customers))).decode()
        result = await ask("hub.bench", "lives", plan, env={}, folder=place.folder, seconds=1800)
        if not result["agrees"]:
            raise BenchError("the systems do not agree after the lives: run `hub demo --once` to see the differences")
        return {**await lived(place, result["invoices"]), "customers": customers}


async def lived(place: Ground, invoices: int) -> dict[str, Any]:
    """The rates, from what the database says began first and ended last."""
    (row,) = await fetch(
        place.dsn,
        """SELECT extract(epoch FROM (SELECT max(settled_at) FROM deliveries)
                                   - (SELECT min(received_at) FROM events))::float8 AS seconds,
                  (SELECT count(*) FROM events WHERE kind <> 'read') AS events,
                  (SELECT count(*) FROM deliveries) AS deliveries""",
    )
    return {
        "invoice_lives_per_s": round(invoices / row["seconds"], 2),
        "deliveries_per_s": round(row["deliveries"] / row["seconds"], 1),
        "events_per_s": round(row["events"] / row["seconds"], 1),
        "invoices": invoices,
    }


async def live(plan: Plan) -> dict[str, Any]:
    """In the child: the demo's run on the given database."""
    options = demo.Options(plan.customers, plan.seed, 0.0, calculate=False)  # nobody waits for the hub in between
    result, tie = await demo.through(options, plan.dsn, Path(plan.folder), time.monotonic(), lambda _text: None)
    return {"agrees": demo.passed(result, tie), "invoices": tie.invoices["stripe"]}
