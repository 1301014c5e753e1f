"""What NetSuite's books allow: amounts, applications, periods, currencies, subsidiaries.

Texts marked as our wording in a comment are not known; the others are recorded.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from connectors.netsuite.simulator.faults import invalid_value, missing, user_error
from connectors.netsuite.simulator.seed import FIRST_YEAR, ITEM_SUBSIDIARIES, Row

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books

ZERO = Decimal(0)
RATE = Decimal("0.00000001")


def check(books: Books, kind: str, number: str, row: Row, old: Row | None) -> None:
    """Completes `row` (defaults, computed amounts) or raises the `NsError` NetSuite would answer."""
    if kind == "customer":
        _customer(books, number, row, old)
        return
    _period(books, row, old)
    _party(books, row, "customer" if kind == "customerPayment" else "entity")
    if kind == "customerPayment":
        if row.get("payment") is None:
            raise missing("Payment Amount")
        row["payment"] = row["total"] = _rounded(books, row["payment"], row)
    else:
        _lines(books, row)
    if kind == "invoice":
        if row["total"] < books.applied(number):  # our wording
            raise user_error("The amount applied to this invoice is greater than its total.")
    else:
        _apply(books, number, row, row["customer" if kind == "customerPayment" else "entity"])


def _customer(books: Books, number: str, row: Row, old: Row | None) -> None:
    if row.get("isPerson"):
        if not row.get("firstName") or not row.get("lastName"):
            raise missing("First Name, Last Name")
    elif not row.get("companyName"):
        raise missing("Company Name")
    if not row.get("subsidiary"):
        raise missing("Primary Subsidiary")
    row.setdefault("entityId", row.get("companyName") or f"{row.get('firstName')} {row.get('lastName')}")
    row.setdefault("isInactive", False)
    if books.called(row["entityId"]) not in (None, number):
        raise user_error("This entity already exists.")
    row["currency"] = row.get("currency") or books.records["subsidiary"][row["subsidiary"]]["currency"]
    if old and books.transactions(number):
        for name in ("subsidiary", "currency"):  # our wording
            if row[name] != old[name]:
                raise user_error(f"The {name} cannot be changed: the customer has transactions.", path=name)
    if row["currency"] not in [c["currency"] for c in row["currencyList"]]:
        row["currencyList"].append({"currency": row["currency"]})


def _period(books: Books, row: Row, old: Row | None) -> None:
    row["tranDate"] = row.get("tranDate") or books.today
    for date in {row["tranDate"], old["tranDate"] if old else row["tranDate"]}:
        number = str((int(date[:4]) - FIRST_YEAR) * 12 + int(date[5:7]))
        found = books.records["accountingPeriod"].get(number)
        if found is None or found["closed"]:
            raise user_error(
                "The transaction date you specified is not within the date range of your accounting period."
            )
        if date == row["tranDate"]:
            row["postingPeriod"] = number


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


def _lines(books: Books, row: Row) -> None:
    if not row["item"]:
        raise user_error("You must enter at least one line item for this transaction.")
    for number, line in enumerate(row["item"]):
        path = f"item.items[{number}]"
        if not line.get("item"):
            raise missing("Items")
        allowed = ITEM_SUBSIDIARIES.get(books.item(line["item"]).get("externalId", ""))
        if allowed and row["subsidiary"] not in allowed:
            raise invalid_value(line["item"], "item", f"{path}.item")
        quantity = line["quantity"] = line.get("quantity") if line.get("quantity") is not None else Decimal(1)
        if len(quantity.normalize().as_tuple().digits) > 15:
            raise invalid_value(str(quantity), "quantity", f"{path}.quantity")
        rate = line.get("rate")
        if line.get("amount") is None and rate is None:
            raise missing("Amount")
        if rate is not None:
            rate = rate.quantize(RATE, ROUND_HALF_UP)
        # An amount given wins over quantity times rate, and the rate then follows from it if there is none.
        line["amount"] = _rounded(books, line["amount"] if line.get("amount") is not None else rate * quantity, row)
        if rate is None and quantity:
            rate = (line["amount"] / quantity).quantize(RATE, ROUND_HALF_UP)
        line["rate"] = rate
    row["subtotal"] = row["total"] = sum((line["amount"] for line in row["item"]), ZERO)
    if row["total"] < 0:  # our wording
        raise user_error("Transaction total may not be negative: the total amount is less than zero.")


def _apply(books: Books, number: str, row: Row, customer: str) -> None:
    left: Decimal = row["total"]
    kept: list[Row] = []
    for place, line in enumerate(row["apply"]):
        if line.get("apply") is False or line.get("amount") == 0:
            continue
        path = f"apply.items[{place}]"
        invoice = books.records["invoice"].get(line.get("doc") or "")
        if invoice is None or invoice["entity"] != customer or invoice["currency"] != row["currency"]:
            raise invalid_value(str(line.get("doc")), "doc", f"{path}.doc")
        due = invoice["total"] - books.applied(line["doc"], without=number)
        given = line.get("amount")
        amount = min(due, left) if given is None else _rounded(books, given, row)
        if amount > due:  # our wording
            raise user_error(
                "The amount applied cannot exceed the amount due of the transaction.", path=f"{path}.amount"
            )
        if amount > left or amount <= 0:  # our wording
            raise user_error("The amounts applied cannot exceed the total of the transaction.", path=f"{path}.amount")
        left -= amount
        kept.append({"doc": line["doc"], "apply": True, "amount": amount})
    row["apply"] = kept
    row["applied"], row["unapplied"] = row["total"] - left, left


def _rounded(books: Books, amount: Decimal, row: Row) -> Decimal:
    """To the places of the currency, which are two or none: NetSuite has no third."""
    places = int(books.records["currency"][row["currency"]]["currencyPrecision"])
    return amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def computed(books: Books, kind: str, number: str, row: Row) -> dict[str, Any]:
    """What is never stored because other records change it."""
    if kind == "invoice":
        paid = books.applied(number)
        open_amount = row["total"] - paid
        status = ("A", "Open") if open_amount else ("B", "Paid In Full")
        return {"amountPaid": paid, "amountRemaining": open_amount, "status": status}
    if kind == "creditMemo":
        status = ("A", "Open") if row["unapplied"] else ("B", "Fully Applied")
        return {"amountPaid": row["applied"], "amountRemaining": row["unapplied"], "status": status}
    if kind == "customerPayment":
        return {"status": ("C", "Deposited") if row.get("account") else ("B", "Not Deposited")}
    if kind == "customer":
        invoices = [n for n, owner in books.transactions(number).items() if owner == "invoice"]
        return {"balance": sum((books.records["invoice"][n]["total"] - books.applied(n) for n in invoices), ZERO)}
    return {}
