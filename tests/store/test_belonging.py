"""Objects that name no customer, and mappings that read all that belongs to one: payments, refunds, disputes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub import operate
from hub.db import Database
from hub.errors import Defer, Reject, Unknown
from hub.model import Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice, receipt

REFUND = """
version: 1
record: Refund
on: [refund.created]
object: refund
needs:
  payments: {object: invoice_payment, list: payment_intent, id: refund.payment_intent}
  invoice: {object: invoice, id: "payments[0].invoice"}
  notes: {object: credit_note, list: invoice, id: "payments[0].invoice"}
key: concat('k_', refund.id)
fields:
  status: concat(invoice.id, ' ', holding(notes, refund.id)[0].id)
"""
PAYMENT = """
version: 1
record: Payment
on: [invoice_payment.paid]
object: invoice_payment
needs:
  invoice: {object: invoice, id: invoice_payment.invoice}
parents: [doc]
key: concat('k_', invoice_payment.id)
fields:
  status: invoice.status
"""
RATE = """
version: 1
record: Rate
on: [refund.updated]
object: refund
needs:
  moved: {object: balance_transaction, list: source, id: refund.id}
key: concat('k_', refund.id)
fields:
  status: concat(rate(`1000`, 'eur', moved[0], 'usd'))
"""


@pytest.fixture
def engine(db: Database, clock: Clock, tmp_path: Path) -> Engine:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "refund.yaml").write_text(REFUND)
    (tmp_path / "vendor" / "payment.yaml").write_text(PAYMENT)
    (tmp_path / "vendor" / "rate.yaml").write_text(RATE)
    return build(db, clock, tmp_path, "ledger")


def payment(id_: str = "inpay_1", of: str = "in_1") -> dict[str, object]:
    return {
        "id": id_,
        "object": "invoice_payment",
        "invoice": of,
        "status": "paid",
        "payment": {"payment_intent": "pi_1"},
    }


def refund(**more: object) -> dict[str, object]:
    return {"id": "re_1", "object": "refund", "payment_intent": "pi_1", "charge": "ch_1", **more}


async def lanes(engine: Engine) -> list[str]:
    return [r["lane"] for r in await engine.rows("lane")]


async def test_a_payment_goes_into_the_lane_of_its_invoices_customer(engine: Engine) -> None:
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    await engine.accept(event("evt_2", "invoice_payment.paid", payment()))
    assert await lanes(engine) == ["cus_1", "cus_1"]
    known = await engine.db.fetch_text("SELECT customer_id FROM events ORDER BY seq")
    assert [r["customer_id"] for r in known] == ["cus_1", "cus_1"], "so it is found among the customer's events"


async def test_also_when_both_arrive_in_one_group(engine: Engine) -> None:
    await engine.accept(
        event("evt_2", "invoice_payment.paid", payment()), event("evt_1", "invoice.finalized", invoice("open"))
    )
    assert await lanes(engine) == ["cus_1", "cus_1"]


async def test_before_its_invoice_is_known_all_payments_of_it_share_a_lane(engine: Engine) -> None:
    await engine.accept(event("evt_1", "invoice_payment.paid", payment()))
    await engine.accept(event("evt_2", "invoice_payment.paid", payment("inpay_2")))
    await engine.accept(event("evt_3", "refund.created", refund(customer=None)))
    assert await lanes(engine) == ["in_1", "in_1", "ch_1"]


async def test_what_came_before_its_invoice_goes_on_in_the_lane_of_the_customer(engine: Engine) -> None:
    engine.source.objects["cus_1"] = customer()
    await engine.accept(event("evt_1", "invoice_payment.paid", payment()))
    await engine.accept(event("evt_2", "invoice_payment.paid", payment("inpay_2")))
    await engine.accept(event("evt_3", "invoice.finalized", invoice("open")))
    assert await lanes(engine) == ["in_1", "in_1", "cus_1"]
    await engine.drain()
    assert await lanes(engine) == ["cus_1", "cus_1", "cus_1"]
    assert await engine.states() == ["done", "done", "done"]
    written = [key for _, key, _ in engine.destination.written]
    assert sorted(written) == ["k_cus_1", "k_in_1", "k_inpay_1", "k_inpay_2"], "each once, by whoever came first"
    assert written.index("k_in_1") < min(written.index("k_inpay_1"), written.index("k_inpay_2"))
    (row, *_) = await engine.rows(
        "failures, (SELECT count(*) FROM attempts a WHERE a.delivery_id = deliveries.id) AS n"
    )
    assert (row["failures"], row["n"]) == (0, 1), "to be moved is no attempt"


async def test_its_lane_is_made_if_nothing_of_the_customer_is_known_but_what_stripe_says(engine: Engine) -> None:
    engine.source.objects |= {"in_1": invoice("paid"), "cus_1": customer()}
    await engine.accept(event("evt_1", "invoice_payment.paid", payment()))
    await engine.drain()
    assert (await lanes(engine), await engine.states()) == (["cus_1"], ["done"])


async def test_what_has_a_customer_of_its_own_asks_nobody(engine: Engine) -> None:
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    await engine.accept(event("evt_2", "refund.created", refund(customer="cus_2", invoice="in_1")))
    assert await lanes(engine) == ["cus_1", "cus_2"]


async def test_a_mapping_reads_all_that_belongs_to_an_object_as_it_is_now(engine: Engine) -> None:
    objects = engine.source.objects
    objects["inpay_1"], objects["in_1"] = payment(), invoice("paid")
    objects["cn_1"] = {"id": "cn_1", "object": "credit_note", "invoice": "in_1", "refunds": [{"refund": "re_0"}]}
    objects["cn_2"] = {"id": "cn_2", "object": "credit_note", "invoice": "in_1", "refunds": [{"refund": "re_1"}]}
    await engine.accept(event("evt_1", "refund.created", refund()))
    await engine.drain()
    assert engine.destination.written == [("Refund", "k_re_1", "in_1 cn_2")]
    asked = ["invoice_payment by payment_intent pi_1", "credit_note by invoice in_1"]
    assert [r for r in engine.source.reads if " by " in r] == asked, "each list once"


async def test_what_stripe_makes_a_moment_later_is_waited_for_and_nothing_is_sent_before(
    engine: Engine, clock: Clock
) -> None:
    await engine.accept(event("evt_1", "refund.updated", refund(customer="cus_1")))
    await engine.drain()
    (row,) = await engine.rows("state, code, cause, due_at")
    assert (row["state"], row["code"], row["due_at"].timestamp() > clock()) == ("waiting", "not_there_yet", True)
    assert "what it made of the EUR" in row["cause"]
    moved = {"id": "txn_1", "object": "balance_transaction", "source": "re_1", "currency": "usd", "amount": -1083}
    engine.source.objects["txn_1"] = moved
    clock.advance(3600)
    await engine.drain()
    assert (await engine.states(), engine.destination.written) == (["done"], [("Rate", "k_re_1", "1.083")])


async def test_what_stripe_never_makes_is_a_dead_letter_with_its_own_words(engine: Engine, clock: Clock) -> None:
    await engine.accept(event("evt_1", "refund.updated", refund(customer="cus_1")))
    await engine.drain()
    clock.advance(3 * 86_400)
    await engine.drain()
    (row,) = await engine.rows("state, code, fix")
    assert (row["state"], row["code"]) == ("dead", "not_there_yet")
    assert "look for the payment in Stripe" in row["fix"]


async def test_an_invoice_known_as_a_draft_only_is_read_before_anything_is_made_of_it(engine: Engine) -> None:
    engine.source.objects |= {"in_1": invoice("open"), "cus_1": customer()}
    await engine.accept(event("evt_1", "invoice.finalization_failed", invoice("draft", total=1)))
    await engine.accept(event("evt_2", "invoice_payment.paid", payment(), 1_789_000_001))
    await engine.drain()
    assert engine.destination.written == [
        ("Account", "k_cus_1", "Acme"), ("Doc", "k_in_1", "open"), ("Payment", "k_inpay_1", "open")
    ]  # fmt: skip
    assert engine.source.reads.count("in_1") == 1


async def test_nothing_belongs_to_it(engine: Engine) -> None:
    await engine.accept(event("evt_1", "refund.created", refund(payment_intent=None, charge=None)))
    await engine.drain()
    assert engine.destination.written == [("Refund", "k_re_1", " ")]
    assert engine.source.reads == [], "what belongs to nothing is not asked for"


async def test_a_list_that_cannot_be_read_puts_the_delivery_off(engine: Engine, clock: Clock) -> None:
    engine.source.trouble = Defer("limited", delay=60.0)
    await engine.accept(event("evt_1", "refund.created", refund()))
    await engine.drain()
    assert (await engine.states(), engine.destination.written) == (["waiting"], [])
    engine.source.trouble = None
    clock.advance(61)
    await engine.drain()
    assert await engine.states() == ["done"]


def refused(job: Job) -> Reject | None:
    return Reject("bad", "not this one", "mend it") if job.records[-1].record == "Doc" else None


async def test_a_payment_is_held_behind_the_dead_letter_of_its_invoice(engine: Engine) -> None:
    engine.source.objects |= {"cus_1": customer()}
    engine.destination.answers = refused
    await engine.accept(
        event("evt_1", "invoice.finalized", invoice("open")),
        event("evt_2", "invoice_payment.paid", payment(), 1_789_000_001),
        event("evt_3", "invoice.finalized", invoice("open", "in_2"), 1_789_000_002),
    )
    await engine.drain()
    rows = await engine.rows("id, state, held_by, note")
    assert [(r["state"], r["held_by"]) for r in rows] == [("dead", None), ("held", rows[0]["id"]), ("dead", None)]
    assert "a dead letter of in_1" in rows[1]["note"]
    assert [record for record, _, _ in engine.destination.written] == ["Account", "Doc"] * 2, (
        "the payment was not tried"
    )

    engine.destination.answers = receipt
    moved = await engine.db.run(operate.retry, rows[0]["id"], datetime.fromtimestamp(engine.clock(), UTC))
    assert (moved.deliveries, moved.released) == (1, 1)
    await engine.drain()
    assert await engine.states() == ["done", "done", "dead"]


async def test_whose_invoice_is_linked_is_not_held_by_a_later_dead_letter_of_it(engine: Engine) -> None:
    engine.source.objects |= {"cus_1": customer()}
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    await engine.drain()
    engine.destination.answers = refused
    await engine.accept(
        event("evt_2", "invoice.updated", invoice("open", total=5), 1_789_000_001),
        event("evt_3", "invoice_payment.paid", payment(), 1_789_000_002),
    )
    await engine.drain()
    assert await engine.states() == ["done", "dead", "done"]


async def test_a_payment_waits_as_long_as_its_invoice_is_not_known_to_be_written(engine: Engine, clock: Clock) -> None:
    """Else it would write the invoice while the vendor may still be writing it."""
    engine.source.objects |= {"cus_1": customer()}
    engine.destination.answers = lambda job: Unknown("no reply") if job.records[-1].record == "Doc" else None
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    await engine.drain()
    await engine.accept(event("evt_2", "invoice_payment.paid", payment(), 1_789_000_001))
    await engine.drain()
    rows = await engine.rows("state, due_at, failures, note")
    assert [(r["state"], r["failures"]) for r in rows] == [("unknown", 1), ("waiting", 0)]
    assert rows[0]["due_at"] == rows[1]["due_at"]
    engine.destination.found = receipt
    clock.advance(31)
    await engine.drain()
    assert await engine.states() == ["done", "done"]
    assert [record for record, _, _ in engine.destination.written] == ["Account", "Doc", "Payment"]


async def test_a_customers_dead_letter_holds_none_of_its_documents(engine: Engine) -> None:
    engine.destination.answers = lambda job: Reject("bad", "no", "mend") if len(job.records) == 1 else None
    await engine.accept(event("evt_1", "customer.created", customer()))
    await engine.accept(event("evt_2", "invoice.finalized", invoice("open"), 1_789_000_001))
    await engine.drain()
    assert await engine.states() == ["dead", "done"]
