"""`StripeSource` and the thin destination against the Stripe simulator, through the real library and real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from connectors.stripe.client import PINNED_VERSION
from connectors.stripe.destination import create
from connectors.stripe.sandbox_env import environment
from connectors.stripe.settings import StripeSettings
from connectors.stripe.simulator import StripeSimulator
from connectors.stripe.source import StripeSource
from hub.errors import Defer, OutcomeError, Receipt
from hub.model import Event, EventKind, Job
from tests.serving import served

NOW = 1_795_176_000.0  # 2026-11-20T12:00:00Z


@pytest.fixture
def sim() -> StripeSimulator:
    return StripeSimulator(seed=7, clock=lambda: NOW)


@pytest.fixture
def settings(sim: StripeSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeSettings]:
    with served(sim.app) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        yield StripeSettings(rate=100.0)


async def read(settings: StripeSettings, object_type: str, object_id: str) -> Any:
    source = StripeSource(settings)
    try:
        return await source.read(object_type, object_id)
    finally:
        await source.close()


def invoice_with_lines(sim: StripeSimulator, count: int) -> dict[str, Any]:
    customer = sim.call("POST", "/v1/customers", {"name": "Ada Example"})["id"]
    for number in range(count):
        item = {"customer": customer, "amount": 100 + number, "currency": "usd", "description": f"line {number}"}
        sim.call("POST", "/v1/invoiceitems", item)
    return sim.call("POST", "/v1/invoices", {"customer": customer, "pending_invoice_items_behavior": "include"})


async def test_an_invoice_of_many_pages_comes_whole(sim: StripeSimulator, settings: StripeSettings) -> None:
    made = invoice_with_lines(sim, 125)
    assert made["lines"]["has_more"] is True
    got = await read(settings, "invoice", made["id"])
    assert got["lines"]["has_more"] is False
    assert sorted(line["amount"] for line in got["lines"]["data"]) == list(range(100, 225))
    assert sum(line["amount"] for line in got["lines"]["data"]) == got["total"] == 125 * 100 + 124 * 125 // 2


async def test_a_deleted_customer_and_one_that_never_was(sim: StripeSimulator, settings: StripeSettings) -> None:
    customer = sim.call("POST", "/v1/customers", {"name": "Ada Example"})["id"]
    assert (await read(settings, "customer", customer))["name"] == "Ada Example"
    sim.call("DELETE", f"/v1/customers/{customer}")
    assert await read(settings, "customer", customer) == {"id": customer, "object": "customer", "deleted": True}
    assert await read(settings, "customer", "cus_never") is None


async def test_an_event_is_read_as_it_was_sent(sim: StripeSimulator, settings: StripeSettings) -> None:
    event = sim.emit("invoice.paid", {})
    source = StripeSource(settings)
    assert await source.read_event(event["id"]) == json.loads(json.dumps(event))
    newest = await source.newest_event()
    await source.close()
    assert newest is not None
    assert newest["id"] == event["id"]


async def test_a_wrong_key_pauses(settings: StripeSettings) -> None:
    wrong = settings.model_copy(update={"api_key": SecretStr("sk_test_wrong")})
    with pytest.raises(OutcomeError) as caught:
        await read(wrong, "customer", "cus_1")
    assert isinstance(caught.value.outcome, Defer)
    assert caught.value.outcome.pause


def job(notification: dict[str, Any]) -> Job:
    created = datetime.fromisoformat(notification["created"]).astimezone(UTC)
    related = notification["related_object"] or {}
    event = Event(
        id=notification["id"],
        kind=EventKind.THIN,
        type=notification["type"],
        body=json.dumps(notification).encode(),
        created=created,
        received_at=created,
        livemode=notification["livemode"],
        object_type=related.get("type"),
        object_id=related.get("id"),
        seq=1,
    )
    return Job(1, event)


async def send(settings: StripeSettings, notification: dict[str, Any]) -> Any:
    destination = create(settings)
    try:
        (outcome,) = await destination.send([job(notification)])
    finally:
        await destination.close()
    assert isinstance(outcome, Receipt)
    (event,) = outcome.follow_ups
    return event


async def test_a_thin_notification_about_a_meter(sim: StripeSimulator, settings: StripeSettings) -> None:
    meter = sim.call(
        "POST",
        "/v1/billing/meters",
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}},
    )
    event = await send(settings, sim.emit_thin("v1.billing.meter.error_report_triggered", meter["id"]))
    assert (event.type, event.object_type) == ("billing.meter.error_report_triggered", "billing.meter")
    body = json.loads(event.body)
    assert body["data"]["object"] == meter
    assert (body["api_version"], body["created"], body["livemode"]) == (PINNED_VERSION, int(NOW), False)


async def test_a_thin_notification_about_a_customer_deleted_since(
    sim: StripeSimulator, settings: StripeSettings
) -> None:
    customer = sim.call("POST", "/v1/customers", {"name": "Ada Example"})["id"]
    notification = sim.emit_thin("v1.customer.updated", customer)
    sim.call("DELETE", f"/v1/customers/{customer}")
    event = await send(settings, notification)
    assert json.loads(event.body)["data"]["object"] == {"id": customer, "object": "customer", "deleted": True}
    assert (event.customer_id, event.rank) == (customer, 9)


async def test_a_thin_notification_about_nothing(sim: StripeSimulator, settings: StripeSettings) -> None:
    event = await send(settings, sim.emit_thin("v1.billing.meter.no_meter_found"))
    assert event.type == "billing.meter.no_meter_found"
    assert event.object_id is None
    assert isinstance(json.loads(event.body)["data"]["object"], dict)
