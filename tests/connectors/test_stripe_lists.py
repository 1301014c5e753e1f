"""Stripe's lists, as the simulator serves them and the source reads them: whatever the status, whole, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.stripe.lists import LISTS
from connectors.stripe.sandbox_env import environment
from connectors.stripe.settings import StripeSettings
from connectors.stripe.simulator import StripeSimulator
from connectors.stripe.source import StripeSource
from hub.errors import OutcomeError
from hub.steps import FAMILIES
from tests.serving import served

START = 1_793_620_800


@pytest.fixture
async def town() -> AsyncIterator[tuple[StripeSimulator, StripeSource]]:
    stripe = StripeSimulator(seed=7, clock=lambda: float(START), start=START)
    with served(stripe.app) as url:
        key = environment(url)["HUB_STRIPE_API_KEY"]
        given: dict[str, Any] = {"api_key": key, "webhook_secrets": "whsec_x", "api_base": url, "rate": 100.0}
        source = StripeSource(StripeSettings(**given))
        yield stripe, source
        await source.close()


async def everything(source: StripeSource, object_type: str, since: int | None = None) -> tuple[list[Any], int]:
    found: list[Any] = []
    reads = 0
    cursor: str | None = None
    while True:
        page = await source.objects(object_type, cursor, since)
        found += page.objects
        reads += page.reads
        if page.next is None:
            return found, reads
        cursor = page.next


async def test_canceled_archived_and_older_ones_are_listed_deleted_ones_are_not(
    town: tuple[StripeSimulator, StripeSource],
) -> None:
    stripe, source = town

    def post(path: str, **params: Any) -> str:
        return str(stripe.call("POST", path, params)["id"])

    product, unsold = post("/v1/products", name="Seats"), post("/v1/products", name="Never sold")
    price = post("/v1/prices", product=product, currency="usd", unit_amount=500, recurring={"interval": "month"})
    customers = [post("/v1/customers", name=name) for name in ("Ann", "Ben")]
    subscriptions = [post("/v1/subscriptions", customer=c, items=[{"price": price}]) for c in customers]
    stripe.call("DELETE", f"/v1/subscriptions/{subscriptions[0]}", {})
    post(f"/v1/prices/{price}", active=False)
    post(f"/v1/products/{product}", active=False)
    stripe.call("DELETE", f"/v1/products/{unsold}", {})
    stripe.call("DELETE", f"/v1/customers/{customers[1]}", {})
    usual = stripe.call("GET", "/v1/subscriptions", {})["data"]
    assert usual == [], "without a status Stripe leaves out the canceled"
    assert {s["id"] for s in (await everything(source, "subscription"))[0]} == set(subscriptions)
    assert [c["id"] for c in (await everything(source, "customer"))[0]] == customers[:1]
    assert [(p["id"], p["active"]) for p in (await everything(source, "product"))[0]] == [(product, False)]
    assert [(p["id"], p["active"]) for p in (await everything(source, "price"))[0]] == [(price, False)]
    assert await source.read("customer", customers[1]) == {"id": customers[1], "object": "customer", "deleted": True}
    assert await source.read("product", unsold) is None
    stripe.advance(100)
    new = post("/v1/invoices", customer=customers[0])
    assert [i["id"] for i in (await everything(source, "invoice", START + 100))[0]] == [new]
    assert len((await everything(source, "invoice"))[0]) == 3


async def test_pages_are_followed_to_the_end_and_lists_inside_too(town: tuple[StripeSimulator, StripeSource]) -> None:
    stripe, source = town
    customer = stripe.call("POST", "/v1/customers", {"name": "Bulk"})["id"]
    invoice = stripe.call("POST", "/v1/invoices", {"customer": customer})["id"]
    for n in range(13):
        stripe.call("POST", "/v1/invoiceitems", {"customer": customer, "invoice": invoice, "amount": 100 + n})
    (listed,), reads = await everything(source, "invoice")
    assert (len(listed["lines"]["data"]), listed["lines"]["has_more"], reads) == (13, False, 2)
    for n in range(204):
        stripe.call("POST", "/v1/customers", {"name": f"Customer {n}"})
    found, reads = await everything(source, "customer")
    assert (len({c["id"] for c in found}), reads) == (205, 3)


async def test_a_type_without_a_list_is_refused_by_name(town: tuple[StripeSimulator, StripeSource]) -> None:
    _, source = town
    with pytest.raises(OutcomeError, match="charge"):
        await source.objects("charge", None, None)
    assert set(LISTS) == set(FAMILIES)


def test_the_simulator_refuses_what_stripe_refuses() -> None:
    stripe = StripeSimulator(seed=7, clock=lambda: float(START), start=START)
    product = stripe.call("POST", "/v1/products", {"name": "Seats"})["id"]
    stripe.call("POST", "/v1/prices", {"product": product, "currency": "usd", "unit_amount": 1})
    for method, path, params in (
        ("DELETE", f"/v1/products/{product}", {}),
        ("GET", "/v1/products", {"ids": [product], "starting_after": product}),
        ("GET", "/v1/subscriptions", {"status": "everything"}),
        ("GET", "/v1/customers", {"limit": 101}),
    ):
        with pytest.raises(Exception, match=r".") as refused:
            stripe.call(method, path, params)
        assert type(refused.value).__name__ == "StripeError", path
