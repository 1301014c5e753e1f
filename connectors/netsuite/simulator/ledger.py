"""What NetSuite's books allow: parties, amounts, applications, currencies, subsidiaries.

Texts marked as our wording in a comment are not known; the others are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from connectors.netsuite.simulator import banking, periods
from connectors.netsuite.simulator.faults import invalid_value, missing, user_error
from connectors.netsuite.simulator.money import RATE, ZERO, rounded, settle_rate
from connectors.netsuite.simulator.schema import PARTY, SALES
from connectors.netsuite.simulator.seed import RECEIVABLE, Row
from connectors.netsuite.simulator.tax import taxed

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books

APPLIED_TO = {
    "creditMemo": ("invoice",),
    "customerPayment": ("invoice",),
    "customerRefund": ("creditMemo", "customerPayment"),
}
"""What each may be applied to."""


def check(books: Books, kind: str, number: str, row: Row, old: Row | None, given: Collection[str]) -> None:
    """Completes `row` (defaults, computed amounts) or raises the `NsError` NetSuite would answer. `given`: the fields
    and sublists the request names."""
    if kind == "customer":
        _customer(books, number, row, old)
        return
    row["tranDate"] = row.get("tranDate") or books.today
    if kind in PARTY:
        _party(books, row, PARTY[kind])
    elif kind == "deposit":
        banking.deposit_account(books, row)
    else:
        banking.journal_head(books, row)
    settle_rate(books, row, old, given="exchangeRate" in given)
    banking.segments(books, row)
    if kind in SALES:
        _sale(books, row, given)
    elif kind in PARTY:
        _money(books, kind, row)
    elif kind == "deposit":
        banking.deposit(books, number, row, old, given)
    else:
        banking.journal(books, row)
    if kind in APPLIED_TO:
        _apply(books, kind, number, row)
    if kind in PARTY:
        if row["total"] < books.applied(number) + row.get("applied", ZERO):  # our wording
            raise user_error("The amount applied to this transaction is greater than its total.")
        _deposited(books, number, row, old)
    periods.settle(books, kind, row, old, given="postingPeriod" in given)


def _sale(books: Books, row: Row, given: Collection[str]) -> None:
    _receivable(books, row, "account")
    _lines(books, row)
    row["taxTotal"] = taxed(books, row, given)
    row["total"] = row["subtotal"] + row["taxTotal"]
    if row["total"] < 0:  # our wording
        raise user_error("Transaction total may not be negative: the total amount is less than zero.")


def _money(books: Books, kind: str, row: Row) -> None:
    """A payment, whose amount is given, or a refund, whose amount is what it is applied to."""
    _receivable(books, row, "arAcct")
    if kind == "customerRefund":
        if not row.get("account"):
            raise missing("Account")
        row["total"] = None
    elif row.get("payment") is None:
        raise missing("Payment Amount")
    else:
        row["payment"] = row["total"] = rounded(books, row["payment"], row)
    if row.get("account"):
        banking.money_account(books, row, "account")


def _customer(books: Books, number: str, row: Row, old: Row | None) -> None:
    if row.get("isPerson"):
        if not row.get("firstName") or not row.get("lastName"):
            raise missing("First Name, Last Name")
    elif not row.get("companyName"):
        raise missing("Company Name")
    if not row.get("subsidiary"):
        raise missing("Primary Subsidiary")
    name = row.get("companyName") or f"{row.get('firstName')} {row.get('lastName')}"
    row["entityId"], row["isInactive"] = row.get("entityId") or name, bool(row.get("isInactive"))
    if books.called(row["entityId"]) not in (None, number):
        raise user_error("This entity already exists.")
    row["currency"] = row.get("currency") or books.records["subsidiary"][row["subsidiary"]]["currency"]
    if old and books.transactions(number):
        for name in ("subsidiary", "currency"):  # our wording
            if row[name] != old[name]:
                raise user_error(f"The {name} cannot be changed: the customer has transactions.", path=name)
    if row.get("parent") == number:
        raise invalid_value(number, "parent", "parent")
    if row["currency"] not in [c["currency"] for c in row["currencyList"]]:
        row["currencyList"].append({"currency": row["currency"]})
    for name in ("addressBook", "taxRegistration"):
        for line in row[name]:
            line["id"] = line.get("id") or books.line_id()


def _party(books: Books, row: Row, name: str) -> None:
    if not row.get(name):
        raise missing("Customer")
    customer = books.records["customer"][row[name]]
    if customer["isInactive"]:
        raise invalid_value(row[name], name, name)
    row["subsidiary"] = row.get("subsidiary") or customer["subsidiary"]
    if row["subsidiary"] != customer["subsidiary"]:
        raise invalid_value(row["subsidiary"], "subsidiary", "subsidiary")
    row["currency"] = row.get("currency") or customer["currency"]
    if row["currency"] not in [c["currency"] for c in customer["currencyList"]]:
        code = books.records["currency"][row["currency"]]["symbol"]
        raise user_error(f"The entity doesn't have access to the currency {code}.", path="currency")


def _receivable(books: Books, row: Row, name: str) -> None:
    row[name] = row.get(name) or RECEIVABLE
    if books.records["account"][row[name]]["acctType"][0] != "AcctRec":
        raise invalid_value(row[name], name, name)
    banking.usable(books, row, row[name], name, name)


def _lines(books: Books, row: Row) -> None:
    if not row["item"]:
        raise user_error("You must enter at least one line item for this transaction.")
    for number, line in enumerate(row["item"]):
        path = f"item.items[{number}]"
        if not line.get("item"):
            raise missing("Items")
        item = books.item(line["item"])
        if item["isInactive"] or (item["subsidiary"] and row["subsidiary"] not in item["subsidiary"]):
            raise invalid_value(line["item"], "item", f"{path}.item")
        banking.segments(books, row, line, path)
        quantity = line["quantity"] = line.get("quantity") if line.get("quantity") is not None else Decimal(1)
        if len(quantity.normalize().as_tuple().digits) > 15:
            raise invalid_value(str(quantity), "quantity", f"{path}.quantity")
        rate = line.get("rate")
        if line.get("amount") is None and rate is None:
            raise missing("Amount")
        if rate is not None:
            rate = rate.quantize(RATE, ROUND_HALF_UP)
        # An amount given wins over quantity times rate, and the rate then follows from it if there is none.
        line["amount"] = rounded(books, line["amount"] if line.get("amount") is not None else rate * quantity, row)
        if rate is None and quantity:
            rate = (line["amount"] / quantity).quantize(RATE, ROUND_HALF_UP)
        line["rate"] = rate
    row["subtotal"] = sum((line["amount"] for line in row["item"]), ZERO)


def _apply(books: Books, kind: str, number: str, row: Row) -> None:
    """Checks the applications and keeps those that apply. A refund's total is their sum."""
    left: Decimal | None = None if row["total"] is None else row["total"] - books.applied(number)
    kept: dict[str, Row] = {}
    for place, line in enumerate(row["apply"]):
        if line.get("apply") is False or line.get("amount") == 0:
            continue
        path = f"apply.items[{place}]"
        due = _due(books, kind, number, row, line.get("doc"), f"{path}.doc")
        if line["doc"] in kept:  # our wording: the same document twice
            raise invalid_value(line["doc"], "doc", f"{path}.doc")
        wanted = line.get("amount")
        amount = (due if left is None else min(due, left)) if wanted is None else rounded(books, wanted, row)
        if amount > due:  # our wording
            raise user_error(
                "The amount applied cannot exceed the amount due of the transaction.", path=f"{path}.amount"
            )
        if (left is not None and amount > left) or amount <= 0:  # our wording
            raise user_error("The amounts applied cannot exceed the total of the transaction.", path=f"{path}.amount")
        if left is not None:
            left -= amount
        kept[line["doc"]] = {"doc": line["doc"], "apply": True, "amount": amount}
    row["apply"] = list(kept.values())
    row["applied"] = sum((line["amount"] for line in row["apply"]), ZERO)
    if row["total"] is None:
        if not kept:  # our wording
            raise user_error("You must select at least one transaction to refund.")
        row["total"] = row["applied"]


