"""Events are lost for good, or were never received: after a backfill all vendors hold what Stripe does.

Everything is real but time: the simulator's lists over HTTP, a database, four vendors, the mappings as they are.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from hub import app
from hub.backfill import Backfilled
from hub.commands.backfill import moment
from hub.errors import ConfigError, OutcomeError
from hub.patience import Patience
from hub.sweep import Swept
from tests.conftest import Clock
from tests.flow.stack import START, Hub, Vendors, hub, picture, settings
from tests.flow.story import ADDRESS, DAY, HOUR, draft, payments, shop, story, subscribe, told


class Ticking(Clock):
    """A test moves it, and beside that it goes: how fast Stripe may be asked is counted in its seconds."""

    def __call__(self) -> float:
        return self.now + time.monotonic() - STARTED


STARTED = time.monotonic()


@pytest.fixture
def clock() -> Clock:
    return Ticking(float(START))


FAST = {"HUB_STRIPE_RATE": "100"}
"""A sweep of 30 days asks for each window of hours."""
WAITED: list[float] = []


async def no_time(seconds: float) -> None:
    WAITED.append(seconds)


async def fill(here: Hub, **options: Any) -> Backfilled:
    async with app.backfill(here.core, Patience(sleep=no_time)) as one:
        return await one.run(**options)


async def sweep(here: Hub) -> Swept:
    async with app.sweeper(here.core) as one:
        found = await one.sweep()
    assert found is not None
    return found


def writes(town: Vendors) -> Counter[str]:
    """What was sent to the vendors that changes something there."""
    found: Counter[str] = Counter()
    for vendor in ("salesforce", "netsuite", "avalara", "s3"):
        found[vendor] = sum(r["method"] not in ("GET", "HEAD") for r in town.requests(vendor))
    return found


def asked(town: Vendors) -> Counter[str]:
    """Paths of what Stripe was asked."""
    return Counter(r["path"] for r in town.requests("stripe"))


def without_lake(found: dict[str, Any]) -> dict[str, Any]:
    return {name: held for name, held in found.items() if name != "lake"}


def advance(town: Vendors, clock: Clock, seconds: int) -> None:
    town.stripe.advance(seconds)
    clock.now = max(clock.now, float(town.stripe.now))


async def test_a_hub_that_heard_nothing_ends_where_one_is_that_heard_everything(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    ids: dict[str, str] = {}
    for _ in story(town, ids):
        pass
    advance(town, clock, 45 * DAY)
    assert town.stripe.call("GET", "/v1/events")["data"] == [], "Stripe tells nothing of it any more"
    async with hub(dsn, town, clock, env, **FAST) as here:
        done = await fill(here)
        await here.work()
        assert {s.rpartition(" ")[2] for s in await here.states()} <= {"done", "superseded"}, await here.states()
    told(ids, picture(town))
    found = {name: (c.listed, c.new, c.known, c.deleted, c.gone) for name, c in done.counts.items()}
    assert found == {
        "customer": (1, 1, 0, 0, 0),
        "product": (1, 1, 0, 0, 0),
        "price": (1, 1, 0, 0, 0),
        "subscription": (1, 1, 0, 0, 0),  # canceled
        "invoice": (5, 5, 0, 0, 0),
        "credit_note": (1, 1, 0, 0, 0),
        "invoice_payment": (5, 4, 1, 0, 0),  # that of the voided invoice was canceled
        "refund": (1, 1, 0, 0, 0),
        "dispute": (0, 0, 0, 0, 0),
        "payout": (4, 4, 0, 0, 0),  # of the four payments, each of another day
    }
    assert done.complete
    assert done.said().startswith(f"complete up to {datetime.fromtimestamp(clock.now, UTC):%Y-%m-%dT%H}")
    # Eleven lists (subscriptions have two), and for each type, and for the deletions, the newest event.
    assert done.reads == 11 + 10 + 1


# A gap ---------------------------------------------------------------------------------------------------------------


def sell(town: Vendors, customer: str, amount: int) -> str:
    """A finalised invoice over one thing, without tax."""
    invoice = draft(town, customer)
    town.post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=amount, description="Training")
    town.post(f"/v1/invoices/{invoice}/finalize")
    return invoice


def sign_up(town: Vendors, name: str) -> str:
    return str(town.post("/v1/customers", name=name, email="x@example.com", address=ADDRESS)["id"])


def before(town: Vendors) -> dict[str, str]:
    """What the hub hears of: a subscription over 58.32 a month (see `story`), customers, and what will go."""
    ids = shop(town)
    sold = subscribe(town, ids, 3)
    ids |= {"subscription": sold["id"], "first": sold["latest_invoice"]}
    ids |= {"other": sign_up(town, "Otto Other"), "leaving": sign_up(town, "Lea Leaving")}
    ids |= {"open": sell(town, ids["other"], 4000), "draft": draft(town, ids["leaving"])}
    ids["unsold"] = town.post("/v1/products", name="Never sold")["id"]
    return ids


def lost(town: Vendors, ids: dict[str, str]) -> None:
    """What nobody tells the hub."""
    town.post(f"/v1/invoices/{ids['open']}/pay", paid_out_of_band=True)
    ids["void"] = sell(town, ids["other"], 12500)
    town.post(f"/v1/invoices/{ids['void']}/void")
    ids["bad"] = sell(town, ids["other"], 8000)
    town.post(f"/v1/invoices/{ids['bad']}/mark_uncollectible")
    ids["still"] = draft(town, ids["other"])
    ids["last"] = sell(town, ids["leaving"], 1000)
    town.stripe.call("DELETE", f"/v1/invoices/{ids['draft']}", {})
    town.stripe.call("DELETE", f"/v1/customers/{ids['leaving']}", {})
    ids["guest"] = sign_up(town, "Gus Guest")
    ids["visit"] = sell(town, ids["guest"], 1500)
    town.stripe.call("DELETE", f"/v1/customers/{ids['guest']}", {})
    town.post(f"/v1/customers/{ids['other']}", name="Otto Renamed")
    town.post(f"/v1/products/{ids['product']}", active=False)
    town.stripe.call("DELETE", f"/v1/products/{ids['unsold']}", {})
    town.stripe.call("DELETE", f"/v1/subscriptions/{ids['subscription']}", {})


def agreed(ids: dict[str, str], found: dict[str, Any]) -> None:
    """All of it, by hand."""
    books, taxes, crm = (found[name] for name in ("netsuite", "avalara", "salesforce"))
    totals = {"first": "58.32", "open": "40.00", "void": "125.00", "bad": "80.00", "last": "10.00", "visit": "15.00"}
    remaining = dict.fromkeys(totals, "0.00") | {"bad": "80.00", "last": "10.00", "visit": "15.00"}
    assert {k: (v["total"], v["amountRemaining"]) for k, v in books.items() if k.startswith("invoice ")} == {
        f"invoice stripe_{ids[n]}": (t, remaining[n]) for n, t in totals.items()
    }
    assert payments(books) == {ids["first"]: ["58.32"], ids["open"]: ["40.00"]}
    assert {k: (v["total"], v["unapplied"]) for k, v in books.items() if k.startswith("creditMemo ")} == {
        f"creditMemo stripe_void_{ids['void']}": ("125.00", "0.00")
    }
    people = {n: books[f"customer stripe_{ids[n]}"] for n in ("customer", "other", "leaving", "guest")}
    assert {n: p["isInactive"] for n, p in people.items()} == {
        "customer": False, "other": False, "leaving": True, "guest": True,
    }  # fmt: skip
    assert [people[n]["companyName"] for n in ("other", "leaving", "guest")] == [
        "Otto Renamed", "Lea Leaving", ids["guest"],
    ]  # fmt: skip
    assert {k: (d["status"], Decimal(d["totalAmount"]) + Decimal(d["totalTax"])) for k, d in taxes.items()} == {
        ids[n]: ("Cancelled" if n == "void" else "Committed", Decimal(t)) for n, t in totals.items()
    }
    statuses = {
        "first": "paid", "open": "paid", "void": "void", "bad": "uncollectible", "last": "open", "visit": "open",
        "still": "draft", "draft": "deleted",
    }  # fmt: skip
    assert {k: v["Status__c"] for k, v in crm.items() if k.startswith("Stripe_Invoice__c")} == {
        f"Stripe_Invoice__c {ids[n]}": s for n, s in statuses.items()
    }
    assert crm[f"Stripe_Subscription__c {ids['subscription']}"]["Status__c"] == "canceled"
    assert [crm[f"Account {ids[n]}"]["Stripe_Status__c"] for n in ("customer", "other", "leaving", "guest")] == [
        "active", "active", "deleted", "deleted",
    ]  # fmt: skip
    assert crm[f"Account {ids['other']}"]["Name"] == "Otto Renamed"
    assert set(found["lake"].values()) == {1}


async def test_a_gap_is_said_until_a_backfill_closes_it_and_then_all_agree(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    ids: dict[str, str] = {}
    async with hub(dsn, town, clock, env, **FAST) as here:
        ids |= before(town)
        await here.deliver(town.heard)
        await here.work()
        advance(town, clock, 2 * HOUR)
        assert (await sweep(here)).missing == 0
        town.heard.clear()
        lost(town, ids)
        advance(town, clock, 45 * DAY)  # Stripe no longer tells what happened before these
        for _ in range(2):
            swept = await sweep(here)
            assert swept.gap is not None
            assert "`hub backfill --since 2026-11-02`" in str(swept.note)
            assert await gap_seconds(here) == (swept.gap[1] - swept.gap[0]).total_seconds() > 15 * DAY - 3 * HOUR
        assert swept.gap is not None
        since = swept.gap[0].replace(hour=0, minute=0, second=0)
        kept = await count(here, "events")
        dry = await fill(here, since=since, dry_run=True)
        assert (await count(here, "events"), await count(here, "backfills"), dry.complete) == (kept, 0, False)
        done = await fill(here, since=since)
        assert dry.counts == done.counts
        assert dry.events == done.events == await count(here, "events") - kept > 10
        assert (done.complete, done.closed) == (True, 1)
        await here.work()
        assert {s.rpartition(" ")[2] for s in await here.states()} <= {"done", "superseded"}, await here.states()
        held = picture(town)
        agreed(ids, held)
        found = {name: (c.listed, c.new, c.known, c.deleted) for name, c in done.counts.items()}
        assert found == {
            # Otto has another name, Zelda's last invoice has a number, which no event tells; Lea and Gus are deleted.
            "customer": (2, 2, 0, 2),
            "product": (1, 1, 0, 1),
            "price": (1, 0, 1, 0),
            "subscription": (1, 1, 0, 0),
            "invoice": (7, 6, 1, 1),
            "credit_note": (0, 0, 0, 0),
            # One for each of the seven invoices; of one we had not heard that it was paid. Stripe pays out by itself.
            "invoice_payment": (7, 1, 6, 0),
            "refund": (0, 0, 0, 0),
            "dispute": (0, 0, 0, 0),
            "payout": (1, 1, 0, 0),
        }
        after = await sweep(here)
        assert (after.gap, after.note) == (None, None)
        assert await gap_seconds(here) == 0
        (row,) = await here.core.db.fetch_text("SELECT * FROM sweeps WHERE gap_from IS NOT NULL")
        assert f"Closed by backfill 1, complete up to {datetime.fromtimestamp(clock.now, UTC):%Y-%m-%d}" in row["note"]
        # Again: nothing.
        sent, events = writes(town), await count(here, "events")
        again = await fill(here)
        await here.work()
        assert (again.complete, again.events, sum(c.new for c in again.counts.values())) == (True, 0, 0)
        assert (writes(town), await count(here, "events")) == (sent, events)
        # And now everything that was lost comes after all, in the worst order: one effect each, not two.
        await here.deliver(town.heard[::-1])
        await here.work()
        assert {s.rpartition(" ")[2] for s in await here.states()} <= {"done", "superseded"}, await here.states()
        late = picture(town)
        agreed(ids, late)
        # As if nothing had been lost, but for Gus's name, which only his own events know.
        held["netsuite"].pop(f"customer stripe_{ids['guest']}")
        late["netsuite"].pop(f"customer stripe_{ids['guest']}")
        assert late["netsuite"] == held["netsuite"]
        assert late["avalara"] == held["avalara"]


async def gap_seconds(here: Hub) -> float | None:
    await app.gauges(here.core)
    return here.core.metrics.registry.get_sample_value("hub_gap_seconds")


async def count(here: Hub, table: str) -> int:
    return int((await here.core.db.fetch_text(f"SELECT count(*) AS n FROM {table}"))[0]["n"])


async def test_limits_and_outages_of_stripe_are_waited_for(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    customers = [sign_up(town, f"Customer {n}") for n in range(3)]
    WAITED.clear()
    async with hub(dsn, town, clock, env, HUB_STRIPE_RETRIES="0", **FAST) as here:
        town.fault("stripe", "limit", "GET /v1/customers$")
        town.fault("stripe", "status", "GET /v1/invoices$", status=500, times=2)
        town.fault("stripe", "limit", "GET /v1/events$")
        done = await fill(here)
        assert done.complete
        assert done.counts["customer"].new == len(customers)
        assert len(WAITED) == 4
        assert max(WAITED) >= 2, "a limit lasts longer than one failure"
        # Not for ever, and not for what waiting does not help.
        town.fault("stripe", "status", "GET /v1/customers$", status=500, times=None)
        WAITED.clear()
        with pytest.raises(OutcomeError):
            await fill(here)
        assert 600 < sum(WAITED) <= 900
        town.http.delete("/__sandbox/faults").raise_for_status()
        town.fault("stripe", "expired", "GET /v1/customers$", times=None)
        WAITED.clear()
        with pytest.raises(OutcomeError):
            await fill(here)
        assert WAITED == []


async def test_a_sweep_waits_for_a_limit_and_then_goes_on(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        sign_up(town, f"Customer {n}")
    advance(town, clock, HOUR)
    WAITED.clear()
    async with hub(dsn, town, clock, env, HUB_STRIPE_RETRIES="0", **FAST) as here, app.sweeper(here.core) as one:
        town.fault("stripe", "limit", "GET /v1/events$", times=2)
        swept = await replace(one, patience=Patience(sleep=no_time)).sweep()
    assert swept is not None
    assert (swept.listed, swept.missing, len(WAITED)) == (3, 3, 2)


class Cut:
    """Stripe's lists, until the line is cut at the second page of one of them."""

    def __init__(self, source: Any, at: str) -> None:
        self.source, self.at, self.asked = source, at, Counter[str]()

    async def objects(self, object_type: str, cursor: str | None, created_from: int | None) -> Any:
        self.asked[object_type] += 1
        if object_type == self.at and self.asked[object_type] == 2:
            raise ConnectionResetError("cut")
        return await self.source.objects(object_type, cursor, created_from)

    async def read(self, object_type: str, object_id: str) -> Any:
        return await self.source.read(object_type, object_id)

    async def newest_event(self) -> Any:
        return await self.source.newest_event()


