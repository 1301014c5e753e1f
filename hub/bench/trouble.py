"""Does one vendor's trouble slow the other three down? NetSuite down, hanging, or at its limit, amid steady business.

On a machine whose speed changes from minute to minute a run with the fault cannot be compared with one of an hour ago.
So they take turns: a quiet window, a window with a fault, the backlog drained, and again. Each pair gives a ratio of
99th percentiles; what is judged is the median over the rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import httpx

from hub.bench.gate import Gate
from hub.bench.ground import BenchError, Ground, Say, fetch, ground, percentile, silent
from hub.bench.intake import DESTINATIONS
from hub.bench.stand import Stand, Window, confirmed, standing, window
from hub.commands import common
from hub.config import Settings

Fault = Literal["down", "hanging", "limit"]
FAULTS: tuple[Fault, ...] = ("down", "hanging", "limit")
FAULTY = "netsuite"
OTHERS = tuple(d for d in DESTINATIONS if d != FAULTY)
RATE = 20.0
"""Events a second: well below what the machine can do, so that it is not the machine that is measured."""
TIMEOUT = 1.5
"""Seconds after which a request to NetSuite counts as lost. Its own two minutes would not fit into a short window."""
WITHIN = 1.10
ROUNDS_TO_JUDGE = 3
SAMPLES_TO_JUDGE = 100
"""Below that a 99th percentile is the slowest of a handful."""
SETTINGS = {"HUB_NETSUITE_REQUEST_TIMEOUT": f"{TIMEOUT:g}", "HUB_UNKNOWN_WAIT_SECONDS": "1"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One quiet window and the one with the fault after it: milliseconds per destination, and how it ended."""

    fault: Fault
    quiet: Mapping[str, Sequence[float]]
    faulty: Mapping[str, Sequence[float]]
    recovery_s: float


async def isolation(seconds: float = 8.0, *, rounds: int = 2, rate: float = RATE, say: Say = silent) -> dict[str, Any]:
    """Windows of `seconds`; `rounds` times every fault. The whole takes about 9 times `rounds` times `seconds`.

    Raises `BenchError` if a fault did not hit, if a delivery dies, or if the backlog does not drain.
    """
    async with ground(say) as place:
        say("starting a hub and a sandbox, NetSuite behind a door ...")
        port = common.free_port()
        gate = Gate(port)
        await gate.set("open")
        env = {**SETTINGS, "HUB_NETSUITE_BASE_URL": f"http://127.0.0.1:{gate.port}/netsuite"}
        try:
            async with standing(place, business=rate, env=env, sandbox_port=port) as stand:
                await window(2.0)
                pairs = [
                    await _pair(stand, gate, fault, seconds, f"round {n + 1} of {rounds}", say)
                    for n in range(rounds)
                    for fault in FAULTS
                ]
            after = await aftermath(place)
        finally:
            await gate.close()
    return {"isolation": {"window_s": seconds, "rounds": rounds, "events_per_s": rate, **summary(pairs), **after}}


async def _pair(stand: Stand, gate: Gate, fault: Fault, seconds: float, where: str, say: Say) -> Pair:
    say(f"{where}: {seconds:g} s without a fault ...")
    quiet = await window(seconds)
    usual = (await _late(stand.place))["n"]
    calm = await confirmed(stand.place, quiet, OTHERS)
    say(f"{where}: {seconds:g} s with NetSuite {fault} ...")
    async with _trouble(stand, gate, fault):
        faulty = await window(seconds)
        # The last of the window are confirmed amid the fault too, not amid the work that its end lets loose.
        troubled = await confirmed(stand.place, faulty, OTHERS)
    ended = time.monotonic()
    say(f"{where}: the backlog drains ...")
    await confirmed(stand.place, faulty, (FAULTY,), limit=120 + 10 * seconds)
    recovery = time.monotonic() - ended
    await _must_have_hit(stand.place, faulty, fault)
    await _caught_up(stand.place, usual, 120 + 10 * seconds)
    return Pair(fault, calm, troubled, recovery)


@asynccontextmanager
async def _trouble(stand: Stand, gate: Gate, fault: Fault) -> AsyncIterator[None]:
    if fault != "limit":
        await gate.set(fault)
        try:
            yield
        finally:
            await gate.set("open")
        return
    async with httpx.AsyncClient(base_url=stand.sandbox_url, timeout=10) as client:
        asked = {"vendor": FAULTY, "match": {}, "action": {"kind": "limit"}, "times": None}
        (await client.post("/__sandbox/faults", json=asked)).raise_for_status()
        try:
            yield
        finally:
            (await client.delete("/__sandbox/faults")).raise_for_status()


