"""The simulator's general ledger: what documents post, in whose currency, and what the bank side of the books refuses.

Amounts by hand; debit is positive. Rates of the account's table: 1 EUR = 1.1 USD, 1 GBP = 1.25 USD.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from connectors.netsuite.wire import loads
from tests.connectors.netsuite_kit import Caller

D = Decimal
DATE = "2026-01-10"
USD, EUR = {"id": "1"}, {"id": "4"}
CLEARING = {"externalId": "hub_stripe_clearing"}


def eid(name: str) -> dict[str, str]:
    return {"externalId": name}


def rows(*lines: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(lines)}


def line(item: str, amount: str) -> dict[str, Any]:
    return {"item": eid(item), "amount": D(amount)}


def applied(*pairs: tuple[str, str]) -> dict[str, Any]:
    return rows(*({"doc": eid(doc), "apply": True, "amount": D(amount)} for doc, amount in pairs))


async def customer(call: Caller, name: str = "c1", subsidiary: str = "1") -> None:
    body = {
        "companyName": name,
        "subsidiary": {"id": subsidiary},
        "currencyList": rows(*({"currency": c} for c in (USD, EUR))),
    }
    await call.ok("PUT", f"customer/eid:{name}", body)


async def put(call: Caller, kind: str, name: str, **body: Any) -> None:
    await call.ok("PUT", f"{kind}/eid:{name}", {"tranDate": DATE, **body})


async def sale(call: Caller, name: str, *lines: dict[str, Any], kind: str = "invoice", **body: Any) -> None:
    await put(call, kind, name, entity=eid("c1"), item=rows(*lines), **body)


async def pay(call: Caller, name: str, amount: str, *to: tuple[str, str], **body: Any) -> None:
    whole = {"customer": eid("c1"), "payment": D(amount), "account": CLEARING, "apply": applied(*to), **body}
    await put(call, "customerPayment", name, **whole)


def balances(call: Caller, subsidiary: str = "1") -> dict[str, str]:
    found: dict[str, str] = call.w.sim.state()["balances"].get(subsidiary, {})
    return found


async def test_from_the_sale_to_the_bank_receivables_and_clearing_end_at_nothing(call: Caller) -> None:
    # 100.00 less 10.00, tax 7.20: 97.20, paid; 20.00 refunded by a credit note; the rest paid out less 3.12 in fees.
    await customer(call)
    await sale(call, "in", line("hub_subscription", "100"), line("hub_discount", "-10"), line("hub_tax", "7.20"))
    assert balances(call) == {
        "Accounts Receivable": "97.20", "hub_sales": "-100.00", "hub_discounts": "10.00",
        "hub_sales_tax_payable": "-7.20",
    }  # fmt: skip
    await pay(call, "pay", "97.20", ("in", "97.20"))
    await sale(call, "cn", line("hub_credit_note", "20"), kind="creditMemo")
    await put(
        call, "customerRefund", "re", customer=eid("c1"), account=CLEARING, apply=applied(("cn", "20")),
    )  # fmt: skip
    assert balances(call) == {
        "hub_stripe_clearing": "77.20", "hub_sales": "-100.00", "hub_discounts": "10.00",
        "hub_sales_tax_payable": "-7.20", "hub_refunds": "20.00",
    }  # fmt: skip
    # Payments 97.20, refund -20.00, fees -3.12: 74.08 arrive.
    other = [("hub_stripe_clearing", "97.20"), ("hub_stripe_clearing", "-20"), ("hub_fees", "-3.12")]
    lines = rows(*({"account": eid(a), "amount": D(amount)} for a, amount in other))
    await put(call, "deposit", "po", account=eid("hub_bank"), currency=USD, other=lines)
    assert balances(call) == {
        "hub_bank": "74.08", "hub_fees": "3.12", "hub_sales": "-100.00", "hub_discounts": "10.00",
        "hub_sales_tax_payable": "-7.20", "hub_refunds": "20.00",
    }  # fmt: skip
    state = call.w.sim.state()
    assert [d["total"] for d in state["deposit"]] == ["74.08"]
    assert [r["total"] for r in state["customerRefund"]] == ["20.00"]
    assert (state["invoice"][0]["status"], state["creditMemo"][0]["status"]) == ("Paid In Full", "Fully Applied")
    # The payout comes back: the bank gives up what it got.
    back = rows({"account": CLEARING, "debit": D("74.08")}, {"account": eid("hub_bank"), "credit": D("74.08")})
    await put(call, "journalEntry", "failed", subsidiary={"id": "1"}, line=back)
    assert (balances(call).get("hub_bank"), balances(call)["hub_stripe_clearing"]) == (None, "74.08")


async def test_a_payment_at_another_rate_than_its_invoice_realizes_the_difference(call: Caller) -> None:
    # 100.00 EUR at the table's 1.1 = 110.00 USD; paid at 1.12 = 112.00: a gain of 2.00.
    await customer(call)
    await sale(call, "in", line("hub_subscription", "100"), currency=EUR)
    await pay(call, "pay", "100", ("in", "100"), currency=EUR, exchangeRate=D("1.12"))
    assert balances(call) == {"hub_stripe_clearing": "112.00", "hub_sales": "-110.00", "Realized Gain/Loss": "-2.00"}
    assert call.w.sim.state()["foreign"] == {
        "1": {"hub_stripe_clearing": {"EUR": "100.00"}, "hub_sales": {"EUR": "-100.00"}}
    }
    # Stripe converts at 1.12 and pays out 112.00 USD: clearing is nothing in base currency, not in each currency.
    lines = rows({"account": CLEARING, "amount": D("112")})
    await put(call, "deposit", "po", account=eid("hub_bank"), other=lines)
    assert balances(call) == {"hub_bank": "112.00", "hub_sales": "-110.00", "Realized Gain/Loss": "-2.00"}
    assert call.w.sim.state()["foreign"]["1"]["hub_stripe_clearing"] == {"EUR": "100.00", "USD": "-112.00"}
    # Taken off again, the payment stands in receivables at its own rate: 110.00 - 112.00.
    call.w.sim.unapply("customerPayment", "pay")
    assert balances(call) == {"hub_bank": "112.00", "hub_sales": "-110.00", "Accounts Receivable": "-2.00"}


async def test_parts_of_a_document_never_leave_a_cent_behind(call: Caller) -> None:
    # 0.10 EUR at 1.15 = 0.115, so 0.12 USD; in three payments 0.03 + 0.03 + 0.04, each alone rounded up:
    # 0.0345 -> 0.03, 0.0690 -> 0.07 (0.04 more), 0.1150 -> 0.12 (0.05 more); alone 0.03 + 0.03 + 0.05 = 0.11.
    await customer(call)
    rate: dict[str, Any] = {"currency": EUR, "exchangeRate": D("1.15")}
    await sale(call, "in", line("hub_subscription", "0.10"), **rate)
    for name, amount in (("p1", "0.03"), ("p2", "0.03"), ("p3", "0.04")):
        await pay(call, name, amount, ("in", amount), **rate)
    # In: 0.03 + 0.03 + 0.05 (each payment rounded for itself) = 0.11; the receivable gave 0.12: a loss of 0.01.
    assert balances(call) == {"hub_stripe_clearing": "0.11", "hub_sales": "-0.12", "Realized Gain/Loss": "0.01"}
    call.w.sim.remove("customerPayment", "p1")
    # 0.07 of 0.10 is applied: 0.0805 -> 0.08 of 0.12, so 0.04 is open in base currency.
    assert balances(call)["Accounts Receivable"] == "0.04"
    assert call.w.sim.state()["foreign"]["1"]["Accounts Receivable"] == {"EUR": "0.03"}


async def test_a_credit_memo_is_applied_in_part_and_refunded_in_part(call: Caller) -> None:
    # Invoices 50.00 and 30.00 EUR at 1.1 (55.00 + 33.00); memo 60.00 at 1.2 (72.00): 40.00 to the first, the other
    # 20.00 refunded at 1.3.
    await customer(call)
    await sale(call, "i1", line("hub_subscription", "50"), currency=EUR)
    await sale(call, "i2", line("hub_subscription", "30"), currency=EUR)
    await sale(
        call, "cn", line("hub_credit_note", "60"), kind="creditMemo", currency=EUR, exchangeRate=D("1.2"),
        apply=applied(("i1", "40")),
    )  # fmt: skip
    # Receivables: 55 + 33 - 44 (40 at 1.1) - 24 (20 at 1.2) = 20. 40.00 of the memo are 48.00, took 44.00: 4.00 left.
    assert balances(call) == {
        "Accounts Receivable": "20.00", "hub_sales": "-88.00", "hub_refunds": "72.00", "Realized Gain/Loss": "-4.00",
    }  # fmt: skip
    await put(
        call, "customerRefund", "re", customer=eid("c1"), currency=EUR, exchangeRate=D("1.3"),
        account=CLEARING, apply=applied(("cn", "20")),
    )  # fmt: skip
    # The refund costs 26.00 for what was 24.00: a loss of 2.00. Open: 10.00 and 30.00 EUR of invoices, 44.00 USD.
    assert balances(call) == {
        "Accounts Receivable": "44.00", "hub_stripe_clearing": "-26.00", "hub_sales": "-88.00", "hub_refunds": "72.00",
        "Realized Gain/Loss": "-2.00",
    }  # fmt: skip
    state = call.w.sim.state()
    assert [i["amountRemaining"] for i in state["invoice"]] == ["10.00", "30.00"]
    assert (state["creditMemo"][0]["unapplied"], state["creditMemo"][0]["applied"]) == ("0.00", "40.00")
    await call.refused(
        "USER_ERROR", "cannot exceed the amount due", "PUT", "customerRefund/eid:re2",
        {"customer": eid("c1"), "currency": EUR, "account": CLEARING, "apply": applied(("cn", "0.01"))},
    )  # fmt: skip
    # What was refunded can no more be applied, and the memo cannot be less than both.
    await call.refused(
        "USER_ERROR", "cannot exceed the total", "PATCH", "creditMemo/eid:cn", {"apply": applied(("i1", "50"))}
    )
    await call.refused(
        "USER_ERROR", "exceed", "PATCH", "creditMemo/eid:cn", {"item": rows({"line": 1, "amount": D("59.99")})}
    )
    # Moved from one invoice to the other, as when a voided credit note is taken back.
    await call.ok("PATCH", "creditMemo/eid:cn", {"apply": applied(("i2", "30"))}, replace="apply")
    assert [i["amountRemaining"] for i in call.w.sim.state()["invoice"]] == ["50.00", "0.00"]


async def test_an_unapplied_payment_can_be_refunded_and_a_refund_needs_something_to_refund(call: Caller) -> None:
    await customer(call)
    await pay(call, "pay", "30")
    base = {"customer": eid("c1"), "account": CLEARING, "tranDate": DATE}
    await call.refused("USER_ERROR", "at least one transaction", "PUT", "customerRefund/eid:re", base)
    await call.refused(
        "USER_ERROR", "Please enter value(s) for: Account", "PUT", "customerRefund/eid:re",
        {"customer": eid("c1"), "apply": applied(("pay", "10"))},
    )  # fmt: skip
    await call.ok("PUT", "customerRefund/eid:re", {**base, "apply": applied(("pay", "10"))})
    assert balances(call) == {"hub_stripe_clearing": "20.00", "Accounts Receivable": "-20.00"}
    assert call.w.sim.state()["customerPayment"][0]["unapplied"] == "20.00"
    shown = loads((await call.ok("GET", "customerRefund/eid:re", expandSubResources="true")).text)
    assert (shown["total"], shown["apply"]["items"][0]["type"]) == (D("10.00"), "Payment")
    await call.refused("USER_ERROR", "dependent records", "DELETE", "customerPayment/eid:pay")


async def test_undeposited_funds_empty_into_one_deposit_only(call: Caller) -> None:
    await customer(call)
    await sale(call, "in", line("hub_subscription", "50"))
    await pay(call, "pay", "50", ("in", "50"), account=None)
    assert balances(call) == {"Undeposited Funds": "50.00", "hub_sales": "-50.00"}
    number = int(call.w.sim.state()["customerPayment"][0]["id"])
    deposit = {
        "account": eid("hub_bank"), "tranDate": DATE, "payment": rows({"id": number, "deposit": True}),
        "cashback": rows({"account": eid("hub_fees"), "amount": D("1.75")}),
    }  # fmt: skip
    await call.ok("PUT", "deposit/eid:po", deposit)
    assert balances(call) == {"hub_bank": "48.25", "hub_fees": "1.75", "hub_sales": "-50.00"}
    await call.refused("INVALID_CONTENT", "following field: id", "PUT", "deposit/eid:po2", deposit)
    await call.refused("USER_ERROR", "has been deposited", "PATCH", "customerPayment/eid:pay", {"payment": D(60)})
    await call.refused("USER_ERROR", "dependent records", "DELETE", "customerPayment/eid:pay")
    call.w.sim.remove("customerPayment", "pay")
    assert balances(call) == {"Accounts Receivable": "50.00", "hub_sales": "-50.00"}
    assert call.w.sim.state()["deposit"] == []


async def test_a_bank_account_holds_one_currency_and_belongs_to_one_subsidiary(call: Caller) -> None:
    clearing = rows({"account": CLEARING, "amount": D(10)})
    us_fees = rows({"account": eid("hub_us_bank_fees"), "amount": D(1)})
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("currency", {"account": eid("hub_bank"), "currency": EUR, "other": clearing}),
        ("subsidiary", {"account": eid("hub_bank_eur"), "subsidiary": {"id": "2"}, "other": clearing}),
        ("account", {"account": CLEARING, "other": clearing}),
        ("account", {"account": eid("hub_bank_europe"), "other": us_fees}),
        ("account", {"account": eid("hub_bank_eur"), "other": rows({"account": eid("hub_bank"), "amount": D(1)})}),
        ("exchangeRate", {"account": eid("hub_bank"), "exchangeRate": D("1.2"), "other": clearing}),
    ]  # fmt: skip
    for field, body in wrong:
        await call.refused("INVALID_CONTENT", f"field: {field}", "PUT", "deposit/eid:po", {"tranDate": DATE, **body})
    below = rows({"account": CLEARING, "amount": D(-10)})
    await call.refused("USER_ERROR", "negative", "PUT", "deposit/eid:po", {"account": eid("hub_bank"), "other": below})
    await customer(call)
    euros = {"customer": eid("c1"), "payment": D(5), "currency": EUR, "tranDate": DATE}
    for bank in ("hub_bank", "hub_fees", "hub_bank_europe"):
        paid = {**euros, "account": eid(bank)}
        await call.refused("INVALID_CONTENT", "field: account", "PUT", "customerPayment/eid:p", paid)
    # 10.00 EUR at 1.2 into the bank of the US subsidiary, 12.00 USD; the rate is fixed from then on.
    euro = {"account": eid("hub_bank_eur"), "exchangeRate": D("1.2"), "other": clearing, "tranDate": DATE}
    await call.ok("PUT", "deposit/eid:po", euro)
    assert balances(call) == {"hub_bank_eur": "12.00", "hub_stripe_clearing": "-12.00"}
    await call.refused("USER_ERROR", "read-only once", "PATCH", "deposit/eid:po", {"exchangeRate": D("1.3")})
    # In Europe the euro is the base currency.
    await call.ok("PUT", "deposit/eid:eu", {"account": eid("hub_bank_europe"), "other": clearing, "tranDate": DATE})
    assert balances(call, "2") == {"hub_bank_europe": "10.00", "hub_stripe_clearing": "-10.00"}


async def test_a_subsidiary_keeps_its_books_in_its_own_currency(call: Caller) -> None:
    # 110.00 USD in the books of Europe: 1 USD = 1 / 1.1 EUR = 0.90909091, so 100.00 EUR.
    await customer(call, "c1", subsidiary="2")
    await sale(call, "in", line("hub_subscription", "110"), currency=USD)
    assert balances(call, "2") == {"Accounts Receivable": "100.00", "hub_sales": "-100.00"}
    shown = loads((await call.ok("GET", "invoice/eid:in")).text)
    assert (shown["exchangeRate"], shown["subsidiary"]["id"]) == (D("0.90909091"), "2")
    # A rate of its own, and back to the table's.
    await call.ok("PATCH", "invoice/eid:in", {"exchangeRate": D("0.9")})
    assert balances(call, "2")["Accounts Receivable"] == "99.00"
    await call.ok("PATCH", "invoice/eid:in", {"exchangeRate": None})
    assert balances(call, "2")["Accounts Receivable"] == "100.00"
    assert balances(call) == {}


async def test_a_journal_entry_balances_and_names_whom_a_receivable_is_of(call: Caller) -> None:
    await customer(call)
    head = {"subsidiary": {"id": "1"}, "tranDate": DATE}

    def entry(*lines: tuple[str, str, str]) -> dict[str, Any]:
        return {**head, "line": rows(*({"account": eid(a), side: D(amount)} for a, side, amount in lines))}

    good = entry(("hub_fx", "debit", "3.10"), ("hub_stripe_clearing", "credit", "3.10"))
    await call.refused("USER_ERROR", "Subsidiary", "PUT", "journalEntry/eid:j", {"line": good["line"]})
    odd = entry(("hub_fx", "debit", "3.10"), ("hub_stripe_clearing", "credit", "3.09"))
    await call.refused("USER_ERROR", "do not balance", "PUT", "journalEntry/eid:j", odd)
    both = {**head, "line": rows({"account": eid("hub_fx"), "debit": D(1), "credit": D(1)})}
    await call.refused("USER_ERROR", "Debit or Credit", "PUT", "journalEntry/eid:j", both)
    receivable = rows({"account": {"id": "1"}, "debit": D(1)}, {"account": eid("hub_fx"), "credit": D(1)})
    await call.refused("USER_ERROR", "Name", "PUT", "journalEntry/eid:j", {**head, "line": receivable})
    await call.ok("PUT", "journalEntry/eid:j", good)
    assert balances(call) == {"hub_fx": "3.10", "hub_stripe_clearing": "-3.10"}
    # 10.00 EUR against EUR at 1.1: three thirds of 3.33, 3.33, 3.34 are 3.66, 3.67, 3.67 (7.326 -> 7.33) of 11.00.
    thirds = entry(
        *(("hub_fees", "debit", a) for a in ("3.33", "3.33", "3.34")), ("hub_stripe_clearing", "credit", "10")
    )
    await call.ok("PUT", "journalEntry/eid:e", {**thirds, "currency": EUR})
    assert balances(call) == {"hub_fx": "3.10", "hub_fees": "11.00", "hub_stripe_clearing": "-14.10"}


async def test_a_thousand_and_one_lines_are_one_document(call: Caller) -> None:
    await customer(call)
    await sale(call, "in", *(line("hub_subscription", "0.01") for _ in range(1001)))
    await pay(call, "pay", "10.01", ("in", "10.01"))
    state = call.w.sim.state()
    assert (len(state["invoice"][0]["lines"]), state["invoice"][0]["total"]) == (1001, "10.01")
    assert balances(call) == {"hub_stripe_clearing": "10.01", "hub_sales": "-10.01"}
