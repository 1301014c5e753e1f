"""How many signed webhooks a second become durable events with four deliveries each, and how long Stripe waits for it.

Three processes beside PostgreSQL, as in life: the real `hub serve`, a load generator, and, in turns with the hub so
that both see the same machine, a bare server that stores nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import orjson
import psutil

from hub.bench.ground import BenchError, Ground, Say, ask, child, end_of, fetch, ground, percentile, ready, silent
from hub.bench.load import MOST_PREPARED, Plan
from hub.bench.usage import cpu_seconds, postmaster
from hub.commands import common

DESTINATIONS = ("salesforce", "netsuite", "avalara", "s3_lake")
OFFERED = 500.0
"""Requests a second of the second measurement: a busy day, far from the limit."""
SHARES = (0.25, 0.5, 0.75, 0.9)
"""Of the most that was acknowledged: the points of the curve of latency over offered rate."""


async def ingest(
    seconds: float = 10.0, connections: int = 64, *, rounds: int = 3, warm: float = 2.0, say: Say = silent
) -> dict[str, Any]:
    """Measure for `seconds` in all with `connections` kept busy, then for as long at 500 requests a second.

    `acks_per_s`, `bare_asgi_per_s` and `ratio_to_bare` are medians over the rounds, latencies are over all requests of
    all rounds. The `cpu` figures are processor time per request: of `hub serve`, PostgreSQL and the load generator per
    ack, of the bare server and the load generator per bare answer; `cores_busy` is all of it over the clock on the
    wall. Where `cores_busy` is what the machine has, the ratio of the two rates is the inverse ratio of the two sums.
    Last come shares of the rate that was found, each offered for a tenth of `seconds`: latency over offered rate.
    Raises `BenchError` if any answer is not 200, or if the database does not hold exactly what was acknowledged.
    """
    async with ground(say) as place:
        secret = f"whsec_{secrets.token_hex(16)}"
        async with (
            server(place, secret, "serve", "hub.cli", "serve") as hub,
            server(place, secret, "bare", "hub.bench", "bare") as bare,
        ):
            acks, latencies, ours, theirs = 0, [], [], []
            share = seconds / rounds
            cost = Cost({"hub": hub.process, "postgres": postmaster(place.folder / "postgres")})
            bare_cost = Cost({"server": bare.process})
            for n in range(rounds):
                say(f"round {n + 1} of {rounds}: {connections} connections, as fast as the hub goes ...")
                plan = Plan(hub.port, f"r{n}x", share, warm, connections, prepare=_prepared(share + warm))
                found = await cost.of(offer(place, secret, plan))
                acks += found["acks"]
                ours.append(found["per_s"])
                latencies += found["latencies_us"]
                say(f"round {n + 1} of {rounds}: the same against a server that stores nothing ...")
                plan = Plan(bare.port, f"b{n}x", share, min(warm, 1.0), connections, prepare=5000, again=True)
                theirs.append((await bare_cost.of(offer(place, secret, plan)))["per_s"])
            say(f"{OFFERED:g} requests a second ...")
            plan = Plan(
                hub.port, "open", seconds, warm, connections, OFFERED, prepare=_prepared(seconds + warm, OFFERED)
            )
            offered = await offer(place, secret, plan)
            acks += offered["acks"]
            over_rate = []
            for share_of_most in SHARES:
                rate = round(median(ours) * share_of_most)
                say(f"{rate} requests a second ...")
                stretch = max(0.2, seconds / 10)
                plan = Plan(
                    hub.port, f"c{rate}x", stretch, 0.2, connections, rate, prepare=_prepared(stretch + 0.2, rate)
                )
                found = await offer(place, secret, plan)
                acks += found["acks"]
                over_rate.append([rate, *_latencies(found["latencies_us"]).values()])
            kept = await check(place, acks)
        return {
            "ingest": {
                "acks_per_s": round(median(ours)),
                **_latencies(latencies),
                "offered_500": {"per_s": round(offered["per_s"]), **_latencies(offered["latencies_us"])},
                "bare_asgi_per_s": round(median(theirs)),
                "ratio_to_bare": round(median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
                **cost.per("ack"),
                **bare_cost.per("bare_answer"),
                "rounds_acks_per_s": [round(r) for r in ours],
                "connections": connections,
                "acks": acks,
                **kept,
                "fdatasync_ms": place.fdatasync_ms,
                "curves": {"rate_p50_p99": over_rate},
            }
        }


class Cost:
    """Processor time of some processes and of the load generator, per request, over several runs."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self._used = dict.fromkeys([*processes, "load"], 0.0)
        self._requests, self._elapsed = 0, 0.0

    async def of(self, run: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """Await what the load generator found, and add what it took (without its start and making the requests)."""
        before = {name: cpu_seconds(process) for name, process in self._processes.items()}
        found = await run
        for name, process in self._processes.items():
            self._used[name] += cpu_seconds(process) - before[name]
        self._used["load"] += found["cpu_seconds"]
        self._requests += found["acks"]
        self._elapsed += found["elapsed_s"]
        return found

    def per(self, what: str) -> dict[str, float]:
        """Microseconds each per request, and how many cores were busy with it."""
        found: dict[str, float] = {
            f"{name}_cpu_us_per_{what}": round(total / self._requests * 1e6) for name, total in self._used.items()
        }
        return {**found, f"cores_busy_{what}": round(sum(self._used.values()) / self._elapsed, 2)}


def _prepared(seconds: float, rate: float = 6000.0) -> int:
    return min(MOST_PREPARED, int(seconds * rate) + 100)


def _latencies(microseconds: list[float]) -> dict[str, float]:
    if not microseconds:
        raise BenchError("nothing was answered while the clock ran")
    return {f"p{p}_ms": round(percentile(microseconds, p / 100) / 1000, 2) for p in (50, 99)}


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and what to measure."""

    port: int
    process: psutil.Process


@asynccontextmanager
async def server(place: Ground, secret: str, name: str, *command: str) -> AsyncIterator[Server]:
    """`hub serve`, or the bare server, in a child process."""
    port = common.free_port()
    env = {
        "HUB_DATABASE_URL": place.dsn,
        "HUB_PORT": str(port),
        "HUB_API_TOKEN": secrets.token_hex(16),
        "HUB_STRIPE_API_KEY": "sk_test_bench",
        "HUB_STRIPE_WEBHOOK_SECRETS": secret,
        "HUB_DESTINATIONS": ",".join(DESTINATIONS),
    }
    async with child(name, *command, env=env, folder=place.folder) as process:
        await ready(f"http://127.0.0.1:{port}/readyz", process, place.folder / f"{name}.log")
        yield Server(port, psutil.Process(process.pid))


async def offer(place: Ground, secret: str, plan: Plan) -> dict[str, Any]:
    """Run the load generator. Raises `BenchError` if anything but 200 was answered."""
    found = await ask(
        "hub.bench",
        "load",
        orjson.dumps(asdict(plan)).decode(),
        env={"HUB_STRIPE_WEBHOOK_SECRETS": secret},
        folder=place.folder,
        seconds=plan.warm + plan.seconds + 120,
    )
    if found["trouble"]:
        log = place.folder / ("bare.log" if plan.again else "serve.log")
        raise BenchError(f"under load ({plan.run}): {found['trouble']}; the server's log ends: {end_of(log)}")
    return found


async def check(place: Ground, acks: int) -> dict[str, int]:
    """What was acknowledged is stored, each with a delivery per destination: else the figures are of something else."""
    (row,) = await fetch(
        place.dsn,
        """SELECT (SELECT count(*) FROM events) AS events, count(*) AS deliveries,
                  count(DISTINCT event_seq) AS of_events,
                  coalesce(array_agg(DISTINCT destination), '{}') AS destinations
           FROM deliveries""",
    )
    if row["events"] != acks or row["of_events"] != acks:
        raise BenchError(
            f"{acks} events were acknowledged, {row['events']} are stored, {row['of_events']} of them routed"
        )
    if set(row["destinations"]) != set(DESTINATIONS) or row["deliveries"] != len(DESTINATIONS) * acks:
        raise BenchError(f"{row['deliveries']} deliveries for {acks} events to {sorted(row['destinations'])}")
    return {"events_stored": row["events"], "deliveries_stored": row["deliveries"]}
