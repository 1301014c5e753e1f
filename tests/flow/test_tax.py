"""Tax on drafts through the whole hub: webhook, AvaTax's estimate, taxes on Stripe's lines, finalisation, the document.

Real HTTP to a served sandbox (Stripe and AvaTax), a real database, the real mappings. Rates of the simulated AvaTax:
Washington 6.5 % state and 2.5 % city.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Clock
from tests.flow.stack import START, TOKEN, Hub, Vendors, hub

SEATTLE = {"line1": "1 Pike St", "city": "Seattle", "state": "WA", "postal_code": "98101", "country": "US"}
NOWHERE = {"line1": "1 Pike St", "city": "Seattle", "state": "WA", "postal_code": "00000", "country": "US"}
CREATE = "POST /api/v2/transactions/create"
HOUR = 3600


@pytest.fixture
def clock() -> Clock:
    """Stripe's business time, as far as the first draft."""
    return Clock(float(START) + 5)


@pytest.fixture
async def here(
    request: pytest.FixtureRequest, served: Vendors, dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hub]:
    """A hub with AvaTax alone, in the mode `calculate` unless the test's parameter says otherwise."""
    served.reset()
    usual = {"HUB_DESTINATIONS": "avalara", "HUB_AVALARA_TAX": "calculate", "HUB_COALESCE_SECONDS": "0"}
    async with hub(dsn, served, clock, monkeypatch, **{**usual, **getattr(request, "param", {})}) as made:
        yield made


async def echo(here: Hub, town: Vendors) -> int:
    """Deliver what happened at Stripe, let the hub do what is due, and so on until nothing more comes of it. How many
    rounds brought events."""
    rounds = 0
    while town.heard:
        events = list(town.heard)
        town.heard.clear()
        await here.deliver(events)
        await here.workers.drain(flush=True)
        rounds += 1
        assert rounds < 10, "an event of our own write makes another write"
    return rounds


def customer(town: Vendors, address: Any = None, **more: Any) -> str:
    return str(town.post("/v1/customers", name="Acme", address=address or SEATTLE, **more)["id"])


def draft(town: Vendors, who: str, *amounts: int) -> str:
    """A draft that Stripe finalises by itself within the hour."""
    for amount in amounts:
        town.post("/v1/invoiceitems", customer=who, amount=amount, currency="usd", description="Work")
    made = town.post("/v1/invoices", customer=who, auto_advance=True, pending_invoice_items_behavior="include")
    return str(made["id"])