async def test_cut_off_it_goes_on_after_what_was_complete(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    sign_up(town, "Bo Bulk")
    product, gone = (town.post("/v1/products", name=name)["id"] for name in ("Bulk", "Gone"))
    made = town.last("product.created")
    for n in range(103):
        town.post("/v1/prices", product=product, currency="usd", unit_amount=100 + n)
    async with hub(dsn, town, clock, env, **FAST) as here:
        await here.deliver([made])
        town.stripe.call("DELETE", f"/v1/products/{gone}", {})
        started = clock()
        async with app.backfill(here.core, Patience(sleep=no_time)) as one:
            with pytest.raises(ConnectionResetError):
                await replace(one, lists=Cut(one.lists, "price")).run()
        assert await kinds(here) == {"product.created": 2, "customer.created": 1, "price.created": 100}, (
            "one page stays"
        )
        clock.advance(HOUR)
        lists = asked(town)
        done = await fill(here)
        now = asked(town) - lists
        assert done.resumed
        assert done.complete
        assert (now["/v1/customers"], now["/v1/products"], now["/v1/prices"]) == (0, 0, 2)
        assert started <= done.started_at.timestamp() < started + HOUR, "complete up to when it was begun"
        counted = done.counts["price"]
        assert (counted.listed, counted.new, counted.known) == (103, 3, 100)
        assert done.counts["product"].deleted == 1, "remembered from before the cut"
        assert await kinds(here) == {
            "product.created": 2, "customer.created": 1, "price.created": 103, "product.deleted": 1,
        }  # fmt: skip


async def kinds(here: Hub) -> dict[str, int]:
    return {
        r["type"]: r["n"] for r in await here.core.db.fetch_text("SELECT type, count(*) AS n FROM events GROUP BY 1")
    }


async def test_what_happens_meanwhile_is_newer_than_what_was_listed(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    customer = sign_up(town, "As Listed")
    async with hub(dsn, town, clock, env, **FAST) as here:
        clock.advance(10 * DAY)  # our clock is far ahead of Stripe's: what is listed must not be dated by it
        await fill(here)
        town.stripe.advance(5)
        town.post(f"/v1/customers/{customer}", name="As Changed")
        await here.deliver([town.last("customer.updated")])
        await here.work()
        assert picture(town)["salesforce"][f"Account {customer}"]["Name"] == "As Changed"
        assert (await fill(here)).events == 0


async def test_another_accounts_key_deletes_nothing(
    dsn: str, town: Vendors, clock: Clock, env: pytest.MonkeyPatch
) -> None:
    sign_up(town, "Of Another")
    town.post("/v1/products", name="Of another")
    events = list(town.heard)
    async with hub(dsn, town, clock, env, **FAST) as here:
        await here.deliver(events)
        await here.work()
        town.reset()  # Stripe knows nobody any more
        done = await fill(here)
        await here.work()
        assert (done.complete, done.events, done.counts["customer"].gone, done.counts["product"].gone) == (
            False,
            0,
            1,
            1,
        )
        assert "another account" in str(done.note)


async def test_the_command(town: Vendors, dsn: str, tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    for n in range(2):
        sign_up(town, f"Customer {n}")

    async def run(*arguments: str) -> tuple[int | None, bytes, bytes]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HUB_")}
        given = kept | settings(town.url, dsn, **FAST) | {"PYTHONPATH": str(Path(__file__).parents[2])}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub.cli", "backfill", *arguments,
            env=given, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out, err

    code, out, err = await run("--json")
    said = orjson.loads(out)
    assert (code, said["complete"], said["objects"]["customer"]["new"]) == (0, True, 2), err
    assert b"customer: listed 2, new 2, known 0" in err
    assert moment("2026-11-02") == datetime(2026, 11, 2, tzinfo=UTC)
    assert moment("2026-11-02T13:00:00+11:00") == datetime(2026, 11, 2, 2, tzinfo=UTC)
    with pytest.raises(ConfigError, match="--since: 'soon' is no date"):
        moment("soon")
