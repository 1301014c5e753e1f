"""The NetSuite connector through the real library, over HTTP, against the simulator: what ends up in the ledger."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.netsuite.destination import NetSuite, create
from hub.errors import Defer, Outcome, Receipt, Unknown
from hub.mapping import Mappings, run_examples
from hub.model import REVIVE, REVIVED, VOIDED, Record
from tests.connectors.netsuite_kit import MAPPINGS, customer, invoice, job, line, make, payment, world


async def send(destination: NetSuite, *records: Record) -> Outcome:
    return (await destination.send([job(*records)]))[0]


async def booked(destination: NetSuite, *records: Record) -> Receipt:
    outcome = await send(destination, *records)
    assert isinstance(outcome, Receipt), outcome
    return outcome


def sale(mappings: Mappings, document: dict[str, Any]) -> tuple[Record, Record]:
    return make(mappings, "customer", customer=customer()), make(
        mappings, "invoice", invoice=document, customer=customer()
    )


def test_the_examples_in_the_mapping_files_hold(netsuite_mappings: Mappings) -> None:
    results = run_examples(netsuite_mappings)
    assert [f"{r.file} {r.name}: {r.difference}" for r in results if not r.ok] == []
    shipped = {path.name for path in (MAPPINGS / "netsuite").iterdir()}
    assert {r.file.rpartition("/")[2] for r in results} == shipped


@pytest.mark.parametrize("auth", ["oauth2", "token"])
async def test_customer_invoice_and_payment_with_either_way_to_log_in(auth: str, netsuite_mappings: Mappings) -> None:
    # 100.00 + 3 x 20.00 = 160.00, less 10% = 144.00, plus 20% tax 28.80 = 172.80
    document = invoice(
        [line(10000), line(6000, quantity=3, description="Seats")],
        17280,
        total_discount_amounts=[{"amount": 1600, "discount": "di_1"}],
        total_taxes=[{"amount": 2880, "tax_behavior": "exclusive", "tax_rate_details": {"tax_rate": "txr_1"}}],
        amount_paid=17280,
    )
    with world() as w:
        destination = w.destination() if auth == "oauth2" else w.token_destination()
        assert "TSTDRV1234567" in await destination.ping()
        receipt = await booked(destination, *sale(netsuite_mappings, document))
        paid = await booked(
            destination,
            make(netsuite_mappings, "payment", invoice_payment=payment(document["total"]), invoice=document),
        )
        await destination.close()
        state = w.sim.state()
    assert [(link.object_id, link.record, link.key) for link in receipt.links + paid.links] == [
        ("cus_1", "customer", "stripe_cus_1"),
        ("in_1", "invoice", "stripe_in_1"),
        ("inpay_1", "customerPayment", "stripe_inpay_1"),
    ]
    (kept,) = state["invoice"]
    assert kept["id"] == receipt.links[1].vendor_id
    assert kept["total"] == "172.80"
    assert [entry["amount"] for entry in kept["lines"]] == ["100.00", "60.00", "-16.00", "28.80"]
    assert (kept["status"], kept["amountRemaining"], kept["currency"]) == ("Paid In Full", "0.00", "EUR")
    assert kept["customer"] == "stripe_cus_1"
    assert kept["otherRefNum"] == "ACME-0001"
    (paid_in,) = state["customerPayment"]
    assert (paid_in["total"], paid_in["apply"]) == ("172.80", [{"doc": "stripe_in_1", "amount": "172.80"}])
    (company,) = state["customer"]
    assert (company["companyName"], company["balance"]) == ("Acme Ltd", "0.00")


@pytest.mark.parametrize(
    ("currency", "lines", "total", "shown"),
    [
        ("jpy", [line(1100, taxes=[{"amount": 100, "tax_behavior": "inclusive"}])], 1100, "1100"),
        ("kwd", [line(12340), line(5550)], 17890, "17.89"),
        ("usd", [line(10), line(20)], 30, "0.30"),
        ("usd", [line(99999999999), line(-1)], 99999999998, "999999999.98"),
    ],
)
async def test_totals_are_exact_in_every_kind_of_currency(
    currency: str, lines: list[dict[str, Any]], total: int, shown: str, netsuite_mappings: Mappings
) -> None:
    with world() as w:
        destination = w.destination()
        await booked(destination, *sale(netsuite_mappings, invoice(lines, total, currency=currency)))
        await destination.close()
        state = w.sim.state()
    assert state["invoice"][0]["total"] == shown
    assert state["invoice"][0]["currency"] == currency.upper()


async def test_amounts_travel_as_exact_number_literals(netsuite_mappings: Mappings) -> None:
    with world() as w:
        destination = w.destination()
        await booked(destination, *sale(netsuite_mappings, invoice([line(10), line(123456789012)], 123456789022)))
        await destination.close()
        ((_, path, body),) = [call for call in w.tap.calls("/invoice/") if call[0] == "PUT"]
    assert path.endswith("/services/rest/record/v1/invoice/eid:stripe_in_1?replace=item")
    assert re.findall(rb'"amount":([^,}]+)', body) == [b"0.10", b"1234567890.12"]


async def test_the_same_send_again_leaves_one_record_with_the_same_lines(netsuite_mappings: Mappings) -> None:
    document = invoice([line(5000), line(2500)], 7500, amount_paid=7500)
    records = (
        *sale(netsuite_mappings, document),
        make(netsuite_mappings, "payment", invoice_payment=payment(document["total"]), invoice=document),
    )
    with world() as w:
        destination = w.destination()
        first = await booked(destination, *records)
        once = w.sim.state()
        second = await booked(destination, *records)
        twice = w.sim.state()
        await destination.close()
    assert first.links == second.links
    assert once == twice
    assert [len(twice[kind]) for kind in ("customer", "invoice", "customerPayment")] == [1, 1, 1]
    assert len(twice["invoice"][0]["lines"]) == 2


async def test_a_record_already_as_wanted_costs_no_call(netsuite_mappings: Mappings) -> None:
    records = sale(netsuite_mappings, invoice([line(5000)], 5000))
    with world() as w:
        destination = w.destination()
        first = await booked(destination, *records)
        again = tuple(replace(record, link=link) for record, link in zip(records, first.links, strict=True))
        before = len(w.tap.seen)
        second = await booked(destination, *again)
        await destination.close()
        assert len(w.tap.seen) == before
    assert second.links == ()


async def test_void_closes_the_invoice_with_a_credit_memo(netsuite_mappings: Mappings) -> None:
    # 100.00 + 20.00 tax; 27.00 was credited before, so 93.00 is open and is closed.
    document = invoice(
        [line(10000)],
        12000,
        total_taxes=[{"amount": 2000, "tax_behavior": "exclusive", "tax_rate_details": {"tax_rate": "txr_1"}}],
        pre_payment_credit_notes_amount=2700,
    )
    with world() as w:
        destination = w.destination()
        await booked(destination, *sale(netsuite_mappings, document))
        await booked(destination, make(netsuite_mappings, "credit_note", credit_note=note(2700, 0), invoice=document))
        assert w.sim.state()["invoice"][0]["amountRemaining"] == "93.00"
        void = await booked(destination, make(netsuite_mappings, "void", invoice=document))
        await destination.close()
        state = w.sim.state()
    assert (void.links[0].key, void.links[0].status) == ("stripe_void_in_1", "voided")
    assert (state["invoice"][0]["amountRemaining"], state["invoice"][0]["status"]) == ("0.00", "Paid In Full")
    memo = next(m for m in state["creditMemo"] if m["externalId"] == "stripe_void_in_1")
    assert [entry["amount"] for entry in memo["lines"]] == ["100.00", "20.00", "-27.00"]
    assert (memo["total"], memo["unapplied"], memo["status"]) == ("93.00", "0.00", "Fully Applied")


def note(before: int, after: int) -> dict[str, Any]:
    total = before + after
    return {
        "id": "cn_1", "object": "credit_note", "number": "ACME-0001-CN-01", "invoice": "in_1", "customer": "cus_1",
        "currency": "eur", "created": 1768089600, "subtotal": total, "total": total, "amount": total,
        "pre_payment_amount": before, "post_payment_amount": after, "discount_amount": 0, "discount_amounts": [],
        "lines": {"object": "list", "has_more": False, "data": [{**line(total), "id": "cnli_1"}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "remaining", "unapplied"), [(3000, 0, "70.00", "0.00"), (0, 3000, "100.00", "30.00")]
)
async def test_a_credit_note_takes_off_only_what_was_not_paid(
    before: int, after: int, remaining: str, unapplied: str, netsuite_mappings: Mappings
) -> None:
    document = invoice([line(10000)], 10000)
    with world() as w:
        destination = w.destination()
        memo = make(netsuite_mappings, "credit_note", credit_note=note(before, after), invoice=document)
        await booked(destination, *sale(netsuite_mappings, document), memo)
        await destination.close()
        state = w.sim.state()
    assert state["invoice"][0]["amountRemaining"] == remaining
    assert (state["creditMemo"][0]["total"], state["creditMemo"][0]["unapplied"]) == ("30.00", unapplied)


async def test_a_deleted_customer_becomes_inactive_if_netsuite_has_it(netsuite_mappings: Mappings) -> None:
    gone = make(netsuite_mappings, "customer_deleted", customer={"id": "cus_1", "object": "customer", "deleted": True})
    with world() as w:
        destination = w.destination()
        never = await booked(destination, gone)
        assert never.links == ()
        assert w.sim.state()["customer"] == []
        await booked(destination, make(netsuite_mappings, "customer", customer=customer()))
        await booked(destination, gone)
        await destination.close()
        (kept,) = w.sim.state()["customer"]
    assert (kept["isInactive"], kept["companyName"]) == (True, "Acme Ltd")


async def test_a_customer_that_we_made_inactive_is_made_active_and_nothing_else(netsuite_mappings: Mappings) -> None:
    gone = make(netsuite_mappings, "customer_deleted", customer={"id": "cus_1", "object": "customer", "deleted": True})
    with world() as w:
        destination = w.destination()
        await booked(destination, make(netsuite_mappings, "customer", customer=customer()))
        (link,) = (await booked(destination, gone)).links
        assert link.status == VOIDED
        again = Record("customer", REVIVE, "cus_1", "stripe_cus_1", {}, REVIVED, link.mapping, link)
        assert await destination.find(job(again)) is None
        done = await booked(destination, again)
        assert (done.links[0].status, done.links[0].digest) == (None, REVIVED)
        assert isinstance(await destination.find(job(again)), Receipt)
        await destination.close()
        (kept,) = w.sim.state()["customer"]
    assert (kept["isInactive"], kept["companyName"]) == (False, "Acme Ltd")
    sent = [body for method, _, body in w.tap.calls("/customer/") if method == "PATCH"]
    assert sent[1:] == [b'{"isInactive":false}']


async def applied_then_lost(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
    """The request is done, and the connection breaks in the middle of the reply."""

    async def swallow(message: Message) -> None:
        pass

    await app(scope, receive, swallow)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": False})


async def test_applied_then_the_reply_lost_is_found_and_not_sent_twice(netsuite_mappings: Mappings) -> None:
    document = invoice([line(10000), line(50)], 10050, amount_paid=10050)
    records = (
        *sale(netsuite_mappings, document),
        make(netsuite_mappings, "payment", invoice_payment=payment(document["total"]), invoice=document),
    )
    with world() as w:
        destination = w.destination()
        await booked(destination, *records[:2])
        w.tap.act = applied_then_lost
        outcome = await send(destination, *records)
        assert isinstance(outcome, Unknown)
        w.tap.act = None
        assert (
            await destination.find(job(*records)) is None
        )  # only the customer was written again: the payment is not there
        w.tap.act = applied_then_lost
        assert isinstance(await send(destination, records[2]), Unknown)
        w.tap.act = None
        calls = len(w.tap.seen)
        found = await destination.find(job(*records))
        assert len(w.tap.seen) == calls + 3
        await destination.close()
        state = w.sim.state()
    assert isinstance(found, Receipt)
    assert [link.vendor_id for link in found.links] == [
        state[kind][0]["id"] for kind in ("customer", "invoice", "customerPayment")
    ]
    assert len(state["customerPayment"]) == 1


async def test_find_does_not_take_a_different_document_for_ours(netsuite_mappings: Mappings) -> None:
    records = sale(netsuite_mappings, invoice([line(10000)], 10000))
    with world() as w:
        destination = w.destination()
        await booked(destination, *records)
        for changed in ([line(10001)], [line(10000), line(500)]):
            wanted = make(
                netsuite_mappings,
                "invoice",
                customer=customer(),
                invoice=invoice(changed, sum(c["amount"] for c in changed)),
            )
            assert await destination.find(job(wanted)) is None
        assert isinstance(await destination.find(job(*records)), Receipt)
        await destination.close()


async def test_requests_at_once_stay_within_the_limit(netsuite_mappings: Mappings) -> None:
    records = [
        make(netsuite_mappings, "customer", customer=customer(id=f"cus_{n}", name=f"Acme {n}")) for n in range(12)
    ]
    with world(limit=3, service_time=0.02) as w:
        careful = w.destination(concurrency=3)
        outcomes = await asyncio.gather(*(send(careful, record) for record in records))
        assert all(isinstance(outcome, Receipt) for outcome in outcomes)
        assert w.sim.most_at_once == 3
        await careful.close()
        greedy = w.destination(concurrency=8)
        outcomes = await asyncio.gather(*(send(greedy, record) for record in records))
        refused = [outcome for outcome in outcomes if isinstance(outcome, Defer)]
        await greedy.close()
    assert refused
    assert all(outcome.pause and 2 <= outcome.delay <= 6 for outcome in refused)


async def test_one_token_serves_many_and_a_401_is_repaired_once(netsuite_mappings: Mappings) -> None:
    records = [
        make(netsuite_mappings, "customer", customer=customer(id=f"cus_{n}", name=f"Acme {n}")) for n in range(3)
    ]
    with world() as w:
        destination = w.destination()
        assert all(isinstance(o, Receipt) for o in await asyncio.gather(*(send(destination, r) for r in records)))
        assert len(w.tap.calls("/oauth2/")) == 1
        w.sim.doors.expire_tokens()
        assert all(isinstance(o, Receipt) for o in await asyncio.gather(*(send(destination, r) for r in records)))
        await destination.close()
        assert len(w.tap.calls("/oauth2/")) == 2


def test_the_policy_keeps_a_claim_longer_than_any_send(netsuite_mappings: Mappings) -> None:
    with world() as w:
        policy = create(w.settings()).policy
    assert (policy.kind, policy.slots, policy.unknown_wait) == ("ledger", 3, 900.0)
    assert policy.lease > 3 * 120.0


def test_no_money_is_ever_a_float(netsuite_mappings: Mappings) -> None:
    def kinds(value: Any) -> set[type]:
        if isinstance(value, dict):
            return set().union(*map(kinds, value.values()))
        if isinstance(value, list):
            return set().union(*map(kinds, value))
        return {type(value)}

    record = sale(netsuite_mappings, invoice([line(3333)], 3333))[1]
    assert kinds(record.fields) <= {str, int, bool, Decimal}
