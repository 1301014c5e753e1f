"""The simulated account: tax features, periods, permissions, its catalog, its bad days, and what people do in it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from connectors.netsuite.wire import loads
from tests.connectors.netsuite_kit import Caller
from tests.connectors.test_netsuite_simulator_ledger import applied, balances, customer, eid, line, pay, rows, sale

D = Decimal
OUTSIDE = "not within the date range of your accounting period"


def body(**changes: Any) -> dict[str, Any]:
    return {"entity": eid("c1"), "tranDate": "2026-01-10", "item": rows(line("hub_subscription", "100")), **changes}


async def get(call: Caller, path: str) -> Any:
    return loads((await call.ok("GET", path, expandSubResources="true")).text)


# Tax -----------------------------------------------------------------------------------------------------------------


async def test_without_suitetax_there_are_no_tax_fields(call: Caller) -> None:
    await customer(call)
    for field in ("taxDetails", "taxDetailsOverride", "nexus"):
        await call.refused("INVALID_CONTENT", field, "PUT", "invoice/eid:in", body(**{field: None}))
    tagged = rows({**line("hub_subscription", "100"), "taxDetailsReference": "a"})
    await call.refused("INVALID_CONTENT", "taxDetailsReference", "PUT", "invoice/eid:in", body(item=tagged))
    await call.ok("PATCH", "customer/eid:c1", {"vatRegNumber": "DE123456789"})
    call.w.sim.configure(suitetax=True)
    await call.refused("INVALID_CONTENT", "vatRegNumber", "PATCH", "customer/eid:c1", {"vatRegNumber": "DE1"})
    registration = rows({"nexusCountry": {"id": "DE"}, "taxRegistrationNumber": "DE123456789"})
    await call.ok("PATCH", "customer/eid:c1", {"taxRegistration": registration})


async def test_suitetax_works_tax_out_itself_unless_overridden_line_by_line(call: Caller) -> None:
    # By itself: 8% of 100.00. Overridden: 6.50 and 0.75, so 107.25.
    call.w.sim.configure(suitetax=True)
    await customer(call)
    await call.ok("PUT", "invoice/eid:in", body())
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["108.00"]
    tagged = rows({**line("hub_subscription", "100"), "taxDetailsReference": "il_1"})

    def detail(of: str, amount: str, **more: Any) -> dict[str, Any]:
        return {
            "taxDetailsReference": of, "taxType": "US sales tax", "taxCode": eid("hub_us_tax"), "taxBasis": D(100),
            "taxRate": D("6.5"), "taxAmount": D(amount), **more,
        }  # fmt: skip

    good = body(item=tagged, taxDetailsOverride=True, taxDetails=rows(detail("il_1", "6.50"), detail("il_1", "0.75")))
    stray = {**good, "taxDetails": rows(detail("il_2", "6.50"))}
    await call.refused("INVALID_CONTENT", "il_2", "PUT", "invoice/eid:in", stray, replace="item,taxDetails")
    bare = {**good, "taxDetails": rows(detail("il_1", "6.50", taxCode=None))}
    await call.refused("USER_ERROR", "Tax Code", "PUT", "invoice/eid:in", bare, replace="item,taxDetails")
    unasked = {**good, "taxDetailsOverride": False}
    await call.refused("USER_ERROR", "Override", "PUT", "invoice/eid:in", unasked, replace="item,taxDetails")
    for _ in range(2):
        await call.ok("PUT", "invoice/eid:in", good, replace="item,taxDetails")
    assert balances(call) == {
        "Accounts Receivable": "107.25", "hub_sales": "-100.00", "hub_sales_tax_payable": "-7.25",
    }  # fmt: skip
    shown = await get(call, "invoice/eid:in")
    assert (shown["taxTotal"], shown["subtotal"], shown["taxDetails"]["totalResults"]) == (D("7.25"), D("100.00"), 2)
    # Without `replace` the details of a repeated PUT come on top of those there are.
    await call.ok("PUT", "invoice/eid:in", good, replace="item")
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["114.50"]


async def test_an_avatax_bundle_taxes_once_more_unless_told_not_to(call: Caller) -> None:
    await customer(call)
    field = "custbody_ava_disable_tax_calculation"
    await call.refused("INVALID_CONTENT", field, "PUT", "invoice/eid:in", body(**{field: True}))
    call.w.sim.configure(avatax_bundle=True)
    lines = rows(line("hub_subscription", "100"), line("hub_tax", "8"))
    await call.ok("PUT", "invoice/eid:in", body(item=lines))
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["118.00"]  # 108.00 and 10% of 100.00
    await call.ok("PATCH", "invoice/eid:in", {field: True})
    assert [i["total"] for i in call.w.sim.state()["invoice"]] == ["108.00"]


# Fields --------------------------------------------------------------------------------------------------------------


async def test_custom_fields_exist_once_an_administrator_has_added_them(call: Caller) -> None:
    await customer(call)
    more = {"custbody_stripe_url": "https://dashboard.stripe.example/in_1"}
    await call.refused("INVALID_CONTENT", "custbody_stripe_url", "PUT", "invoice/eid:in", body(**more))
    call.w.sim.configure(custom_fields={"custbody_stripe_url": "text", "custcol_service_from": "date"})
    dated = rows({
        **line("hub_subscription", "100"), "custcol_service_from": "2026-01-01", "department": eid("hub_support"),
        "class": eid("hub_recurring"), "location": eid("hub_berlin"),
    })  # fmt: skip
    await call.ok("PUT", "invoice/eid:in", body(item=dated, terms={"id": "2"}, **more))
    shown = await get(call, "invoice/eid:in")
    (row,) = shown["item"]["items"]
    assert (shown["custbody_stripe_url"], row["custcol_service_from"]) == (more["custbody_stripe_url"], "2026-01-01")
    assert (row["class"]["refName"], shown["terms"]["refName"]) == ("Recurring", "Net 30")
    await call.refused("INVALID_CONTENT", "department", "PUT", "invoice/eid:in", body(department={"id": "99"}))


async def test_the_catalog_names_fields_keys_and_custom_fields(call: Caller) -> None:
    call.w.sim.configure(custom_fields={"custbody_stripe_url": "text"})
    listed = loads((await call.ok("GET", "metadata-catalog")).text)
    assert {"invoice", "deposit", "journalEntry"} <= {item["name"] for item in listed["items"]}
    some = loads((await call.ok("GET", "metadata-catalog", select="invoice,account")).text)
    assert [item["name"] for item in some["items"]] == ["account", "invoice"]
    await call.refused("INVALID_PARAMETER", "spaceship", "GET", "metadata-catalog", select="spaceship")
    await call.refused("NONEXISTENT_ID", "", "GET", "metadata-catalog/spaceship")
    found = loads((await call.ok("GET", "metadata-catalog/invoice")).text)["properties"]
    assert found["custbody_stripe_url"]["x-ns-custom-field"] is True
    assert (found["total"]["readOnly"], "taxDetails" in found) == (True, False)
    row = found["item"]["properties"]["items"]["items"]
    key = {"present": True, "value": {"new": ["orderLine"], "existing": ["line"]}}
    assert (row["x-ns-sublistkey"], row["properties"]["description"]["maxLength"]) == (key, 4000)


async def test_the_lists_an_administrator_keeps_can_be_read_and_not_written(call: Caller) -> None:
    bank = await get(call, "account/eid:hub_bank_eur")
    assert (bank["acctType"]["id"], bank["currency"]["refName"], bank["subsidiary"]["items"][0]["id"]) == (
        "Bank",
        "EUR",
        "1",
    )
    assert (await get(call, "currency/4"))["exchangeRate"] == D("1.1")
    call.w.sim.close_period("2026-01", "arLocked")
    period = await get(call, f"accountingPeriod/{6 * 12 + 1}")
    assert (period["periodName"], period["arLocked"], period["closed"]) == ("Jan 2026", True, False)
    item = await get(call, "otherChargeSaleItem/eid:hub_customer_balance")
    assert item["incomeAccount"]["refName"] == "Customer balances"
    for path in ("department/1", "classification/1", "location/1", "term/2", "nexus/1", "taxType/1", "salesTaxItem/1"):
        await get(call, path)
    await call.refused("INSUFFICIENT_PERMISSION", "read-only", "PATCH", "account/1", {"acctName": "Ours"})


async def test_an_address_without_its_number_is_always_another_one(call: Caller) -> None:
    await customer(call)
    home = {"addr1": "77 Marmalade Row", "city": "Bainbridge Island", "state": "WA", "country": {"id": "US"}}
    book = rows({"defaultBilling": True, "addressBookAddress": home})
    for _ in range(2):
        await call.ok("PUT", "customer/eid:c1", {"addressBook": book})
    (one, two) = (await get(call, "customer/eid:c1"))["addressBook"]["items"]
    assert one["addressBookAddress"]["country"]["id"] == "US"
    changed = rows({"id": one["id"], "addressBookAddress": {**home, "addr1": "78"}})
    await call.ok("PATCH", "customer/eid:c1", {"addressBook": changed})
    again = (await get(call, "customer/eid:c1"))["addressBook"]["items"]
    assert [a["addressBookAddress"]["addr1"] for a in again] == ["78", "77 Marmalade Row"]
    assert two["id"] != one["id"]
    await call.ok("PUT", "customer/eid:c1", {"addressBook": book}, replace="addressBook")
    assert (await get(call, "customer/eid:c1"))["addressBook"]["totalResults"] == 1
    long = rows({"addressBookAddress": {**home, "city": "x" * 51}})
    await call.refused("USER_ERROR", "( 50 )", "PATCH", "customer/eid:c1", {"addressBook": long})
    planet = rows({"addressBookAddress": {"planet": "Earth"}})
    await call.refused("INVALID_CONTENT", "planet", "PATCH", "customer/eid:c1", {"addressBook": planet})


# Periods -------------------------------------------------------------------------------------------------------------


async def test_a_receivables_lock_stops_invoices_but_not_journal_entries(call: Caller) -> None:
    await customer(call)
    call.w.sim.close_period("2026-01", "arLocked")
    entry = {
        "subsidiary": {"id": "1"}, "tranDate": "2026-01-10",
        "line": rows({"account": eid("hub_fx"), "debit": D(1)}, {"account": eid("hub_fees"), "credit": D(1)}),
    }  # fmt: skip
    await call.refused("USER_ERROR", OUTSIDE, "PUT", "invoice/eid:in", body())
    await call.ok("PUT", "journalEntry/eid:j", entry)
    call.w.sim.close_period("2026-01", "allLocked")
    await call.refused("USER_ERROR", OUTSIDE, "PATCH", "journalEntry/eid:j", {"memo": "late"})
    call.w.sim.open_period("2026-01")
    await call.ok("PUT", "invoice/eid:in", body())


async def test_a_posting_period_may_differ_from_the_date_only_where_the_preference_allows(call: Caller) -> None:
    await customer(call)
    call.w.sim.close_period("2026-01")
    february = {"id": str(6 * 12 + 2)}  # the periods begin with January 2020
    await call.refused("USER_ERROR", OUTSIDE, "PUT", "invoice/eid:in", body(postingPeriod=february))
    call.w.sim.configure(date_outside_period="Allow")
    await call.refused("USER_ERROR", OUTSIDE, "PUT", "invoice/eid:in", body(postingPeriod={"id": str(6 * 12 + 1)}))
    await call.ok("PUT", "invoice/eid:in", body(postingPeriod=february))
    shown = await get(call, "invoice/eid:in")
    assert (shown["tranDate"], shown["postingPeriod"]["refName"]) == ("2026-01-10", "Feb 2026")
    # A repeated write that names no period leaves it where it is; a new document goes where the account says, and that
    # is by default the first open period of all.
    await call.ok("PUT", "invoice/eid:in", body(), replace="item")
    assert (await get(call, "invoice/eid:in"))["postingPeriod"]["refName"] == "Feb 2026"
    await call.ok("PUT", "invoice/eid:i2", body())
    assert (await get(call, "invoice/eid:i2"))["postingPeriod"]["refName"] == "Jan 2020"


async def test_a_closed_period_lets_a_memo_change_only_if_it_allows_that(call: Caller) -> None:
    await customer(call)
    await call.ok("PUT", "invoice/eid:in", body())
    call.w.sim.close_period("2026-01")
    await call.refused("USER_ERROR", OUTSIDE, "PATCH", "invoice/eid:in", {"memo": "x"})
    call.w.sim.allow_non_gl_changes("2026-01")
    await call.ok("PATCH", "invoice/eid:in", {"memo": "x"})
    changed = {"item": rows({"line": 1, "amount": D(90)})}
    await call.refused("USER_ERROR", OUTSIDE, "PATCH", "invoice/eid:in", changed)
    await pay(call, "pay", "100", ("in", "100"), tranDate="2026-02-01")  # paying does not touch the invoice's period


# Permissions and bad days --------------------------------------------------------------------------------------------


async def test_a_role_that_may_only_view_cannot_even_get_the_record(call: Caller) -> None:
    await customer(call)
    await call.ok("PUT", "invoice/eid:in", body())
    call.w.sim.configure(denied={"invoice": "view", "account": "none"})
    await call.refused("INSUFFICIENT_PERMISSION", "Permission Violation", "PUT", "invoice/eid:in", body())
    await call.refused("INSUFFICIENT_PERMISSION", "Permission Violation", "GET", "invoice/eid:in")
    await call.ok("GET", "invoice")
    await call.refused("INSUFFICIENT_PERMISSION", "Permission Violation", "GET", "account/1")
    await call.refused("INSUFFICIENT_PERMISSION", "Permission Violation", "GET", "metadata-catalog/account")


async def test_the_limit_of_requests_is_told_to_administrators_only(call: Caller) -> None:
    refused = await call.client.request("GET", "/system/v1/governanceLimits")
    call.w.sim.configure(administrator=True)
    told = await call.client.request("GET", "/system/v1/governanceLimits")
    time = await call.client.request("GET", "/system/v1/serverTime")
    unknown = await call.client.request("GET", "/system/v1/weather")
    assert (refused.status_code, unknown.status_code) == (403, 404)
    assert told.json() == {
        "accountConcurrencyLimit": 5, "accountUnallocatedConcurrencyLimit": 5, "integrationLimitType": "accountLimit",
    }  # fmt: skip
    assert list(time.json()) == ["serverTime"]


async def test_bad_days_either_save_or_do_not(call: Caller) -> None:
    sim = call.w.sim
    await customer(call)
    sim.disturb("changed", record="invoice")
    sim.disturb("unexpected_unsaved", record="invoice")
    sim.disturb("maintenance", record="invoice")
    sim.disturb("unexpected", record="invoice")
    await call.refused("RCRD_HAS_BEEN_CHANGED", "Record has been changed", "PUT", "invoice/eid:in", body())
    assert (await call("PUT", "invoice/eid:in", body())).status == 500
    page = await call("PUT", "invoice/eid:in", body())
    assert (page.status, page.is_page, "scheduled maintenance" in page.text) == (503, True, True)
    assert sim.state()["invoice"] == []
    await call.refused("UNEXPECTED_ERROR", "Error ID", "PUT", "invoice/eid:in", body())
    assert [i["total"] for i in sim.state()["invoice"]] == ["100.00"]
    await call.ok("PUT", "invoice/eid:in", body(), replace="item")


# What people do ------------------------------------------------------------------------------------------------------


async def test_people_edit_take_off_duplicate_and_delete(call: Caller) -> None:
    sim = call.w.sim
    await customer(call)
    await sale(call, "in", line("hub_subscription", "100"))
    await pay(call, "pay", "60", ("in", "60"))
    sim.edit("invoice", "in", tranDate="2026-02-01", item={"items": [{"line": 1, "amount": "90"}]})
    (kept,) = sim.state()["invoice"]
    assert (kept["tranDate"], kept["total"], kept["amountRemaining"]) == ("2026-02-01", "90.00", "30.00")
    sim.unapply("customerPayment", "pay")
    assert sim.state()["customerPayment"][0]["unapplied"] == "60.00"
    sim.edit("customerPayment", "pay", apply=applied(("in", "60")))
    sim.duplicate("invoice", "in")
    sim.duplicate("customerPayment", "pay", "again")
    state = sim.state()
    assert [(i.get("externalId"), i["total"]) for i in state["invoice"]] == [("in", "90.00"), (None, "90.00")]
    assert [(p["externalId"], p["apply"]) for p in state["customerPayment"]] == [
        ("pay", [{"doc": "in", "amount": "60.00"}]), ("again", []),
    ]  # fmt: skip
    # 2 x 90.00 sold, 2 x 60.00 in: 60.00 open. Without the first invoice: 90.00 less 120.00.
    assert balances(call) == {"Accounts Receivable": "60.00", "hub_stripe_clearing": "120.00", "hub_sales": "-180.00"}
    sim.remove("invoice", "in")
    assert balances(call)["Accounts Receivable"] == "-30.00"
    for name in ("pay", "again"):
        sim.remove("customerPayment", name)
    assert balances(call) == {"Accounts Receivable": "90.00", "hub_sales": "-90.00"}
    await call.refused("NONEXISTENT_ID", "", "GET", "invoice/eid:in")
    await sale(call, "wrong", line("hub_subscription", "40"))
    await pay(call, "late", "40", ("wrong", "40"))
    sim.void("invoice", "wrong")
    voided = next(i for i in sim.state()["invoice"] if i.get("externalId") == "wrong")
    assert (voided["status"], voided["total"], voided["amountRemaining"]) == ("Voided", "0.00", "0.00")
    assert balances(call) == {"Accounts Receivable": "50.00", "hub_stripe_clearing": "40.00", "hub_sales": "-90.00"}
    sim.duplicate("customer", "c1")
    assert [c["entityId"] for c in sim.state()["customer"]] == ["c1", "c1 (2)"]
