"""Do the systems agree? Pure: the vendors' own records in, differences out. Knows nothing of the hub's mappings or
links.

It repeats, on purpose and by hand, what an accountant would check: every invoice Stripe finalised exists once in each
system, for the same amount, in the state that belongs to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hub.commands.tieout_balance import balances
from hub.commands.tieout_money import Money, major, money


@dataclass(slots=True)
class TieOut:
    """Counts per system, and each difference in words."""

    invoices: dict[str, int] = field(default_factory=dict)
    amounts: list[str] = field(default_factory=list)
    """Differences in money, duplicates and missing documents."""
    statuses: list[str] = field(default_factory=list)
    lake_events: int = 0
    lake_duplicates: int = 0
    lake_missing: int = 0
    money: Money = field(default_factory=Money)

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to explain."""
        same = len(set(self.invoices.values())) == 1
        wrong = self.amounts or self.statuses or self.lake_duplicates or self.lake_missing
        return same and not wrong and self.money.agrees


def tie_out(
    stripe: Mapping[str, Any],
    salesforce: Mapping[str, Any],
    netsuite: Mapping[str, Any],
    avalara: Mapping[str, Any],
    lake: Counter[str],
    sent: Iterable[str],
) -> TieOut:
    """Compare the vendors' states. `lake`: event id -> rows; `sent`: every event id Stripe sent."""
    result = TieOut()
    wanted = {
        i["id"]: i for i in stripe["invoices"] if i["status"] != "draft" and i["status_transitions"]["finalized_at"]
    }
    result.invoices["stripe"] = len(wanted)
    # An invoice below nothing is a credit memo in NetSuite, which has no such invoices.
    own = [r for r in netsuite["invoice"] if str(r["externalId"]).startswith("stripe_in_")]
    below = [
        {**r, "total": f"-{r['total']}"}
        for r in netsuite["creditMemo"]
        if str(r["externalId"]).startswith("stripe_in_")
    ]
    books = _by([*own, *below], lambda r: str(r["externalId"]).removeprefix("stripe_"))
    taxes = _by((d for d in avalara["documents"] if d["type"] == "SalesInvoice"), lambda r: str(r["code"]))
    crm = _by(
        (r for r in salesforce["Stripe_Invoice__c"] if r["Stripe_Id__c"] in wanted), lambda r: str(r["Stripe_Id__c"])
    )
    for name, found in (("netsuite", books), ("avalara", taxes), ("salesforce", crm)):
        result.invoices[name] = len(found)
        result.amounts += [f"{name}: {len(rs)} documents for {k}" for k, rs in found.items() if len(rs) > 1]
        result.amounts += [f"{name}: {k} is not an invoice of Stripe's" for k in found.keys() - wanted.keys()]
        result.amounts += [f"{name}: {k} is missing" for k in wanted.keys() - found.keys()]
    for id_, invoice in wanted.items():
        total = major(invoice["total"], invoice["currency"])
        for name, record in _found(books, taxes, crm, id_):
            amount = _amount(name, record)
            if amount != total:
                result.amounts.append(f"{name}: {id_} is {amount}, in Stripe {total} {invoice['currency'].upper()}")
        result.statuses += _statuses(invoice, books.get(id_), taxes.get(id_), crm.get(id_))
    result.lake_events = len(lake)
    result.lake_duplicates = sum(n - 1 for n in lake.values())
    result.lake_missing = len(set(sent) - lake.keys())
    result.money = money(stripe, netsuite, avalara)
    balances(result.money, stripe, netsuite)
    return result


def _by(records: Iterable[Mapping[str, Any]], key: Any) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return found


def _found(books: Any, taxes: Any, crm: Any, id_: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(n, f[id_][0]) for n, f in (("netsuite", books), ("avalara", taxes), ("salesforce", crm)) if id_ in f]


def _amount(system: str, record: Mapping[str, Any]) -> Decimal:
    match system:
        case "netsuite":
            return Decimal(str(record["total"]))
        case "avalara":
            return Decimal(str(record["totalAmount"])) + Decimal(str(record["totalTax"]))
        case _:
            return Decimal(str(record["Total__c"]))


def _statuses(
    invoice: Mapping[str, Any],
    books: Sequence[Mapping[str, Any]] | None,
    taxes: Sequence[Mapping[str, Any]] | None,
    crm: Sequence[Mapping[str, Any]] | None,
) -> list[str]:
    wrong = []
    id_, status = invoice["id"], invoice["status"]
    if taxes and taxes[0]["status"] != ("Cancelled" if status == "void" else "Committed"):
        wrong.append(f"avalara: {id_} is {taxes[0]['status']}, in Stripe {status}")
    if crm and str(crm[0]["Status__c"]).lower() != status:
        wrong.append(f"salesforce: {id_} is {crm[0]['Status__c']}, in Stripe {status}")
    if books and status in ("paid", "void") and Decimal(str(books[0]["amountRemaining"])) != 0:
        wrong.append(f"netsuite: {id_} has {books[0]['amountRemaining']} open, in Stripe it is {status}")
    return wrong