def _due(books: Books, kind: str, number: str, row: Row, doc: str | None, path: str) -> Decimal:
    """What is open of a document, left alone what `number` itself has put on it."""
    owner = next((k for k in APPLIED_TO[kind] if doc in books.records[k]), None)
    if doc is None or owner is None:
        raise invalid_value(str(doc), "doc", path)
    other = books.records[owner][doc]
    ours = (row[PARTY[kind]], row["currency"], row["account" if kind in SALES else "arAcct"])
    if (other[PARTY[owner]], other["currency"], other["account" if owner in SALES else "arAcct"]) != ours:
        raise invalid_value(doc, "doc", path)
    open_amount: Decimal = other["total"] - other.get("applied", ZERO) - books.applied(doc, without=number)
    return open_amount


def _deposited(books: Books, number: str, row: Row, old: Row | None) -> None:
    if old is None or books.deposit_of(number) is None:
        return
    for name in ("total", "currency", "account"):  # our wording
        if row.get(name) != old.get(name):
            raise user_error("This payment has been deposited and its amount or account cannot be changed.")


def computed(books: Books, kind: str, number: str, row: Row) -> dict[str, Any]:
    """What is never stored because other records change it."""
    if row.get("voided"):
        nothing = row["total"]
        return {"amountPaid": nothing, "amountRemaining": nothing, "unapplied": nothing, "status": ("V", "Voided")}
    found = _COMPUTED.get(kind)
    return found(books, number, row) if found else {}


def _invoice(books: Books, number: str, row: Row) -> dict[str, Any]:
    paid = books.applied(number)
    left = row["total"] - paid
    return {"amountPaid": paid, "amountRemaining": left, "status": ("A", "Open") if left else ("B", "Paid In Full")}


def _memo(books: Books, number: str, row: Row) -> dict[str, Any]:
    left = row["total"] - row["applied"] - books.applied(number)
    status = ("A", "Open") if left else ("B", "Fully Applied")
    return {"amountPaid": row["total"] - left, "amountRemaining": left, "unapplied": left, "status": status}


def _payment(books: Books, number: str, row: Row) -> dict[str, Any]:
    refunded = books.applied(number)
    banked = row.get("account") or books.deposit_of(number)
    status = ("C", "Deposited") if banked else ("B", "Not Deposited")
    left = row["total"] - row["applied"] - refunded
    return {"status": status, "unapplied": left, "refundedAmountTotalBox": refunded}


def _refund(books: Books, number: str, row: Row) -> dict[str, Any]:
    del books, number, row
    return {"status": ("R", "Deposited")}  # the name behind `R` is not known


def _party_balance(books: Books, number: str, row: Row) -> dict[str, Any]:
    del row
    return {"balance": _balance(books, number)}


_COMPUTED: dict[str, Callable[[Books, str, Row], dict[str, Any]]] = {
    "invoice": _invoice, "creditMemo": _memo, "customerPayment": _payment, "customerRefund": _refund,
    "customer": _party_balance,
}  # fmt: skip


def _balance(books: Books, customer: str) -> Decimal:
    total = ZERO
    for number, kind in books.transactions(customer).items():
        shown = computed(books, kind, number, books.records[kind][number])
        total += shown.get("amountRemaining", ZERO) if kind == "invoice" else -shown.get("unapplied", ZERO)
    return total
