"""Accounts, deposits and journal entries: what the bank side of the books allows.

Texts are our wording unless they are those of `faults`. Not known: whether a payment may go to an account of another
type than Bank or Other Current Asset, whether a base-currency bank account takes other currencies, and whether a
deposit may come out negative. Here they are refused, the harsher reading.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import TYPE_CHECKING

from connectors.netsuite.simulator.faults import invalid_value, missing, user_error
from connectors.netsuite.simulator.money import ZERO, base_currency, rounded
from connectors.netsuite.simulator.seed import Row

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books

SEGMENTS = (("department", "department"), ("class", "classification"), ("location", "location"))


def usable(books: Books, row: Row, number: str, field: str, path: str) -> None:
    """Whether the transaction may post to this account: active, of its subsidiary, of its currency."""
    account = books.records["account"][number]
    if account["isInactive"] or (account["subsidiary"] and row["subsidiary"] not in account["subsidiary"]):
        raise invalid_value(number, field, path)
    if account["currency"] not in (None, row["currency"]):
        raise invalid_value(number, field, path)


def money_account(books: Books, row: Row, name: str) -> None:
    """Where a payment goes to or a refund comes from."""
    if books.records["account"][row[name]]["acctType"][0] not in ("Bank", "OthCurrAsset"):
        raise invalid_value(row[name], name, name)
    usable(books, row, row[name], name, name)


def segments(books: Books, row: Row, line: Row | None = None, path: str = "") -> None:
    """Department, class and location are active and of the subsidiary."""
    for name, kind in SEGMENTS:
        number = (row if line is None else line).get(name)
        found = books.records[kind].get(number) if number else None
        if found and (found["isInactive"] or (found["subsidiary"] and row["subsidiary"] not in found["subsidiary"])):
            raise invalid_value(str(number), name, f"{path}.{name}" if path else name)


def deposit_account(books: Books, row: Row) -> None:
    """Subsidiary and currency of a deposit are those of its bank account (Records Browser 2022.1, Deposit)."""
    if not row.get("account"):
        raise missing("Account")
    account = books.records["account"][row["account"]]
    if account["acctType"][0] != "Bank":
        raise invalid_value(row["account"], "account", "account")
    row["subsidiary"] = row.get("subsidiary") or next(iter(account["subsidiary"]), "1")
    row["currency"] = row.get("currency") or account["currency"] or base_currency(books, row["subsidiary"])
    for name, fits in (
        ("subsidiary", not account["subsidiary"] or row["subsidiary"] in account["subsidiary"]),
        ("currency", account["currency"] in (None, row["currency"])),
    ):
        if not fits:
            raise invalid_value(row[name], name, name)


def deposit(books: Books, number: str, row: Row, old: Row | None, given: Collection[str]) -> None:
    """Payments out of undeposited funds, other lines (positive: into the bank), cash back (positive: out of it)."""
    if old is not None and "exchangeRate" in given and row["exchangeRate"] != old["exchangeRate"]:
        raise user_error("The field exchangeRate is read-only once the deposit exists.", path="exchangeRate")
    kept, total = [], ZERO
    for place, line in enumerate(row["payment"]):
        if line.get("deposit") is False:
            continue
        payment = books.records["customerPayment"].get(str(line.get("id")))
        taken = books.deposit_of(str(line.get("id")))
        fits = payment is not None and not payment.get("account") and taken in (None, number)
        if payment is None or not fits or any(payment[n] != row[n] for n in ("currency", "subsidiary")):
            raise invalid_value(str(line.get("id")), "id", f"payment.items[{place}].id")
        kept.append({**line, "deposit": True, "paymentAmount": payment["total"]})
        total += payment["total"]
    if len({line["id"] for line in kept}) != len(kept):
        raise user_error("A payment can be deposited only once.")
    row["payment"] = kept
    for name, sign in (("other", 1), ("cashback", -1)):
        for place, line in enumerate(row[name]):
            path = f"{name}.items[{place}]"
            _account_line(books, row, line, path)
            if line.get("amount") is None:
                raise missing("Amount")
            line["amount"] = rounded(books, line["amount"], row)
            total += sign * line["amount"]
    if not (row["payment"] or row["other"]):
        raise user_error("You must enter at least one line item for this transaction.")
    row["total"] = rounded(books, total, row)
    if row["total"] < 0:
        raise user_error("Transaction total may not be negative: the total amount is less than zero.")


def journal_head(books: Books, row: Row) -> None:
    if not row.get("subsidiary"):
        raise missing("Subsidiary")
    row["currency"] = row.get("currency") or base_currency(books, row["subsidiary"])


def journal(books: Books, row: Row) -> None:
    """Each line debits or credits, and together they balance."""
    debit, credit = ZERO, ZERO
    for place, line in enumerate(row["line"]):
        path = f"line.items[{place}]"
        _account_line(books, row, line, path)
        sides = [name for name in ("debit", "credit") if line.get(name)]
        if len(sides) != 1:
            raise missing("Debit or Credit")
        line[sides[0]] = amount = rounded(books, line[sides[0]], row)
        if amount < 0:
            raise invalid_value(str(amount), sides[0], f"{path}.{sides[0]}")
        debit, credit = (debit + amount, credit) if sides[0] == "debit" else (debit, credit + amount)
    if not row["line"]:
        raise user_error("You must enter at least one line item for this transaction.")
    if debit != credit:
        raise user_error(f"The amounts in the journal entry do not balance: debit {debit}, credit {credit}.")
    row["total"] = debit


def _account_line(books: Books, row: Row, line: Row, path: str) -> None:
    if not line.get("account"):
        raise missing("Account")
    usable(books, row, line["account"], "account", f"{path}.account")
    segments(books, row, line, path)
    customer = books.records["customer"].get(line.get("entity") or "")
    if customer is None and books.records["account"][line["account"]]["acctType"][0] == "AcctRec":
        raise missing("Name")
    if customer is not None and customer["subsidiary"] != row["subsidiary"]:
        raise invalid_value(str(line["entity"]), "entity", f"{path}.entity")


def signed(line: Row) -> Decimal:
    """A journal line, debit positive."""
    return Decimal(line.get("debit") or ZERO) - Decimal(line.get("credit") or ZERO)
