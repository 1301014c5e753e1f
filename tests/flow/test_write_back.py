"""NetSuite's ids come back to Stripe's objects, without a loop, and without the books waiting for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Clock
from tests.flow.stack import START, Hub, Vendors, hub
from tests.flow.test_tax import customer, echo, invoice


@pytest.fixture
async def here(
    request: pytest.FixtureRequest, served: Vendors, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hub]:
    served.reset()
    wanted = {"HUB_DESTINATIONS": "netsuite", "HUB_NETSUITE_WRITE_BACK": "true", **getattr(request, "param", {})}
    async with hub(dsn, served, Clock(float(START) + 5), monkeypatch, **wanted) as made:
        yield made


def sold(town: Vendors) -> tuple[str, str]:
    """A customer and an invoice of his, finalised."""
    who = customer(town)
    town.post("/v1/invoiceitems", customer=who, amount=1000, currency="usd", description="Work")
    made = town.post("/v1/invoices", customer=who, pending_invoice_items_behavior="include")["id"]
    town.post(f"/v1/invoices/{made}/finalize")
    return who, str(made)


def booked(town: Vendors, kind: str, stripe_id: str) -> str:
    """NetSuite's internal id."""
    rows: list[dict[str, Any]] = town.state("netsuite")[kind]
    return next(str(row["id"]) for row in rows if row["externalId"] == f"stripe_{stripe_id}")


def puts(town: Vendors) -> int:
    return sum(r["method"] == "PUT" for r in town.requests("netsuite"))


async def test_netsuites_ids_are_noted_in_stripe_and_the_echo_of_that_books_nothing(here: Hub, served: Vendors) -> None:
    who, made = sold(served)
    await echo(here, served)
    assert invoice(served, made)["metadata"] == {"netsuite_invoice_id": booked(served, "invoice", made)}
    found = served.stripe.call("GET", f"/v1/customers/{who}")["metadata"]
    assert found == {"netsuite_customer_id": booked(served, "customer", who)}
    assert puts(served) == 2, "the customer and the invoice, once each"
    assert {r["state"] for r in await here.core.db.fetch_text("SELECT state FROM deliveries")} == {"done"}


async def test_where_the_key_may_not_write_it_is_a_dead_letter_that_says_so_and_the_books_are_kept(
    here: Hub, served: Vendors
) -> None:
    no = {"error": {"type": "invalid_request_error", "message": "no"}}
    served.fault("stripe", "status", "POST /v1/", times=None, status=403, body=no)
    _, made = sold(served)
    await echo(here, served)
    assert booked(served, "invoice", made)
    rows = await here.core.db.fetch_text("SELECT destination, state, code, fix FROM deliveries ORDER BY id")
    dead = [(r["destination"], r["code"]) for r in rows if r["state"] == "dead"]
    assert dead == [("stripe", "not_permitted")] * 2
    assert all("write access" in r["fix"] for r in rows if r["state"] == "dead")
    assert {r["state"] for r in rows if r["destination"] == "netsuite"} == {"done"}
    paused = await here.core.db.fetch_text("SELECT name FROM destinations WHERE paused_until IS NOT NULL")
    assert paused == [], "thin notifications are still fetched"


@pytest.mark.parametrize("here", [{"HUB_NETSUITE_WRITE_BACK": "false"}], indirect=True)
async def test_unless_it_is_asked_for_nothing_is_written_in_stripe(here: Hub, served: Vendors) -> None:
    _, made = sold(served)
    await echo(here, served)
    assert booked(served, "invoice", made)
    assert invoice(served, made)["metadata"] == {}
    assert [r for r in served.requests("stripe") if r["method"] == "POST"] == []
