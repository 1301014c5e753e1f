"""Missed webhooks: the Stripe simulator's own list over HTTP, a real database, and a hub that missed some."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from connectors.stripe.listing import elements
from connectors.stripe.sandbox_env import environment
from connectors.stripe.settings import StripeSettings
from connectors.stripe.simulator import StripeSimulator
from connectors.stripe.source import StripeSource
from hub import app, envelope, metrics, store, sweep
from hub.config import Settings
from hub.db import Database
from hub.errors import OutcomeError
from hub.mapping import FOLDER, load
from hub.routing import Router
from hub.sweep import Sweeper, SweepRunningError, Swept
from hub.worker import Workers
from tests.conftest import Clock
from tests.serving import served

START = 1_793_620_800  # 2026-11-02 12:00 UTC
DAY = 86400
ROUTER = Router(
    {"crm": "state", "lake": "log"}, {"customer.created": frozenset({"crm"})}, frozenset(), livemode=False, coalesce=0
)


@dataclass
class Town:
    """Stripe, what it said, and a hub's sweeper; all on Stripe's business time."""

    stripe: StripeSimulator
    source: StripeSource
    db: Database
    clock: Clock
    heard: list[dict[str, Any]] = field(default_factory=list)
    instruments: metrics.Metrics = field(default_factory=metrics.create)

    def customers(self, count: int) -> list[dict[str, Any]]:
        """Sign customers up; returns their events."""
        before = len(self.heard)
        for number in range(count):
            self.stripe.call("POST", "/v1/customers", {"name": f"Customer {number}"})
        assert len(self.heard) == before + count
        return self.heard[before:]

    def advance(self, seconds: int) -> None:
        self.stripe.advance(seconds)
        self.clock.now = float(self.stripe.now)

    async def webhooks(self, events: list[dict[str, Any]]) -> None:
        now = datetime.fromtimestamp(self.clock(), UTC)
        items = [ROUTER.decide(envelope.read(orjson.dumps(e), now), now) for e in events]
        await self.db.run(store.accept, items, now)

    def sweeper(self, **changes: Any) -> Sweeper:
        given: dict[str, Any] = {"overlap": timedelta(hours=1), "first": timedelta(hours=72)} | changes
        return Sweeper(self.db, self.source, ROUTER, self.instruments, self.clock, **given)

    async def sweep(self, **changes: Any) -> Swept:
        swept = await self.sweeper(**changes).sweep()
        assert swept is not None
        return swept

    async def stored(self) -> list[str]:
        return [r["id"] for r in await self.db.fetch_text("SELECT id FROM events ORDER BY seq")]

    async def rows(self) -> list[dict[str, Any]]:
        return [dict(r) for r in await self.db.fetch_text("SELECT * FROM sweeps ORDER BY id")]

    async def deliveries(self) -> Counter[tuple[str, str]]:
        text = "SELECT e.id, d.destination FROM deliveries d JOIN events e ON e.seq = d.event_seq"
        return Counter((r["id"], r["destination"]) for r in await self.db.fetch_text(text))


@pytest.fixture
async def town(db: Database, monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = Clock(float(START))
    stripe = StripeSimulator(seed=7, clock=clock, start=START)
    with served(stripe.app) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        source = StripeSource(StripeSettings(rate=100.0))
        found = Town(stripe, source, db, clock)
        stripe.listen(lambda event: found.heard.append(orjson.loads(orjson.dumps(event))))
        yield found
        await source.close()


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [e["id"] for e in events]


def at(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


async def test_exactly_what_is_missing_is_accepted(town: Town) -> None:
    events = town.customers(9)
    products = [town.stripe.call("POST", "/v1/products", {"name": "Plan"}) and town.heard[-1]]
    came = events[1::3]
    await town.webhooks(came)
    town.advance(120)
    swept = await town.sweep()
    lost = [e for e in events if e not in came] + products
    assert (swept.listed, swept.missing) == (10, 7)
    assert swept.by_disposition == {"routed": 6, "unmapped": 1}
    assert swept.said() == "complete up to 2026-11-02T12:01:00Z: listed 10, missing 7 accepted"
    assert await town.stored() == ids(came) + ids(lost), "oldest first"
    wanted = Counter({(id_, "lake"): 1 for id_ in ids(events + products)})
    assert await town.deliveries() == wanted + Counter({(id_, "crm"): 1 for id_ in ids(events)})
    assert town.instruments.registry.get_sample_value("hub_sweep_missing_total", {"disposition": "routed"}) == 6
    (row,) = await town.rows()
    assert (row["from_at"], row["to_at"]) == (at(START + 120 - 72 * 3600), at(START + 60))
    assert (row["listed"], row["missing"], row["note"], row["finished_at"]) == (10, 7, None, at(START + 120))


async def test_it_is_accepted_as_a_webhook_would_have_been(town: Town) -> None:
    (event,) = town.customers(1)
    town.advance(120)
    await town.sweep()
    (kept,) = await town.db.fetch_text("SELECT * FROM events")
    now = at(START + 120)
    same = ROUTER.decide(envelope.read(orjson.dumps(event), now), now)
    for name in ("kind", "type", "account", "api_version", "livemode", "object_type", "object_id", "customer_id"):
        assert kept[name] == getattr(same.event, name), name
    assert (kept["created"], kept["rank"], kept["received_at"]) == (at(START), same.event.rank, now)
    assert (kept["disposition"], orjson.loads(kept["body"])) == ("routed", event)


async def test_overlap_repeats_change_nothing_and_bring_what_showed_late(town: Town) -> None:
    first = town.customers(5)
    town.advance(120)
    await town.sweep()
    before = await town.deliveries()
    again = await town.sweep()
    assert (again.listed, again.missing, again.from_at) == (5, 0, at(START + 60 - 3600))
    assert await town.deliveries() == before
    assert await town.stored() == ids(first)
    town.advance(1800)
    await town.db.fetch_text("DELETE FROM deliveries")
    await town.db.fetch_text("DELETE FROM events WHERE id = $1", first[2]["id"])
    late = await town.sweep()
    assert (late.listed, late.missing) == (5, 1), "what became visible behind the watermark, within the overlap"
    town.advance(7200)
    assert (await town.sweep()).missing == 0
    assert (await town.sweep()).listed == 0, "nothing happened in the last hour before the watermark"
    assert (await town.sweep(overlap=timedelta(days=1))).missing == 0


async def test_what_has_just_happened_is_left_to_the_next_sweep(town: Town) -> None:
    town.customers(1)
    town.advance(60)
    assert (await town.sweep()).listed == 0, "happened in the very second in which this sweep ends"
    town.advance(1)
    assert (await town.sweep(overlap=timedelta(0))).missing == 1, "where one sweep ends the next begins"


async def test_many_pages_and_windows(town: Town) -> None:
    for _ in range(3):
        town.customers(130)
        town.advance(5 * 3600)
    calls: list[tuple[int, int]] = []
    swept = await town.sweeper().sweep(lambda so_far: calls.append((so_far.listed, so_far.missing)))
    assert swept is not None
    assert (swept.listed, swept.missing) == (390, 390)
    assert len(calls) > 10
    assert calls == sorted(calls)
    assert await town.stored() == ids(town.heard)
    (row,) = await town.rows()
    assert (row["listed"], row["missing"]) == (390, 390)


async def test_the_first_sweep_looks_back_so_far_and_no_further(town: Town) -> None:
    old = town.customers(2)
    town.advance(10 * DAY)
    new = town.customers(3)
    town.advance(3600)
    assert (await town.sweep()).missing == 3
    assert await town.stored() == ids(new)
    assert old


async def test_a_gap_beyond_thirty_days_is_said_loudly(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    town.customers(1)
    town.advance(120)
    await town.sweep()
    lost = town.customers(2)
    town.advance(5 * DAY)
    there = town.customers(3)
    town.advance(28 * DAY)
    swept = await town.sweep()
    now = START + 120 + 33 * DAY
    assert swept.gap == (at(START + 60), at(now - 30 * DAY))
    assert swept.from_at == at(now - 30 * DAY)
    assert swept.missing == 3
    stored = await town.stored()
    assert set(ids(there)) <= set(stored)
    assert not set(ids(lost)) & set(stored)
    note = (await town.rows())[-1]["note"]
    assert note == swept.note
    assert "from 2026-11-02T12:01:00Z until 2026-11-05T12:02:00Z" in note
    assert "backfill" in note
    assert "sweep_gap" in "".join(capsys.readouterr())
    after = await town.sweep()
    assert (after.gap, after.missing) == (swept.gap, 0), "again and again, until a backfill has closed it"
    assert after.note == note
    assert [row["gap_from"] for row in await town.rows()] == [None, at(START + 60), None], "one gap, not two"


async def test_two_at_once_one_runs(town: Town) -> None:
    town.customers(4)
    town.advance(120)
    results = await asyncio.gather(*(town.sweeper().sweep() for _ in range(2)), return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["SweepRunningError", "Swept"]
    assert len(await town.rows()) == 1
    holder = await asyncpg.connect(town.db.dsn)
    try:
        await holder.execute("SELECT pg_advisory_lock($1)", sweep.LOCK)
        with pytest.raises(SweepRunningError):
            await town.sweep()
    finally:
        await holder.close()
    assert (await town.sweep()).missing == 0, "the lock went with its holder"


async def test_cut_short_it_goes_on_where_it_was(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    early = town.customers(2)
    town.advance(12 * 3600)
    late = town.customers(2)
    town.advance(3600)

    class Breaks:
        """Stripe's list, until the line is cut in the window that has the late ones."""

        def __init__(self) -> None:
            self.asked: list[int] = []

        async def events(self, created_from: int, created_to: int) -> Any:
            self.asked.append(created_from)
            if created_to > late[0]["created"]:
                raise ConnectionResetError("cut")
            async for page in town.source.events(created_from, created_to):
                yield page

    broken = Breaks()
    cut = Sweeper(
        town.db, broken, ROUTER, town.instruments, town.clock, overlap=timedelta(0), first=timedelta(hours=72)
    )
    with pytest.raises(ConnectionResetError):
        await cut.sweep()
    (row,) = await town.rows()
    assert (row["finished_at"], row["missing"]) == (None, 2)
    assert row["to_at"] == at(broken.asked[-1]), "all windows but the last"
    swept = await town.sweep(overlap=timedelta(0))
    assert (swept.from_at, swept.missing) == (row["to_at"], 2)
    assert await town.stored() == ids(early + late)


