"""Which events a transition causes, in which order, saying what: against lists written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.simulator import Simulator
from connectors.stripe.simulator import StripeError, StripeSimulator
from tests.connectors.stripe_kit import DAY, HOUR, START, Account

PAID = [
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice_payment.paid",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
]
FINALIZED = ["invoice.finalized", "invoice.updated", "payment_intent.created"]
FAILED = ["charge.failed", "payment_intent.payment_failed", "invoice.updated", "invoice.payment_failed"]


class Ear(Account):
    """An account with a price and a customer, and silent so far."""

    def __init__(self) -> None:
        super().__init__()
        product = self.post("/v1/products", name="Seats")["id"]
        terms = {"product": product, "currency": "usd", "unit_amount": 1000, "recurring": {"interval": "month"}}
        self.price = self.post("/v1/prices", **terms)["id"]
        self.payer = self.customer()
        item = self.post("/v1/invoiceitems", customer=self.payer, currency="usd", amount=1)["id"]  # fixes the currency
        self.sim.call("DELETE", f"/v1/invoiceitems/{item}")
        self.heard.clear()

    def subscribe(self, **params: Any) -> dict[str, Any]:
        items = [{"price": self.price, "quantity": 2}]
        return self.sim.call("POST", "/v1/subscriptions", {"customer": self.payer, "items": items, **params}, "key-1")


def test_subscribing_charged_automatically_is_one_second_of_events() -> None:
    ear = Ear()
    subscription = ear.subscribe()
    assert subscription["status"] == "active"
    events = ear.since()
    assert [event["type"] for event in events] == [
        "customer.subscription.created",
        "invoice.created",
        *FINALIZED,
        *PAID,
        "customer.subscription.updated",
    ]
    assert {event["created"] for event in events} == {START}
    assert {event["request"]["idempotency_key"] for event in events} == {"key-1"}
    assert len({event["request"]["id"] for event in events}) == 1
    assert {event["api_version"] for event in events} == {"2026-10-28.endive"}
    assert {event["livemode"] for event in events} == {False}
    assert all("account" not in event for event in events)
    assert events[0]["data"]["object"]["status"] == "incomplete"
    assert events[-1]["data"]["previous_attributes"] == {"status": "incomplete"}
    assert [events[1]["data"]["object"][name] for name in ("status", "number")] == ["draft", None]
    paid = events[-3]["data"]["object"]
    assert (paid["status"], paid["billing_reason"]) == ("paid", "subscription_create")


def test_renewal_is_a_draft_for_an_hour() -> None:
    ear = Ear()
    ear.subscribe()
    ear.since()
    ear.sim.advance(24 * DAY)
    (upcoming,) = ear.since()
    assert (upcoming["type"], upcoming["created"]) == ("invoice.upcoming", START + 24 * DAY)
    assert "id" not in upcoming["data"]["object"]
    assert upcoming["data"]["object"]["total"] == 2000
    ear.sim.advance(7 * DAY)
    created, updated = ear.since()
    assert (created["type"], updated["type"]) == ("invoice.created", "customer.subscription.updated")
    assert created["request"] == {"id": None, "idempotency_key": None}
    assert created["data"]["object"]["automatically_finalizes_at"] == START + 31 * DAY + HOUR
    previous = updated["data"]["previous_attributes"]
    assert previous.keys() == {"items", "latest_invoice"}
    assert previous["items"]["data"][0]["current_period_end"] == START + 31 * DAY
    assert "current_period_end" not in updated["data"]["object"]
    ear.sim.advance(HOUR - 1)
    assert ear.types() == []
    ear.sim.advance(1)
    assert ear.types() == [*FINALIZED, *PAID]


def test_failure_past_due_and_recovery() -> None:
    ear = Ear()
    subscription = ear.subscribe()
    ear.sim.set_payment(ear.payer, "fails")
    ear.sim.advance(31 * DAY)
    ear.since()
    ear.sim.advance(HOUR)
    assert ear.types() == [*FINALIZED, *FAILED, "customer.updated", "customer.subscription.updated"]
    assert ear.sim.call("GET", f"/v1/subscriptions/{subscription['id']}")["status"] == "past_due"
    ear.sim.advance(3 * DAY)
    assert ear.types() == FAILED
    ear.sim.set_payment(ear.payer, "ok")
    ear.sim.advance(5 * DAY)
    events = ear.since()
    assert [event["type"] for event in events] == [*PAID, "customer.updated", "customer.subscription.updated"]
    assert events[-1]["data"]["previous_attributes"] == {"status": "past_due"}
    assert events[-1]["created"] == START + 31 * DAY + HOUR + 8 * DAY
    assert events[-4]["data"]["object"]["attempt_count"] == 3


def test_retries_run_out() -> None:
    ear = Ear()
    ear.subscribe()
    ear.sim.set_payment(ear.payer, "fails")
    ear.sim.advance(31 * DAY + HOUR + (3 + 5 + 7) * DAY)
    assert ear.types()[-5:] == [*FAILED, "customer.subscription.deleted"]
    invoice = ear.sim.call("GET", "/v1/invoices", {"customer": ear.payer, "limit": 1})["data"][0]
    assert (invoice["status"], invoice["attempt_count"], invoice["next_payment_attempt"]) == ("open", 4, None)
    ear.sim.call("POST", f"/v1/invoices/{invoice['id']}/mark_uncollectible")
    assert ear.types() == ["invoice.updated", "invoice.marked_uncollectible"]
    ear.sim.call("POST", f"/v1/invoices/{invoice['id']}/void")
    assert ear.types() == ["payment_intent.canceled", "invoice.updated", "invoice.voided"]


def test_first_payment_fails_and_the_subscription_expires() -> None:
    ear = Ear()
    ear.sim.set_payment(ear.payer, "fails")
    assert ear.subscribe()["status"] == "incomplete"
    assert ear.types()[-5:] == [*FAILED, "customer.updated"]
    ear.sim.advance(23 * HOUR)
    assert ear.types() == [
        "customer.subscription.updated",
        "payment_intent.canceled",
        "invoice.updated",
        "invoice.voided",
    ]


def test_sent_invoices_wait_an_hour_and_become_overdue() -> None:
    ear = Ear()
    subscription = ear.subscribe(collection_method="send_invoice", days_until_due=10)
    assert ear.types() == ["customer.subscription.created", "invoice.created"]
    ear.sim.advance(HOUR)
    assert ear.types() == [*FINALIZED, "invoice.sent"]
    ear.sim.advance(10 * DAY)
    assert ear.types() == ["invoice.overdue", "customer.subscription.updated"]
    ear.sim.call("POST", f"/v1/invoices/{subscription['latest_invoice']}/pay", {"paid_out_of_band": True})
    assert ear.types() == [
        "payment_intent.canceled",
        "invoice_payment.paid",
        "invoice.updated",
        "invoice.paid",
        "customer.subscription.updated",
    ]


def test_trial() -> None:
    ear = Ear()
    subscription = ear.subscribe(trial_period_days=10)
    assert subscription["status"] == "trialing"
    assert ear.types() == [
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "invoice.updated",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]
    ear.sim.advance(7 * DAY)
    assert ear.types() == ["invoice.upcoming", "customer.subscription.trial_will_end"]
    ear.sim.advance(3 * DAY)
    created, updated = ear.since()
    assert created["data"]["object"]["total"] == 2000
    assert updated["data"]["previous_attributes"]["status"] == "trialing"


def test_cancelling_now_and_at_the_end() -> None:
    ear = Ear()
    first, second = (
        ear.subscribe(),
        ear.sim.call("POST", "/v1/subscriptions", {"customer": ear.payer, "items": [{"price": ear.price}]}),
    )
    ear.since()
    ear.sim.call("DELETE", f"/v1/subscriptions/{first['id']}")
    assert ear.types() == ["customer.subscription.deleted"]
    ear.sim.call("POST", f"/v1/subscriptions/{second['id']}", {"cancel_at_period_end": True})
    (updated,) = ear.since()
    assert updated["data"]["object"]["cancel_at"] == START + 31 * DAY
    ear.sim.advance(31 * DAY)
    (deleted,) = ear.since()
    assert (deleted["type"], deleted["data"]["object"]["status"]) == ("customer.subscription.deleted", "canceled")
    with pytest.raises(StripeError) as gone:
        ear.sim.call("DELETE", f"/v1/subscriptions/{second['id']}")
    assert gone.value.status == 404


def test_deleting_a_customer_cancels_and_leaves_a_stub() -> None:
    ear = Ear()
    ear.subscribe()
    ear.since()
    ear.sim.call("DELETE", f"/v1/customers/{ear.payer}")
    assert ear.types() == ["customer.subscription.deleted", "customer.deleted"]
    stub = {"id": ear.payer, "object": "customer", "deleted": True}
    assert ear.sim.call("GET", f"/v1/customers/{ear.payer}") == stub


def test_refund_and_credit_note() -> None:
    ear = Ear()
    subscription = ear.subscribe()
    ear.since()
    lines = ear.sim.call("GET", f"/v1/invoices/{subscription['latest_invoice']}/lines")["data"]
    line = {"type": "invoice_line_item", "invoice_line_item": lines[0]["id"], "quantity": 1}
    params = {"invoice": subscription["latest_invoice"], "lines": [line], "refund_amount": 1000}
    ear.sim.call("POST", "/v1/credit_notes", params)
    assert ear.types() == ["charge.refunded", "refund.created", "credit_note.created", "invoice.updated"]


def test_changed_names_are_in_previous_attributes_only_where_they_changed() -> None:
    ear = Ear()
    ear.sim.call("POST", f"/v1/customers/{ear.payer}", {"address": {"city": "Irvine", "country": "US"}})
    ear.since()
    change = {"name": "Ada Renamed", "address": {"city": "New York", "country": "US"}, "metadata": {"crm": "1"}}
    ear.sim.call("POST", f"/v1/customers/{ear.payer}", change)
    (event,) = ear.since()
    assert event["data"]["previous_attributes"] == {
        "address": {"city": "Irvine"},
        "metadata": {"crm": None},
        "name": "Ada Example",
    }
    ear.sim.call("POST", f"/v1/customers/{ear.payer}", {"name": "Ada Renamed"})
    assert ear.types() == []  # nothing changed, nothing said


def test_emit_builds_from_the_newest_object_and_merges() -> None:
    ear = Ear()
    subscription = ear.subscribe()
    ear.since()
    event = ear.sim.emit(
        "invoice.paid", {"account": "acct_other", "api_version": "2020-08-27", "data": {"object": {"total": 7}}}
    )
    assert ear.since() == [event]
    assert (event["account"], event["api_version"]) == ("acct_other", "2020-08-27")
    assert (event["data"]["object"]["id"], event["data"]["object"]["total"]) == (subscription["latest_invoice"], 7)
    assert event["data"]["object"]["status"] == "paid"
    assert ear.sim.call("GET", f"/v1/events/{event['id']}") == event


@pytest.mark.parametrize("event_type", ["invoice.voided", "credit_note.created", "customer.subscription.deleted"])
def test_emit_on_an_empty_account_makes_its_object_quietly(event_type: str) -> None:
    sim = StripeSimulator(clock=lambda: 1_770_000_000.0)
    heard: list[dict[str, Any]] = []
    sim.listen(heard.append)
    event = sim.emit(event_type)
    assert heard == [event]
    obj = event["data"]["object"]
    kind = {"invoice": "invoices", "credit_note": "credit_notes", "subscription": "subscriptions"}[obj["object"]]
    assert sim.call("GET", f"/v1/{kind}/{obj['id']}")["id"] == obj["id"]
    assert obj["status"] == {"invoices": "void", "credit_notes": "issued", "subscriptions": "canceled"}[kind]


def test_unknown_types_whole_events_and_thin_ones() -> None:
    ear = Ear()
    assert ear.sim.emit("treasury.thing.created")["data"]["object"]["object"] == "treasury.thing"
    odd: dict[str, Any] = {
        "id": "evt_odd",
        "object": "event",
        "type": "x",
        "data": {"object": {}},
        "created": ear.sim.now,
    }
    assert ear.sim.emit_event(odd) is odd
    formula = {"formula": "sum"}
    params = {"display_name": "M", "event_name": "m", "default_aggregation": formula}
    meter = ear.sim.call("POST", "/v1/billing/meters", params)["id"]
    thin = ear.sim.emit_thin("v1.billing.meter.error_report_triggered", meter)
    assert thin["related_object"] == {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
    assert "data" not in thin
    assert ear.sim.call("GET", f"/v2/core/events/{thin['id']}")["data"] == {}


def test_bad_meter_events_are_accepted_and_reported_thin() -> None:
    ear = Ear()
    params = {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}}
    ear.sim.call("POST", "/v1/billing/meters", params)
    ear.since()
    payload = {"stripe_customer_id": "cus_nobody", "value": "5"}
    ear.sim.call("POST", "/v1/billing/meter_events", {"event_name": "m", "payload": payload, "identifier": "i1"})
    (thin,) = ear.since()
    assert thin["type"] == "v1.billing.meter.error_report_triggered"
    data = ear.sim.call("GET", f"/v2/core/events/{thin['id']}")["data"]
    assert data["reason"]["error_types"][0]["code"] == "meter_event_customer_not_found"
    with pytest.raises(StripeError, match="already exists"):
        ear.sim.call("POST", "/v1/billing/meter_events", {"event_name": "m", "payload": payload, "identifier": "i1"})
    ear.sim.call("POST", "/v1/billing/meter_events", {"event_name": "none", "payload": payload})
    assert ear.types() == ["v1.billing.meter.no_meter_found"]


def test_events_older_than_30_days_are_gone() -> None:
    ear = Ear()
    ear.subscribe()
    oldest = ear.sim.call("GET", "/v1/events", {"limit": 100})["data"][-1]["id"]
    ear.sim.advance(31 * DAY)
    with pytest.raises(StripeError, match="No such event"):
        ear.sim.call("GET", f"/v1/events/{oldest}")


def test_it_is_a_simulator_like_the_others() -> None:
    simulator: Simulator = StripeSimulator(seed=7, clock=lambda: 1_770_000_000.0)
    assert simulator.state()["invoices"] == []


def test_reset_forgets_everything_but_the_listener() -> None:
    ear = Ear()
    ear.subscribe()
    ear.sim.reset()
    ear.since()
    assert ear.sim.state()["events"] == 0
    ear.sim.call("POST", "/v1/customers", {"name": "Again"})
    assert ear.types() == ["customer.created"]
    assert ear.sim.now == START