def invoice(town: Vendors, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = town.stripe.call("GET", f"/v1/invoices/{id_}")
    return found


def calls(town: Vendors, vendor: str, end: str) -> int:
    return sum(r["method"] == "POST" and r["path"].split("?")[0].endswith(end) for r in town.requests(vendor))


async def test_a_draft_is_taxed_once_finalised_with_that_tax_and_booked_with_one_call(
    here: Hub, served: Vendors
) -> None:
    """100.00: 6.50 + 2.50 = 9.00.  12.34: .8021 -> 0.80 and .3085 -> 0.31 = 1.11.  112.34 + 10.11 = 122.45."""
    id_ = draft(served, customer(served), 10000, 1234)
    assert await echo(here, served) == 2, "the draft, and the event of our own write; which leads to nothing"
    found = invoice(served, id_)
    taxes = {line["amount"]: [t["amount"] for t in line["taxes"]] for line in found["lines"]["data"]}
    assert taxes == {10000: [650, 250], 1234: [80, 31]}
    assert (found["status"], found["total"], found["auto_advance"]) == ("draft", 12245, True)
    assert len(found["metadata"]["hub_tax"]) == 32
    assert (calls(served, "avalara", "/create"), calls(served, "stripe", "/update_lines")) == (1, 1)

    served.stripe.advance(HOUR + 60)
    here.clock.advance(HOUR + 60)
    await echo(here, served)
    assert invoice(served, id_)["status"] in ("open", "paid")
    (document,) = served.state("avalara")["documents"]
    assert (document["code"], document["type"], document["status"]) == (id_, "SalesInvoice", "Committed")
    assert (document["totalAmount"], document["totalTax"], document["totalTaxCalculated"]) == (
        "112.34",
        "10.11",
        "10.11",
    )
    assert calls(served, "avalara", "/create") == 2, "one estimate, one document"
    assert {s.rpartition(" ")[2] for s in await here.states()} <= {"done", "superseded"}


async def test_changed_bases_are_taxed_again_before_finalisation_and_equal_ones_are_not(
    here: Hub, served: Vendors
) -> None:
    """100.00 -> 9.00; then 25 % off: 75.00 -> 4.875 -> 4.88 and 1.875 -> 1.88 = 6.76; then back: 9.00 again."""
    id_ = draft(served, customer(served), 10000)
    await echo(here, served)
    assert invoice(served, id_)["total"] == 10900
    coupon = served.post("/v1/coupons", percent_off="25", duration="once")["id"]
    served.post(f"/v1/invoices/{id_}", discounts=[{"coupon": coupon}])
    assert invoice(served, id_)["total"] == 7500 + 900, "Stripe keeps the old tax: nobody else corrects it"
    await echo(here, served)
    assert invoice(served, id_)["total"] == 7500 + 676
    served.post(f"/v1/invoices/{id_}", description="a note")
    await echo(here, served)
    assert calls(served, "avalara", "/create") == 2, "a note is no basis"
    served.post(f"/v1/invoices/{id_}", discounts="")
    await echo(here, served)
    assert invoice(served, id_)["total"] == 10900
    assert (calls(served, "avalara", "/create"), calls(served, "stripe", "/update_lines")) == (3, 3)


async def test_a_draft_without_tax_is_held_counted_and_goes_on_when_there_is_tax(
    here: Hub, served: Vendors, clock: Clock
) -> None:
    """AvaTax is away for ten minutes, then back before the hour is over: the draft keeps its time."""
    id_ = draft(served, customer(served), 10000)
    served.fault("avalara", "html", CREATE, times=None)
    await echo(here, served)
    held = invoice(served, id_)
    assert (held["status"], held["auto_advance"], held["total"]) == ("draft", False, 10000)
    assert held["metadata"]["hub_tax_hold"] == "2026-11-02T12:00:05Z/2026-11-02T13:00:00Z"
    clock.advance(600)
    answer = await here.http.get("/api/v1/tax/held", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["drafts"], said["oldest_seconds"], said["amounts"]) == (1, 600, {"usd": 10000})
    assert [(one["invoice"], one["total"], one["since"]) for one in said["items"]] == [
        (id_, 10000, "2026-11-02T12:00:05Z")
    ]
    assert 'hub_tax_held_minor_units{currency="usd"} 10000.0' in (await here.http.get("/metrics")).text

    served.http.delete("/__sandbox/faults")
    await here.work()
    await echo(here, served)
    on = invoice(served, id_)
    assert (on["auto_advance"], on["total"], on["automatically_finalizes_at"]) == (True, 10900, START + HOUR)
    assert "hub_tax_hold" not in on["metadata"]
    assert set(await here.states()) <= {"tax done", "tax superseded"}
    answer = await here.http.get("/api/v1/tax/held", headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.json()["drafts"], answer.json()["items"]) == (0, [])


async def test_a_draft_held_past_its_time_is_finalised_by_the_hub(here: Hub, served: Vendors, clock: Clock) -> None:
    id_ = draft(served, customer(served), 10000)
    served.fault("avalara", "html", CREATE, times=None)
    await echo(here, served)
    served.stripe.advance(3 * HOUR)
    clock.advance(3 * HOUR)
    assert invoice(served, id_)["status"] == "draft", "it was held"
    served.http.delete("/__sandbox/faults")
    await here.work()
    found = invoice(served, id_)
    assert (found["status"], found["total"]) == ("open", 10900)
    await echo(here, served)
    (document,) = served.state("avalara")["documents"]
    assert (document["code"], document["status"], document["totalTax"]) == (id_, "Committed", "9")
    assert datetime.fromtimestamp(found["status_transitions"]["finalized_at"], UTC).hour == 15


async def test_whoever_finalises_by_hand_meanwhile_has_decided(here: Hub, served: Vendors, clock: Clock) -> None:
    id_ = draft(served, customer(served), 10000)
    served.fault("avalara", "html", CREATE, times=None)
    await echo(here, served)
    served.post(f"/v1/invoices/{id_}/finalize")
    served.http.delete("/__sandbox/faults")
    served.heard.clear()  # its webhooks are late
    await here.work()
    found = invoice(served, id_)
    assert (found["status"], found["total"]) == ("open", 10000)
    rows = await here.rows(destination="tax", state="done")
    assert rows[-1]["note"] == "the invoice is no draft any more: nothing to do"


@pytest.mark.parametrize("here", [{"HUB_STRIPE_RETRIES": "0"}], indirect=True)
async def test_a_lost_reply_of_the_write_is_unknown_and_done_again_without_harm(here: Hub, served: Vendors) -> None:
    id_ = draft(served, customer(served), 10000)
    served.fault("stripe", "lost_reply", "POST /v1/invoices/[^/]+/update_lines")
    events = list(served.heard)
    served.heard.clear()
    await here.deliver(events)
    await here.workers.drain(flush=True)
    (row,) = await here.rows(destination="tax")
    assert (row["state"], row["code"]) == ("unknown", "outcome_unknown")
    assert invoice(served, id_)["total"] == 10900, "it had landed"
    await here.work()
    await echo(here, served)
    assert set(await here.states()) <= {"tax done", "tax superseded"}
    assert (invoice(served, id_)["total"], invoice(served, id_)["auto_advance"]) == (10900, True)


async def test_an_address_that_cannot_be_placed_is_a_dead_letter_over_a_held_draft_and_the_next_event_mends_it(
    here: Hub, served: Vendors
) -> None:
    who = customer(served, NOWHERE)
    id_ = draft(served, who, 10000)
    bare = served.post("/v1/customers", name="No address")["id"]
    other = draft(served, bare, 5000)
    await echo(here, served)
    dead = await here.rows(destination="tax", state="dead")
    assert sorted((r["object_id"], r["code"]) for r in dead) == sorted(
        [(id_, "ZipNotValidError"), (other, "field_required")]
    )
    assert all("held" in r["cause"] for r in dead)
    assert [invoice(served, i)["auto_advance"] for i in (id_, other)] == [False, False]
    served.post(f"/v1/customers/{who}", address=SEATTLE)
    served.post(f"/v1/invoices/{id_}", description="address corrected")
    await echo(here, served)
    mended = invoice(served, id_)
    assert (mended["auto_advance"], mended["total"]) == (True, 10900)
    assert [r["object_id"] for r in await here.rows(destination="tax", state="dead")] == [other]


# What is taken back. Stripe charges 8 % itself, so the hub only records: 60.00 + 4.80 and 40.00 + 3.20 = 108.00. ------

RECORD = {"HUB_AVALARA_TAX": "record"}


def sale(town: Vendors, *, paid: bool = True) -> str:
    who = customer(town)
    rate = town.post("/v1/tax_rates", display_name="Sales tax", percentage="8", inclusive=False)["id"]
    for amount in (6000, 4000):
        town.post("/v1/invoiceitems", customer=who, amount=amount, currency="usd", tax_rates=[rate])
    made = town.post(
        "/v1/invoices", customer=who, pending_invoice_items_behavior="include", collection_method="send_invoice",
        days_until_due=30,
    )["id"]  # fmt: skip
    town.post(f"/v1/invoices/{made}/finalize")
    if paid:
        town.post(f"/v1/invoices/{made}/pay")
    return str(made)


def cents(amount: str) -> str:
    return f"{Decimal(amount):.2f}"


def documents(town: Vendors) -> dict[str, tuple[str, ...]]:
    """`<type> <code>` -> status, amount, tax."""
    return {
        f"{d['type']} {d['code']}": (d["status"], cents(d["totalAmount"]), cents(d["totalTax"]))
        for d in town.state("avalara")["documents"]
    }


@pytest.mark.parametrize("here", [RECORD], indirect=True)
async def test_stripes_own_tax_is_booked_as_charged_and_the_difference_is_told(here: Hub, served: Vendors) -> None:
    """AvaTax itself: 60.00 -> 3.90 + 1.50, 40.00 -> 2.60 + 1.00: 9.00 in all; Stripe charged 8.00, 1.00 less."""
    id_ = sale(served)
    await echo(here, served)
    assert documents(served) == {f"SalesInvoice {id_}": ("Committed", "100.00", "8.00")}
    (row,) = await here.rows(destination="avalara", type="invoice.finalized")
    assert row["note"] == "booked as charged: tax 8; AvaTax itself comes to 9 (-1)"
    assert 'hub_tax_differences_total{destination="avalara"} 1.0' in (await here.http.get("/metrics")).text
    assert await here.rows(destination="tax") == []
    assert calls(served, "avalara", "/create") == 1


@pytest.mark.parametrize("here", [RECORD], indirect=True)
async def test_credit_notes_and_refunds_are_returns_dated_by_the_original_to_the_cent(
    here: Hub, served: Vendors, clock: Clock
) -> None:
    """A note over 10.00 of the first line: 10.00 + 0.80, refunded with it. Then 5.00 are refunded without a note:
    of 108.00 = 60.00 + 4.80 + 40.00 + 3.20 these are, in cents, 277.78 + 22.22 and 185.19 + 14.81. Rounded down they
    are 277 + 22 + 185 + 14 = 498; the two that are left go to the largest remainders, .81 and .78: 278 + 22, 185 + 15.
    """
    id_ = sale(served)
    first = next(line["id"] for line in invoice(served, id_)["lines"]["data"] if line["amount"] == 6000)
    served.stripe.advance(40 * 86400)
    clock.advance(40 * 86400)
    note = served.post(
        "/v1/credit_notes", invoice=id_, refund_amount=1080,
        lines=[{"type": "invoice_line_item", "invoice_line_item": first, "amount": 1000}],
    )["id"]  # fmt: skip
    charge = served.stripe.call("GET", "/v1/charges", {"limit": 1})["data"][0]["id"]
    refund = served.post("/v1/refunds", charge=charge, amount=500)["id"]
    await echo(here, served)
    assert documents(served) == {
        f"SalesInvoice {id_}": ("Committed", "100.00", "8.00"),
        f"ReturnInvoice {note}": ("Committed", "-10.00", "-0.80"),
        f"ReturnInvoice {refund}": ("Committed", "-4.63", "-0.37"),
    }
    made = {d["code"]: d for d in served.state("avalara")["documents"]}
    rows = [(cents(line["amount"]), cents(line["tax"])) for line in made[refund]["lines"]]
    assert sorted(rows) == [("-1.85", "-0.15"), ("-2.78", "-0.22")]
    assert {made[code]["date"] for code in (note, refund)} == {"2026-12-12"}
    assert {made[code]["taxDate"] for code in (note, refund)} == {"2026-11-02"}, "taxed as of the day of the sale"
    assert calls(served, "avalara", "/create") == 3, "one write a document"
    assert set(await here.states()) <= {"avalara done"}


@pytest.mark.parametrize("here", [RECORD], indirect=True)
async def test_a_voided_note_or_invoice_leaves_nothing_and_a_locked_one_is_reversed(here: Hub, served: Vendors) -> None:
    """A locked document of 108.00 with a note of 10.80 left in force: 97.20 are reversed, 90.00 + 7.20."""
    voided, locked = sale(served, paid=False), sale(served, paid=False)
    notes = {}
    for id_ in (voided, locked):
        line = invoice(served, id_)["lines"]["data"][0]
        wanted = [{"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": 1000}]
        notes[id_] = served.post("/v1/credit_notes", invoice=id_, lines=wanted)["id"]
    gone = served.post("/v1/credit_notes", invoice=voided, lines=wanted_of(served, voided))["id"]
    served.post(f"/v1/credit_notes/{gone}/void")
    await echo(here, served)
    assert documents(served)[f"ReturnInvoice {gone}"][0] == "Cancelled"
    avalara: Any = served.sandbox.simulators["avalara"]
    avalara.lock(locked)
    for id_ in (voided, locked):
        served.post(f"/v1/invoices/{id_}/void")
    await echo(here, served)
    assert documents(served) == {
        f"SalesInvoice {voided}": ("Cancelled", "100.00", "8.00"),
        f"ReturnInvoice {notes[voided]}": ("Cancelled", "-10.00", "-0.80"),
        f"ReturnInvoice {gone}": ("Cancelled", "-5.00", "-0.40"),
        f"SalesInvoice {locked}": ("Committed", "100.00", "8.00"),
        f"ReturnInvoice {notes[locked]}": ("Committed", "-10.00", "-0.80"),
        f"ReturnInvoice {locked}": ("Committed", "-90.00", "-7.20"),
    }
    assert set(await here.states()) <= {"avalara done"}


def wanted_of(town: Vendors, id_: str) -> list[dict[str, Any]]:
    line = invoice(town, id_)["lines"]["data"][1]
    return [{"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": 500}]


@pytest.mark.parametrize(
    ("here", "given_up"),
    [
        ({**RECORD, "HUB_AVALARA_UNCOLLECTIBLE": "void"}, {"SalesInvoice": ("Cancelled", "100.00", "8.00")}),
        (
            {**RECORD, "HUB_AVALARA_UNCOLLECTIBLE": "bad_debt"},
            {"SalesInvoice": ("Committed", "100.00", "8.00"), "ReturnInvoice": ("Committed", "-100.00", "-8.00")},
        ),
        (RECORD, {"SalesInvoice": ("Committed", "100.00", "8.00")}),
    ],
    indirect=["here"],
    ids=["void", "bad_debt", "none"],
)
async def test_an_uncollectible_invoice_is_given_up_as_set_and_taken_back_when_it_is_paid(
    here: Hub, served: Vendors, given_up: dict[str, tuple[str, ...]]
) -> None:
    id_ = sale(served, paid=False)
    served.post(f"/v1/invoices/{id_}/mark_uncollectible")
    await echo(here, served)
    assert documents(served) == {f"{kind} {id_}": what for kind, what in given_up.items()}
    served.post(f"/v1/invoices/{id_}/pay")
    await echo(here, served)
    found = documents(served)
    assert found[f"SalesInvoice {id_}"] == ("Committed", "100.00", "8.00")
    assert found.get(f"ReturnInvoice {id_}", ("Cancelled",))[0] == "Cancelled"
    assert set(await here.states()) <= {"avalara done"}