async def _must_have_hit(place: Ground, faulty: Window, fault: Fault) -> None:
    """A fault that hits nothing would prove nothing."""
    (row,) = await fetch(
        place.dsn,
        """SELECT count(*) FILTER (WHERE a.outcome NOT IN ('receipt', 'lost')) AS hit,
                  count(*) FILTER (WHERE a.outcome = 'receipt' AND a.http_status IS NOT NULL) AS passed
           FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
           WHERE d.destination = $1 AND a.started_at >= $2 AND a.started_at < $3""",
        FAULTY,
        faulty.since,
        faulty.until,
    )
    if not row["hit"]:
        raise BenchError(f"NetSuite was to be {fault}, but no attempt failed meanwhile ({row['passed']} went through)")


async def _late(place: Ground) -> Mapping[str, Any]:
    """What NetSuite still has to be told of the time until two seconds ago: how many, and about the oldest."""
    text = """SELECT count(*) AS n, max(extract(epoch FROM now() - created_at))::int AS age, max(failures) AS failures,
                     count(DISTINCT lane) AS lanes
              FROM deliveries WHERE destination = $1 AND state IN ('waiting', 'claimed', 'unknown', 'held')
                AND created_at < now() - interval '2 seconds'"""
    (row,) = await fetch(place.dsn, text, FAULTY)
    return dict(row)


async def _caught_up(place: Ground, usual: int, limit: float) -> None:
    """The next quiet window begins when there is nothing left of the fault but as much as there was before it: business
    goes on, and on a busy machine a few are always two seconds old."""
    deadline = time.monotonic() + limit
    while (late := await _late(place))["n"] > usual:
        if time.monotonic() > deadline:
            raise BenchError(
                f"{late['n']} deliveries to NetSuite are still open {limit:g} s after the fault, before it there were "
                f"{usual}; the oldest is {late['age']} s old, most failures {late['failures']}, lanes {late['lanes']}"
            )
        await asyncio.sleep(0.25)


async def aftermath(place: Ground) -> dict[str, Any]:
    """What the faults cost NetSuite's deliveries: attempts, failures, share of the time budget, dead letters."""
    (row,) = await fetch(
        place.dsn,
        """SELECT max(d.failures) AS failures, count(*) FILTER (WHERE d.state = 'dead') AS dead,
                  max(extract(epoch FROM coalesce(d.settled_at, now()) - d.first_failure_at))::float8 AS spent,
                  (SELECT max(n) FROM (SELECT count(*) AS n FROM attempts a JOIN deliveries o ON o.id = a.delivery_id
                                       WHERE o.destination = $1 GROUP BY a.delivery_id) c) AS attempts
           FROM deliveries d WHERE d.destination = $1""",
        FAULTY,
    )
    if row["dead"]:
        raise BenchError(f"{row['dead']} deliveries to NetSuite are dead after the faults")
    budget = Settings.model_fields["retry_budget_days"].default * 86400
    return {
        "most_attempts": row["attempts"],
        "most_failures": row["failures"],
        "budget_used_percent": round(100 * (row["spent"] or 0.0) / budget, 4),
        "dead": row["dead"],
    }


def summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Medians per fault and destination, and the verdict."""
    ratios = {
        fault: {
            name: [_p99(p.faulty[name]) / _p99(p.quiet[name]) for p in pairs if p.fault == fault] for name in OTHERS
        }
        for fault in dict.fromkeys(p.fault for p in pairs)
    }
    medians = {fault: {name: median(rs) for name, rs in of.items()} for fault, of in ratios.items()}
    return {
        "quiet_p99_ms": {name: round(median(_p99(p.quiet[name]) for p in pairs), 1) for name in OTHERS},
        "p99_ratio": {fault: {name: round(r, 3) for name, r in of.items()} for fault, of in medians.items()},
        "recovery_s": {fault: round(max(p.recovery_s for p in pairs if p.fault == fault), 1) for fault in ratios},
        "verdict": verdict(pairs, medians),
        "curves": {fault: {name: [round(r, 4) for r in rs] for name, rs in of.items()} for fault, of in ratios.items()},
    }


def verdict(pairs: Sequence[Pair], medians: Mapping[Fault, Mapping[str, float]]) -> str:
    """`isolated`, `not isolated: ...`, or why it cannot be said: a median of fewer than three rounds, or a 99th
    percentile of fewer than a hundred samples, is a matter of chance."""
    rounds = min(sum(p.fault == fault for p in pairs) for fault in medians)
    fewest = min(len(side[name]) for p in pairs for side in (p.quiet, p.faulty) for name in OTHERS)
    if rounds < ROUNDS_TO_JUDGE or fewest < SAMPLES_TO_JUDGE:
        return (
            f"too short to judge: {rounds} rounds of at least {fewest} deliveries a destination; "
            f"{ROUNDS_TO_JUDGE} of {SAMPLES_TO_JUDGE} are needed"
        )
    slower = [
        f"{name} with NetSuite {fault}: {ratio:.2f}"
        for fault, of in medians.items()
        for name, ratio in of.items()
        if ratio > WITHIN
    ]
    return f"not isolated: {', '.join(slower)}" if slower else "isolated"


def _p99(taken: Sequence[float]) -> float:
    return percentile(list(taken), 0.99)
