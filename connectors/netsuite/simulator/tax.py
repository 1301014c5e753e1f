"""Tax on invoices and credit memos, in the account's three ways.

Without SuiteTax the REST service has no tax fields: tax is a line with an item on the tax account. With SuiteTax
NetSuite works it out by itself (here: our own small table, `seed.TAX_RATES`) unless `taxDetailsOverride` is true; then
the tax is what `taxDetails` says, line by line through `taxDetailsReference` (NetSuite help, "Invoice" in REST). With
Avalara's bundle tax is added whatever the lines say, unless the bundle's field forbids it. Texts: our wording.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import TYPE_CHECKING

from connectors.netsuite.simulator.faults import invalid_value, missing, user_error
from connectors.netsuite.simulator.money import ZERO, rounded
from connectors.netsuite.simulator.schema import DISABLE_AVATAX
from connectors.netsuite.simulator.seed import TAX_PAYABLE, TAX_RATES, Row

if TYPE_CHECKING:
    from connectors.netsuite.simulator.books import Books

BUNDLE_RATE = Decimal("0.1")
"""What the simulated bundle adds, of every line that is not on the tax account."""


def taxed(books: Books, row: Row, given: Collection[str]) -> Decimal:
    """The tax to add to the lines; fills `taxDetails`. Raises the `NsError` of details that do not fit the lines."""
    if books.switches.avatax_bundle and not row.get(DISABLE_AVATAX):
        row["taxDetails"] = []
        return rounded(books, _basis(books, row) * BUNDLE_RATE, row)
    if not books.switches.suitetax:
        return ZERO
    if row.get("taxDetailsOverride"):
        return _given(books, row)
    if "taxDetails" in given and row["taxDetails"]:
        raise user_error("Tax details cannot be changed unless Tax Details Override is set.", path="taxDetails")
    return _worked_out(books, row)


def _basis(books: Books, row: Row) -> Decimal:
    return sum((r["amount"] for r in row["item"] if books.item(r["item"])["incomeAccount"] != TAX_PAYABLE), ZERO)


def _given(books: Books, row: Row) -> Decimal:
    references = {line.get("taxDetailsReference") for line in row["item"]} - {None}
    for number, detail in enumerate(row["taxDetails"]):
        path = f"taxDetails.items[{number}]"
        if detail.get("taxDetailsReference") not in references:
            shown = str(detail.get("taxDetailsReference"))
            raise invalid_value(shown, "taxDetailsReference", f"{path}.taxDetailsReference")
        for name, label in (("taxType", "Tax Type"), ("taxCode", "Tax Code"), ("taxAmount", "Tax Amount")):
            if detail.get(name) is None:
                raise missing(label)
        detail["taxAmount"] = rounded(books, detail["taxAmount"], row)
        if detail["taxAmount"] and detail.get("taxBasis") is None:
            raise missing("Tax Basis")
    return sum((detail["taxAmount"] for detail in row["taxDetails"]), ZERO)


def _worked_out(books: Books, row: Row) -> Decimal:
    code, rate = TAX_RATES[row["subsidiary"]]
    details = []
    for line in row["item"]:
        if books.item(line["item"])["incomeAccount"] == TAX_PAYABLE:
            continue
        line["taxDetailsReference"] = line.get("taxDetailsReference") or f"LINE_{line['line']}"
        details.append(
            {
                "taxDetailsReference": line["taxDetailsReference"], "taxType": books.records["taxType"][code]["name"],
                "taxCode": code, "taxBasis": line["amount"], "taxRate": rate,
                "taxAmount": rounded(books, line["amount"] * rate / 100, row),
            }
        )  # fmt: skip
    row["taxDetails"] = details
    return sum((detail["taxAmount"] for detail in details), ZERO)
