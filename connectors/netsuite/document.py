"""A record as it is sent: which record of NetSuite's, with which fields, and what its total must be.

A mapping may tell several records of one kind and one Stripe object apart by a word behind the kind
(`invoice:balance`), which NetSuite never sees, and say below `hub` what is for us alone: `hub.total`, the amount that
Stripe has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from connectors.netsuite.settings import NetSuiteSettings
from hub.errors import Reject
from hub.model import REVIVE, Record

OURS = "hub"
ACTIVE = {"isInactive": False}
"""What `revive` writes."""
TAXED = ("invoice", "creditMemo")
TRANSACTIONS = (*TAXED, "customerPayment", "customerRefund", "deposit", "journalEntry")
AMOUNTS = frozenset({"amount", "payment", "taxAmount", "debit", "credit", "total"})
SUMMED = {
    "invoice": (("item", "amount"), ("taxDetails", "taxAmount")),
    "creditMemo": (("item", "amount"), ("taxDetails", "taxAmount")),
    "customerRefund": (("apply", "amount"),),
    "deposit": (("other", "amount"),),
}
"""Record -> the columns whose sum is its total."""
OPTIONAL = ("taxDetails", "taxRegistration", "addressBook")
"""Lists that are not sent when empty: without SuiteTax there are no such fields; the address book is also people's."""
ADDRESSES = "addressBook"
PLACES = 2
"""Decimal places of an amount: a currency in NetSuite has two or none."""


def kind_of(record: Record) -> str:
    """NetSuite's record: `invoice` of `invoice:balance`."""
    return record.record.partition(":")[0]


def fields_of(record: Record, settings: NetSuiteSettings) -> dict[str, Any]:
    """The body, without the lists of `OPTIONAL` that are empty."""
    if record.action == REVIVE:
        return dict(ACTIVE)
    fields = {name: value for name, value in record.fields.items() if name != OURS}
    for name in OPTIONAL:
        if not _rows(fields, name):
            fields.pop(name, None)
    if settings.disable_tax_field and kind_of(record) in TAXED:
        fields[settings.disable_tax_field] = True
    return fields


def with_numbers(fields: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The addresses with NetSuite's own numbers, by which lines are changed; a label that is not there: a new line."""
    known = {row.get("label"): row.get("id") for row in _rows(found or {}, ADDRESSES)}
    lines = [
        {"id": known[line["label"]], **line} if known.get(line["label"]) is not None else dict(line)
        for line in _rows(fields, ADDRESSES)
    ]
    return {**fields, ADDRESSES: {"items": lines}}


def expected(record: Record) -> Decimal | None:
    """What NetSuite's total must be; None where the mapping does not say."""
    stated = (record.fields.get(OURS) or {}).get("total")
    return None if stated is None else Decimal(stated)


def refused(record: Record) -> Reject | None:
    """What must not leave: amounts NetSuite would round, rows that are not the total, more applied than there is."""
    for path, amount in _amounts(record.fields, ""):
        exponent = amount.normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > PLACES:
            return Reject(
                "TOO_PRECISE",
                f"{record.record} {record.key}: {path} is {amount}, but NetSuite's currencies have at most {PLACES} "
                "decimal places",
                "Nothing was sent. Accounting: an amount with three decimals that does not end in 0 cannot be booked "
                "to the last digit; correct the document in Stripe, or book it by hand and skip this delivery.",
            )
    total, columns = expected(record), SUMMED.get(kind_of(record), ())
    if total is not None and columns:
        parts = [(name, sum((r[column] for r in _rows(record.fields, name)), Decimal(0))) for name, column in columns]
        found = sum((amount for _, amount in parts), Decimal(0))
        if found != total:
            shown = " + ".join(f"{name} {amount}" for name, amount in parts)
            return _wrong(record, f"{shown} = {found}, but in Stripe it is {total}: off by {total - found}")
    whole = record.fields.get("payment", total)
    applied = sum((row["amount"] for row in _rows(record.fields, "apply")), Decimal(0))
    if whole is not None and applied > whole:
        return _wrong(record, f"{applied} would be applied, but it is {whole}: {applied - whole} too much")
    return None


def differs(record: Record, vendor_id: str, total: Any) -> Reject | None:
    """What NetSuite says the total is, against what it must be."""
    wanted = expected(record)
    if wanted is None or (isinstance(total, int | Decimal) and Decimal(total) == wanted):
        return None
    off = f": off by {Decimal(total) - wanted}" if isinstance(total, int | Decimal) else ""
    return Reject(
        "TOTAL_DIFFERS",
        f"{kind_of(record)} {record.key} (internal id {vendor_id}) is in NetSuite, but its total there is {total}, in "
        f"Stripe {wanted}{off}.",
        "Accounting: look at the record in NetSuite. A tax bundle or SuiteTax that taxes it again is the usual cause "
        "(HUB_NETSUITE_TAX, HUB_NETSUITE_DISABLE_TAX_FIELD, items not taxable), a script the next. Correct that and "
        "retry: the record is written anew.",
    )


def _wrong(record: Record, arithmetic: str) -> Reject:
    return Reject(
        "DOES_NOT_ADD_UP",
        f"{record.record} {record.key}: {arithmetic}.",
        f"Nothing was sent. Administrator: the rows of mapping {record.mapping} are not the document's total; correct "
        "it and retry. If the mapping is as shipped, report it with this text.",
    )


def _rows(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = fields.get(name)
    items = value.get("items") if isinstance(value, Mapping) else None
    return list(items) if isinstance(items, list | tuple) else []


def _amounts(value: Any, path: str) -> Iterator[tuple[str, Decimal]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, Decimal):
                if name in AMOUNTS:
                    yield f"{path}{name}", inner
            else:
                yield from _amounts(inner, f"{path}{name}.")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _amounts(inner, f"{path}{number}.")
