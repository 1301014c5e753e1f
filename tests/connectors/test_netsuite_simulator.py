"""The traps of NetSuite that the simulator must have, or the other tests would prove nothing."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from typing import Any

import httpx

from connectors.netsuite.client import NetSuiteClient
from connectors.netsuite.limit import Limit
from connectors.netsuite.sandbox_env import environment
from connectors.netsuite.simulator import NetSuiteSimulator
from connectors.netsuite.wire import loads
from tests.connectors.netsuite_kit import Caller, world

ACME = {"companyName": "Acme", "subsidiary": {"id": "1"}, "currencyList": {"items": [{"currency": {"id": "4"}}]}}
LINES = {"items": [{"item": {"externalId": "hub_subscription"}, "amount": 100}]}


async def invoice(call: Caller, **changes: Any) -> None:
    await call.ok("PUT", "customer/eid:c1", ACME)
    await call.ok(
        "PUT", "invoice/eid:i1", {"entity": {"externalId": "c1"}, "tranDate": "2026-01-10", "item": LINES, **changes}
    )


async def test_put_without_replace_doubles_the_lines(call: Caller) -> None:
    await invoice(call)
    await call.ok("PUT", "invoice/eid:i1", {"item": LINES})
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["200.00"]
    await call.ok("PUT", "invoice/eid:i1", {"item": LINES}, replace="item")
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["100.00"]
    await call.ok("PATCH", "invoice/eid:i1", {"item": {"items": [{"line": 1, "amount": 40}]}})
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["40.00"]


async def test_a_write_answers_204_with_an_absolute_location_and_nothing_else(call: Caller) -> None:
    reply = await call.ok("PUT", "customer/eid:c1", ACME)
    number = call.w.sim.state()["customer"][0]["id"]
    assert (reply.status, reply.text) == (204, "")
    assert reply.headers["location"] == f"{call.w.url}/services/rest/record/v1/customer/{number}"


async def test_get_shows_references_links_and_sublists_on_demand(call: Caller) -> None:
    await invoice(call)
    plain = loads((await call.ok("GET", "invoice/eid:i1")).text)
    assert set(plain["item"]) == {"links"}
    whole = loads((await call.ok("GET", "invoice/eid:i1", expandSubResources="true")).text)
    assert whole["item"]["totalResults"] == 1
    assert whole["item"]["items"][0]["item"]["refName"] == "Subscriptions"
    assert whole["entity"]["refName"] == "Acme"
    assert whole["status"] == {"id": "A", "refName": "Open"}
    few = loads((await call.ok("GET", "invoice/eid:i1", fields="total")).text)
    assert set(few) == {"links", "id", "total"}
    found = loads((await call.ok("GET", "invoice", q='externalId IS "i1"')).text)
    assert (found["totalResults"], found["items"][0]["id"]) == (1, whole["id"])


async def test_put_wants_an_external_id_and_post_a_new_one(call: Caller) -> None:
    await invoice(call)
    number = call.w.sim.state()["invoice"][0]["id"]
    await call.refused("INVALID_REQUEST", "external identifier", "PUT", f"invoice/{number}", {"memo": "x"})
    await call.refused("USER_ERROR", "This entity already exists.", "POST", "customer", {**ACME, "externalId": "c1"})
    await call.refused("USER_ERROR", "already exists", "PUT", "creditMemo/eid:i1", {"memo": "x"})
    await call.refused("NONEXISTENT_ID", "does not exist", "GET", "invoice/eid:nobody")
    await call.refused("NONEXISTENT_ID", "does not exist", "PATCH", "invoice/eid:nobody", {"memo": "x"})


async def test_unknown_names_are_refused_everywhere(call: Caller) -> None:
    await call.refused("INVALID_CONTENT", "colour", "PUT", "customer/eid:c1", {**ACME, "colour": "red"})
    await call.refused("NONEXISTENT_ID", "does not exist", "GET", "spaceship/1")
    await call.refused("INVALID_PARAMETER", "", "PUT", "customer/eid:c1", ACME, dryRun="true")
    await call.refused("INVALID_PARAMETER", "sublist", "PUT", "customer/eid:c1", ACME, replace="item")
    await call.refused("USER_ERROR", "read-only", "PUT", "invoice/eid:i1", {"total": 5})


async def test_an_unknown_field_passes_silently_unless_validation_is_asked_for(call: Caller) -> None:
    client = NetSuiteClient(call.w.settings(), Limit(1))
    response = await client.request(
        "PUT", "/record/v1/customer/eid:c1", content=json.dumps({**ACME, "colour": "red"}).encode(),
        headers={"X-NetSuite-PropertyNameValidation": "Warning"},
    )  # fmt: skip
    await client.close()
    assert (response.status_code, "colour" in response.headers["warning"]) == (204, True)


async def test_references_must_exist_and_suit_the_subsidiary(call: Caller) -> None:
    await invoice(call)
    base = {"entity": {"externalId": "c1"}, "tranDate": "2026-01-10"}
    wrong = {"items": [{"item": {"id": "9999"}, "amount": 1}]}
    await call.refused("INVALID_CONTENT", "Invalid Field Value 9999", "PUT", "invoice/eid:i2", {**base, "item": wrong})
    await call.refused(
        "INVALID_CONTENT", "subsidiary", "PUT", "invoice/eid:i2", {**base, "item": LINES, "subsidiary": {"id": "2"}}
    )
    await call.ok("PUT", "customer/eid:c2", {**ACME, "companyName": "Euro", "subsidiary": {"id": "2"}})
    us_only = {"items": [{"item": {"externalId": "hub_us_only"}, "amount": 1}]}
    await call.refused(
        "INVALID_CONTENT",
        "following field: item",
        "PUT",
        "invoice/eid:i2",
        {**base, "entity": {"externalId": "c2"}, "item": us_only},
    )
    await call.refused(
        "USER_ERROR",
        "access to the currency",
        "PUT",
        "invoice/eid:i2",
        {**base, "item": LINES, "currency": {"id": "5"}},
    )
    await call.refused(
        "USER_ERROR", "Please enter value(s) for: Company Name", "PUT", "customer/eid:c3", {"subsidiary": {"id": "1"}}
    )


async def test_explicit_amounts_win_and_rates_keep_eight_places(call: Caller) -> None:
    rows = [
        {"item": {"externalId": "hub_subscription"}, "quantity": 3, "rate": 33.3, "amount": 100},
        {"item": {"externalId": "hub_subscription"}, "quantity": 2, "rate": 1.5},
        {"item": {"externalId": "hub_subscription"}, "quantity": 3, "amount": 100},
    ]
    from decimal import Decimal

    exact = json.loads(json.dumps(rows), parse_float=Decimal)
    await invoice(call, item={"items": exact})
    got = loads((await call.ok("GET", "invoice/eid:i1", expandSubResources="true")).text)
    assert [(str(r["amount"]), str(r["rate"])) for r in got["item"]["items"]] == [
        ("100.00", "33.30000000"), ("3.00", "1.50000000"), ("100.00", "33.33333333"),
    ]  # fmt: skip


async def test_payments_apply_up_to_what_is_open(call: Caller) -> None:
    await invoice(call)
    base = {"customer": {"externalId": "c1"}, "tranDate": "2026-01-11", "payment": 60}
    apply = {"items": [{"doc": {"externalId": "i1"}, "apply": True, "amount": 60}]}
    await call.ok("PUT", "customerPayment/eid:p1", {**base, "apply": apply})
    await call.ok("PUT", "customerPayment/eid:p1", {**base, "apply": apply})  # keyed by document: no second application
    assert call.w.sim.state()["invoice"][0]["amountRemaining"] == "40.00"
    await call.refused(
        "USER_ERROR", "cannot exceed the amount due", "PUT", "customerPayment/eid:p2", {**base, "apply": apply}
    )
    await call.refused(
        "USER_ERROR",
        "greater than its total",
        "PUT",
        "invoice/eid:i1",
        {"item": {"items": [{"line": 1, "amount": 50}]}},
    )
    await call.refused("USER_ERROR", "dependent records", "DELETE", "invoice/eid:i1")
    unapply = {"items": [{"doc": {"externalId": "i1"}, "apply": False}]}
    await call.ok("PATCH", "customerPayment/eid:p1", {"apply": unapply})
    assert call.w.sim.state()["invoice"][0]["status"] == "Open"
    await call.ok("DELETE", "customerPayment/eid:p1")
    await call.ok("DELETE", "invoice/eid:i1")


async def test_a_closed_period_takes_nothing(call: Caller) -> None:
    await invoice(call)
    call.w.sim.close_period("2026-01")
    text = "not within the date range of your accounting period"
    await call.refused("USER_ERROR", text, "PUT", "invoice/eid:i1", {"memo": "late"})
    await call.refused(
        "USER_ERROR",
        text,
        "PUT",
        "invoice/eid:i2",
        {"entity": {"externalId": "c1"}, "tranDate": "2026-01-31", "item": LINES},
    )


async def test_suiteql_answers_text_in_lower_case_and_insists_on_its_header(call: Caller) -> None:
    await invoice(call)
    client = NetSuiteClient(call.w.settings(), Limit(1))
    found = await client.suiteql("SELECT externalId, foreignTotal FROM transaction WHERE externalid = 'i1'")
    refused = await client.request("POST", "/query/v1/suiteql", content=b'{"q":"SELECT id FROM customer"}')
    await client.close()
    assert found["items"] == [{"links": [], "externalid": "i1", "foreigntotal": "100"}]
    assert refused.status_code == 400


async def test_a_replayed_or_foreign_signature_is_refused() -> None:
    with world() as w:
        destination = w.token_destination()
        await destination.ping()
        await destination.close()
        url, header = w.url + w.tap.seen[0][1], w.tap.headers[0]["authorization"]
        async with httpx.AsyncClient() as http:
            again = await http.get(url, headers={"Authorization": header})
            bare = await http.get(url)
            other = await http.get(url, headers={"Authorization": header.replace("TSTDRV1234567", "TSTDRV7654321")})
    assert [r.status_code for r in (again, bare, other)] == [401, 401, 401]
    assert again.json()["o:errorDetails"][0]["o:errorCode"] == "INVALID_LOGIN"


async def test_the_token_endpoint_takes_an_assertion_once_and_only_a_good_one() -> None:
    from connectors.netsuite.auth import ASSERTION_TYPE, TOKEN_PATH, Certificate

    with world() as w:
        env = environment(w.url)
        us = Certificate(
            env["HUB_NETSUITE_CLIENT_ID"], env["HUB_NETSUITE_CERTIFICATE_ID"], env["HUB_NETSUITE_PRIVATE_KEY"]
        )
        url = f"{w.url}/services/rest{TOKEN_PATH}"
        now = time.time()
        good = us.assertion(url, now)
        tries = [
            good,
            good,
            us.assertion("https://elsewhere.example/token", now),
            us.assertion(url, now - 7200),
            good[:-4] + "AAAA",
        ]
        async with httpx.AsyncClient() as http:
            answers = [
                await http.post(
                    url,
                    data={
                        "grant_type": "client_credentials",
                        "client_assertion_type": ASSERTION_TYPE,
                        "client_assertion": t,
                    },
                )
                for t in tries
            ]
    assert [a.status_code for a in answers] == [200, 400, 400, 400, 400]
    assert answers[1].json() == {"error": "invalid_client"}


def test_reset_starts_again_from_the_seed_and_refusals_have_the_vendors_shape() -> None:
    sim = NetSuiteSimulator(clock=lambda: 1768000000.0)
    status, headers, body = sim.refusal("limit")
    assert (status, headers["content-type"].endswith("type=error")) == (429, True)
    assert json.loads(body)["o:errorDetails"][0]["o:errorCode"] == "CONCURRENCY_LIMIT_EXCEEDED"
    assert sim.refusal("expired")[0] == 401
    sim.reset()
    kinds = ("customer", "invoice", "creditMemo", "customerPayment", "customerRefund", "deposit", "journalEntry")
    assert sim.state() == {**{kind: [] for kind in kinds}, "balances": {}, "foreign": {}, "carried": {}}


def test_the_sandbox_key_is_derived_and_always_the_same() -> None:
    first, second = environment("http://127.0.0.1:1"), environment("http://127.0.0.1:1")
    assert first == second
    assert len(sha256(first["HUB_NETSUITE_PRIVATE_KEY"].encode()).digest()) == 32
    assert set(first) == {
        f"HUB_NETSUITE_{n}" for n in ("ACCOUNT", "AUTH", "CLIENT_ID", "CERTIFICATE_ID", "PRIVATE_KEY", "BASE_URL")
    }