async def test_on_schedule_one_process_sweeps_and_a_failure_is_no_end(town: Town) -> None:
    town.customers(3)
    town.advance(120)
    holder = await asyncpg.connect(town.db.dsn)
    await holder.execute("SELECT pg_advisory_lock($1)", sweep.LOCK)
    stop = asyncio.Event()
    processes = [Workers([], town.db, [partial(town.sweeper().on_schedule, 0.05, 0.0)]) for _ in range(2)]
    tasks = [asyncio.create_task(process.run(stop, 1.0)) for process in processes]
    try:
        await asyncio.sleep(0.2)
        assert await town.rows() == []
        await holder.close()
        async with asyncio.timeout(10):
            while not [row for row in await town.rows() if row["finished_at"]]:  # noqa: ASYNC110 - what is waited for is in the database
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)  # the hub's clock stands still: for nobody is it time again
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks)
    (row,) = await town.rows()
    assert (row["missing"], row["finished_at"]) == (3, at(START + 120))


async def test_what_is_no_event_is_kept_for_a_person_and_stops_nothing(town: Town) -> None:
    good = orjson.dumps(town.customers(1)[0])
    bad = b'{"id": "evt_odd", "type": "x", "note": "\\ud800"}'  # JSON, but no Unicode text
    no_id = b'{"id": "evt_\\u0000", "type": "x"}'  # PostgreSQL cannot even be asked for it

    class Odd:
        async def events(self, created_from: int, created_to: int) -> Any:
            if created_from <= START < created_to:
                yield [bad, no_id, good]

    town.advance(120)
    sweeper = Sweeper(town.db, Odd(), ROUTER, town.instruments, town.clock, timedelta(0), timedelta(hours=72))
    swept = await sweeper.sweep()
    assert swept is not None
    assert (swept.listed, swept.missing, swept.unreadable) == (3, 1, 2)
    kept, other = await town.db.fetch_text("SELECT reason, body FROM rejected_bodies ORDER BY id")
    assert (kept["body"], other["body"]) == (bad, no_id)
    assert kept["reason"].startswith("listed by Stripe, but the body is not JSON in UTF-8")


