"""The simulator over real HTTP through the real `stripe` package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import stripe

from connectors.stripe.sandbox_env import API_KEY, environment
from connectors.stripe.simulator import StripeSimulator
from tests.serving import served

START = 1_767_225_600
stripe.enable_telemetry = False
ANCHOR = {"billing_cycle_anchor": "now"}
YES = {"display_name": "T", "inclusive": "yes", "percentage": "1"}
TEN_AND_A_HALF = {"currency": "usd", "unit_amount": "10.5"}


@dataclass
class Account:
    sim: StripeSimulator
    url: str
    client: stripe.StripeClient
    http: httpx.Client

    def raw(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {API_KEY}", "Stripe-Version": "2026-10-28.endive"}
        headers.update(kwargs.pop("headers", {}))
        return self.http.request(method, self.url + path, headers={k: v for k, v in headers.items() if v}, **kwargs)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[StripeSimulator, str, httpx.Client]]:
    sim = StripeSimulator(clock=lambda: 1_770_000_000.0, start=START)
    with served(sim.app) as url, httpx.Client() as http:
        yield sim, url, http


@pytest.fixture
async def account(server: tuple[StripeSimulator, str, httpx.Client]) -> AsyncIterator[Account]:
    sim, url, http = server
    sim.reset()
    env = environment(url)
    bases: Any = dict.fromkeys(("api", "connect", "files", "meter_events"), env["HUB_STRIPE_API_BASE"])
    transport = stripe.AIOHTTPClient()
    client = stripe.StripeClient(env["HUB_STRIPE_API_KEY"], base_addresses=bases, http_client=transport)
    yield Account(sim, url, client, http)
    await transport.close_async()  # type: ignore[no-untyped-call]


async def test_a_life_through_the_client(account: Account) -> None:
    v1 = account.client.v1
    customer = await v1.customers.create_async({"name": "Ada Exämple", "metadata": {"crm": "003"}})
    product = await v1.products.create_async({"name": "Seats"})
    price = await v1.prices.create_async(
        {"product": product.id, "currency": "usd", "unit_amount": 1500, "recurring": {"interval": "month"}}
    )
    subscription = await v1.subscriptions.create_async(
        {
            "customer": customer.id,
            "items": [{"price": price.id, "quantity": 3}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "expand": ["latest_invoice"],
        }
    )
    draft: Any = subscription.latest_invoice
    assert (draft.status, draft.total, draft.lines.data[0].quantity_decimal) == ("draft", 4500, 3)
    account.sim.advance(3600)
    invoice = await v1.invoices.retrieve_async(draft.id, {"expand": ["customer", "payments"]})
    assert (invoice.status, invoice.customer.name) == ("open", "Ada Exämple")  # type: ignore[union-attr]
    paid = await v1.invoices.pay_async(invoice.id)
    assert paid.status == "paid"
    payments = await v1.invoice_payments.list_async({"invoice": invoice.id})
    intent_id: Any = payments.data[0].payment.payment_intent
    intent = await v1.payment_intents.retrieve_async(intent_id, {"expand": ["latest_charge"]})
    charge: Any = intent.latest_charge
    refund = await v1.refunds.create_async({"charge": charge.id, "amount": 500})
    assert refund.status == "succeeded"
    item = subscription.items.data[0]
    await v1.subscriptions.update_async(subscription.id, {"items": [{"id": item.id, "quantity": 4}]})
    canceled = await v1.subscriptions.cancel_async(subscription.id, {"invoice_now": False})
    assert canceled.status == "canceled"
    events = await v1.events.list_async({"type": "invoice.*", "created": {"gte": START}, "limit": 100})
    assert [e.type for e in events.data][-2:] == ["invoice.finalized", "invoice.created"]
    assert (await v1.customers.delete_async(customer.id)).deleted is True


async def test_events_are_read_backwards_in_time_order(account: Account) -> None:
    for number in range(12):
        await account.client.v1.customers.create_async({"name": f"Customer {number}"})
    newest = (await account.client.v1.events.list_async({"limit": 5})).data
    assert [event.data.object["name"] for event in newest] == [f"Customer {n}" for n in range(11, 6, -1)]
    oldest = (await account.client.v1.events.list_async({"limit": 100})).data[-1]
    page = await account.client.v1.events.list_async(
        {"ending_before": oldest.id, "types": ["customer.created"], "limit": 4}
    )
    assert [event.data.object["name"] async for event in page.auto_paging_iter()] == [
        f"Customer {n}" for n in range(1, 12)
    ]


@pytest.mark.parametrize("count", [10, 11, 101])
async def test_lines_beyond_the_first_page(account: Account, count: int) -> None:
    sim = account.sim
    customer = sim.call("POST", "/v1/customers", {})["id"]
    invoice_id = sim.call("POST", "/v1/invoices", {"customer": customer})["id"]
    heard: list[dict[str, Any]] = []
    for number in range(count):
        params = {"customer": customer, "invoice": invoice_id, "amount": number + 1, "description": f"line {number}"}
        sim.call("POST", "/v1/invoiceitems", params)
    sim.listen(heard.append)
    invoice = await account.client.v1.invoices.finalize_invoice_async(invoice_id)
    sim.unlisten(heard.append)
    assert len(invoice.lines.data) == 10
    assert invoice.lines.has_more is (count > 10)
    assert invoice.lines.url == f"/v1/invoices/{invoice_id}/lines"
    assert len(heard[0]["data"]["object"]["lines"]["data"]) == 10
    assert invoice.total == count * (count + 1) // 2
    limit = 100 if count > 100 else 10
    lines = await account.client.v1.invoices.line_items.list_async(invoice_id, {"limit": limit})
    seen = [line.description async for line in lines.auto_paging_iter()]
    assert seen == [f"line {number}" for number in range(count)]
    whole = next(each for each in sim.state()["invoices"] if each["id"] == invoice_id)
    assert (len(whole["lines"]["data"]), whole["lines"]["has_more"]) == (count, False)


@pytest.mark.parametrize(
    ("method", "path", "form", "status", "code", "param"),
    [
        ("POST", "/v1/subscriptions", {"coupon": "x"}, 400, "parameter_unknown", "coupon"),
        ("POST", "/v1/invoiceitems", {"price": "x"}, 400, "parameter_unknown", "price"),
        ("POST", "/v1/prices", {"unit_amount": "1"}, 400, "parameter_missing", "currency"),
        ("POST", "/v1/prices", TEN_AND_A_HALF, 400, "parameter_invalid_integer", "unit_amount"),
        ("POST", "/v1/customers", {"tax_exempt": "maybe"}, 400, None, "tax_exempt"),
        ("POST", "/v1/customers", {"name": "x" * 257}, 400, "parameter_invalid_string_too_long", "name"),
        ("POST", "/v1/customers", {"metadata[k]": "x" * 501}, 400, None, "metadata"),
        ("POST", "/v1/customers", {"balance": "5"}, 400, "not_simulated", "balance"),
        ("POST", "/v1/customers", {"address[planet]": "Mars"}, 400, "parameter_unknown", "address[planet]"),
        ("POST", "/v1/subscriptions", {"customer": "cus_no"}, 400, "resource_missing", "customer"),
        ("POST", "/v1/subscriptions/sub_no", ANCHOR, 400, "parameter_invalid_object", "billing_cycle_anchor"),
        ("POST", "/v1/products", {"name": ""}, 400, "parameter_invalid_empty", "name"),
        ("POST", "/v1/tax_rates", YES, 400, "parameter_invalid_boolean", "inclusive"),
        ("GET", "/v1/customers?limit=101", {}, 400, "parameter_invalid_integer", "limit"),
        ("GET", "/v1/customers?limit=0", {}, 400, "parameter_invalid_integer", "limit"),
        ("GET", "/v1/customers?expand[0]=data.nothing", {}, None, None, None),
        ("GET", "/v1/invoices/in_no", {}, 404, "resource_missing", "id"),
        ("GET", "/v1/charges?starting_after=ch_no", {}, 400, "resource_missing", "starting_after"),
        ("GET", "/v1/nothing", {}, 404, None, None),
        ("PUT", "/v1/customers", {}, 404, None, None),
        ("GET", "/v1/customers/search", {}, 400, "not_simulated", "GET /v1/customers/search"),
        ("POST", "/v1/events", {}, 404, None, None),
    ],
)  # fmt: skip
def test_refusals(
    account: Account,
    method: str,
    path: str,
    form: dict[str, str],
    status: int | None,
    code: str | None,
    param: str | None,
) -> None:
    reply = account.raw(method, path, **({"data": form} if form else {}))
    if status is None:  # an empty list has nothing to expand
        assert reply.status_code == 200
        return
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (status, "invalid_request_error")
    assert (error.get("code"), error.get("param")) == (code, param)
    assert reply.headers["request-id"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer sk_test_other"}, 401),
        ({"Stripe-Version": ""}, 400),
        ({"Stripe-Version": "2020-08-27"}, 400),
        ({"Stripe-Account": "acct_1"}, 403),
    ],
)
def test_who_may_call(account: Account, headers: dict[str, str], status: int) -> None:
    reply = account.raw("GET", "/v1/customers", headers=headers)
    assert reply.status_code == status
    assert "sk_test_other" not in reply.text


def test_json_bodies_and_broken_names_are_refused(account: Account) -> None:
    assert account.raw("POST", "/v1/customers", json={"name": "x"}).status_code == 400
    assert account.raw("POST", "/v1/customers", data={"a]b": "x"}).status_code == 400
    assert account.raw("POST", "/v1/customers", data={"name": "x", "name[first]": "y"}).status_code == 400


async def test_unknown_expansions_are_refused(account: Account) -> None:
    customer = await account.client.v1.customers.create_async({"name": "A"})
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        await account.client.v1.customers.retrieve_async(customer.id, {"expand": ["dog"]})
    found = await account.client.v1.customers.retrieve_async(customer.id, {"expand": ["subscriptions", "tax_ids"]})
    assert found.subscriptions is not None
    assert found.subscriptions.data == []


async def test_idempotency(account: Account) -> None:
    create = account.client.v1.customers.create_async
    first = await create({"name": "Once"}, {"idempotency_key": "k1"})
    again = await create({"name": "Once"}, {"idempotency_key": "k1"})
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        await create({"name": "Twice"}, {"idempotency_key": "k1"})
    assert len(account.sim.state()["customers"]) == 1
    assert account.sim.state()["events"] == 1
    event = (await account.client.v1.events.list_async({"type": "customer.created"})).data[0]
    assert event.request is not None
    assert event.request.idempotency_key == "k1"


async def test_refused_operations_are_replayed_and_contract_errors_are_not(account: Account) -> None:
    bad: Any = {"nam": "x"}
    with pytest.raises(stripe.InvalidRequestError):
        await account.client.v1.customers.create_async(bad, {"idempotency_key": "k2"})
    assert (await account.client.v1.customers.create_async({"name": "x"}, {"idempotency_key": "k2"})).id
    params: Any = {"customer": "cus_later", "amount": 5}
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await account.client.v1.invoice_items.create_async(params, {"idempotency_key": "k3"})
        assert refused.value.headers is not None
        assert refused.value.headers.get("idempotent-replayed") == replayed


async def test_declined_cards_are_card_errors(account: Account) -> None:
    customer = await account.client.v1.customers.create_async({"metadata": {"sim_payment": "fails"}})
    invoice = await account.client.v1.invoices.create_async({"customer": customer.id})
    await account.client.v1.invoice_items.create_async({"customer": customer.id, "invoice": invoice.id, "amount": 900})
    with pytest.raises(stripe.CardError) as declined:
        await account.client.v1.invoices.pay_async(invoice.id)
    assert declined.value.code == "card_declined"
    again = await account.client.v1.invoices.retrieve_async(invoice.id)
    assert (again.status, again.attempt_count, again.amount_remaining) == ("open", 1, 900)


async def test_prices_show_tiers_when_asked(account: Account) -> None:
    product = await account.client.v1.products.create_async({"name": "P"})
    price = await account.client.v1.prices.create_async(
        {
            "product": product.id, "currency": "eur", "billing_scheme": "tiered", "tiers_mode": "volume",
            "recurring": {"interval": "year"}, "lookup_key": "p-1",
            "tiers": [{"up_to": 5, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}],
        }
    )  # fmt: skip
    found = await account.client.v1.prices.list_async({"lookup_keys": ["p-1"], "expand": ["data.tiers"]})
    assert [(tier.up_to, tier.unit_amount) for tier in found.data[0].tiers or []] == [(5, 100), (None, 50)]
    assert (await account.client.v1.prices.retrieve_async(price.id)).to_dict().get("tiers") is None


@pytest.mark.parametrize(("kind", "error"), [("expired", stripe.AuthenticationError), ("limit", stripe.RateLimitError)])
def test_refusals_for_fault_injection_are_understood_by_the_client(kind: str, error: type[Exception]) -> None:
    from starlette.requests import Request
    from starlette.responses import Response

    sim = StripeSimulator(clock=lambda: 0.0)
    status, headers, body = sim.refusal(kind)

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()
        await Response(body, status, headers)(scope, receive, send)

    with served(refuse) as url:
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": url}, max_network_retries=0)
        with pytest.raises(error):
            client.v1.customers.list()
    with pytest.raises(ValueError, match="kind"):
        sim.refusal("tired")