async def test_the_gauge_says_how_far_it_got(town: Town) -> None:
    core = app.Core(Settings(), town.db, load(FOLDER), ROUTER, town.instruments, town.clock)
    town.advance(120)
    for wanted in (0, START + 60):
        await app.gauges(core)
        assert town.instruments.registry.get_sample_value("hub_swept_until_seconds") == wanted
        await town.sweep()


async def test_a_wrong_key_leaves_no_mark(town: Town) -> None:
    town.customers(1)
    town.advance(120)
    wrong = StripeSource(StripeSettings(rate=100.0).model_copy(update={"api_key": _Wrong()}))
    cut = Sweeper(town.db, wrong, ROUTER, town.instruments, town.clock, timedelta(0), timedelta(hours=72))
    with pytest.raises(OutcomeError):
        await cut.sweep()
    await wrong.close()
    assert await town.rows() == []


class _Wrong:
    def get_secret_value(self) -> str:
        return "sk_test_wrong"


def test_elements_are_cut_out_as_they_are_written() -> None:
    first = '{"id": "evt_1", "n": 12.500000000000000000001, "s": "]},\\" \\u00fc ü"}'
    text = (
        '{\n  "object": "list", "has_more": false,\n  "data": [\n '
        + first
        + ' ,\n {"id":"evt_2"}\n], "url": "/v1/events"}'
    )
    assert elements(text, "data") == [first.encode(), b'{"id":"evt_2"}']
    assert elements('{"data":[]}', "data") == []
    for wrong in ('{"object": "list"}', "[]", '{"data": {}}', "{}"):
        with pytest.raises(OutcomeError):
            elements(wrong, "data")


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def served_stripe() -> Iterator[tuple[StripeSimulator, str]]:
    import time

    stripe = StripeSimulator(seed=7, clock=time.time, start=int(time.time()) - 7200)
    with served(stripe.app) as url:
        yield stripe, url


async def test_the_command(db: Database, served_stripe: tuple[StripeSimulator, str], tmp_path: Path) -> None:
    import os
    import sys

    stripe, url = served_stripe
    for _ in range(3):
        stripe.call("POST", "/v1/customers", {"name": "Ada Example"})

    async def run(*arguments: str) -> tuple[int | None, bytes, bytes]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HUB_")}
        env = kept | environment(url) | {"HUB_DATABASE_URL": db.dsn, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub.cli", "sweep", *arguments,
            env=env, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out, err

    code, out, err = await run("--json")
    said = orjson.loads(out)
    assert (code, said["listed"], said["missing"], said["gap"]) == (0, 3, 3, None), err
    await db.fetch_text("UPDATE sweeps SET from_at = from_at - interval '40 days', to_at = to_at - interval '40 days'")
    code, out, err = await run()
    assert (code, b"Gap: from" in err, b"missing 0 accepted" in out) == (1, True, True)
    assert err.count(b"complete up to") > 5, "progress"
