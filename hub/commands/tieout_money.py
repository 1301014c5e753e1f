"""Does the money agree? Payments, credit notes, refunds, disputes, payouts and tax, one by one and in total. Pure.

Like `tieout`, by hand and from the vendors' own records: how the hub maps and links them is not asked. What has to be
where is written in connectors/netsuite/README.md and connectors/avalara/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
PLACES: Mapping[str, int] = {"usd": 2, "eur": 2, "gbp": 2, "jpy": 0, "kwd": 3}
"""Minor-unit digits of the currencies the sandbox deals in (ISO 4217)."""
ZERO = Decimal(0)


@dataclass(slots=True)
class Money:
    """How many of each kind each system has, the control totals, and each difference in words."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Kind -> system -> number of documents."""
    tax: dict[str, dict[str, str]] = field(default_factory=dict)
    """Currency -> system -> tax on invoices less tax on credit notes, major units."""
    clearing: dict[str, dict[str, str]] = field(default_factory=dict)
    """Settlement currency -> system -> what Stripe has of us, major units, and the `difference` (`tieout_balance`)."""
    receivables: dict[str, dict[str, str]] = field(default_factory=dict)
    """Currency -> system -> what customers owe, and the `difference`."""
    differences: dict[str, list[str]] = field(default_factory=dict)
    """Kind -> what does not agree."""

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to explain."""
        counted = all(len(set(systems.values())) == 1 for systems in self.counts.values())
        taxed = all(len(set(systems.values())) == 1 for systems in self.tax.values())
        return counted and taxed and not any(self.differences.values())

    def all(self) -> list[str]:
        """Every difference, with its kind."""
        return [f"{kind}: {text}" for kind, found in self.differences.items() for text in found]


def major(minor: int, currency: str) -> Decimal:
    """Stripe's amount in the unit people write."""
    return Decimal(minor).scaleb(-PLACES[currency])


def money(stripe: Mapping[str, Any], netsuite: Mapping[str, Any], avalara: Mapping[str, Any]) -> Money:
    """Compare the vendors' states, everything that moved money or tax."""
    found = Money()
    _payments(found, stripe, netsuite)
    _credit_notes(found, stripe, netsuite, avalara)
    _refunds(found, stripe, netsuite, avalara)
    _disputes(found, stripe, netsuite)
    _payouts(found, stripe, netsuite)
    _tax(found, stripe, avalara)
    return found


def _payments(found: Money, stripe: Mapping[str, Any], netsuite: Mapping[str, Any]) -> None:
    paid = [p for p in stripe["invoice_payments"] if p["status"] == "paid" and p["amount_paid"]]
    wanted = {f"stripe_{p['id']}": major(p["amount_paid"], p["currency"]) for p in paid}
    back = {f"stripe_paidback_{d['id']}" for d in stripe["disputes"]}
    back |= {f"stripe_failed_{r['id']}" for r in stripe["refunds"] if r["status"] == "failed"}
    _compare(found, "payments", "netsuite", wanted, _books(netsuite["customerPayment"], "payment"), known=back)


def _credit_notes(
    found: Money, stripe: Mapping[str, Any], netsuite: Mapping[str, Any], avalara: Mapping[str, Any]
) -> None:
    notes = stripe["credit_notes"]
    wanted = {f"stripe_{n['id']}": major(n["total"], n["currency"]) for n in notes}
    memos = {k: v for k, v in _books(netsuite["creditMemo"], "total").items() if k.startswith("stripe_cn_")}
    _compare(found, "credit_notes", "netsuite", wanted, memos)
    returns = _returns(avalara, "cn_")
    _compare(
        found, "credit_notes", "avalara", {n["id"]: major(n["total"], n["currency"]) for n in notes}, _sums(returns)
    )
    for note in notes:
        status = [r["status"] for r in returns if r["code"] == note["id"]]
        right = "Cancelled" if note["status"] == "void" else "Committed"
        if status and status != [right]:
            found.differences["credit_notes"].append(
                f"avalara: {note['id']} is {status[0]}, in Stripe {note['status']}"
            )


def _refunds(found: Money, stripe: Mapping[str, Any], netsuite: Mapping[str, Any], avalara: Mapping[str, Any]) -> None:
    invoiced = {p["payment"].get("payment_intent") for p in stripe["invoice_payments"]} - {None}
    refunds = [r for r in stripe["refunds"] if r["status"] != "canceled" and r["payment_intent"] in invoiced]
    wanted = {f"stripe_{r['id']}": major(r["amount"], r["currency"]) for r in refunds}
    disputes = {f"stripe_{d['id']}" for d in stripe["disputes"]}
    _compare(found, "refunds", "netsuite", wanted, _books(netsuite["customerRefund"], "total"), known=disputes)
    noted = {line["refund"] for note in stripe["credit_notes"] for line in note["refunds"]}
    alone = {r["id"]: major(r["amount"], r["currency"]) for r in refunds if r["id"] not in noted}
    _compare(found, "refunds_without_note", "avalara", alone, _sums(_returns(avalara, "re_")))


def _disputes(found: Money, stripe: Mapping[str, Any], netsuite: Mapping[str, Any]) -> None:
    """Money that was taken is a refund, money that came back a payment."""

    def moved(prefix: str, wanted: Callable[[int], bool]) -> dict[str, Decimal]:
        return {
            f"{prefix}{d['id']}": major(d["amount"], d["currency"])
            for d in stripe["disputes"]
            if any(wanted(t["amount"]) for t in d["balance_transactions"])
        }

    taken, back = moved("stripe_", lambda amount: amount < 0), moved("stripe_paidback_", lambda amount: amount > 0)
    books = {**_books(netsuite["customerRefund"], "total"), **_books(netsuite["customerPayment"], "payment")}
    mine = {k: v for k, v in books.items() if k.startswith(("stripe_dp_", "stripe_du_", "stripe_paidback_"))}
    _compare(found, "disputes", "netsuite", {**taken, **back}, mine)


def _payouts(found: Money, stripe: Mapping[str, Any], netsuite: Mapping[str, Any]) -> None:
    payouts = [p for p in stripe["payouts"] if p["status"] in ("paid", "failed")]
    wanted = {f"stripe_{p['id']}": major(p["amount"], p["currency"]) for p in payouts}
    deposits = {k: v for k, v in _books(netsuite["deposit"], "total").items() if not k.startswith("stripe_failed_")}
    _compare(found, "payouts", "netsuite", wanted, deposits)


def _tax(found: Money, stripe: Mapping[str, Any], avalara: Mapping[str, Any]) -> None:
    """Per document in `differences`, per currency in `tax`. What was voided counts on neither side."""
    documents = [
        *(i for i in stripe["invoices"] if i["status"] not in ("draft", "void")),
        *(n for n in stripe["credit_notes"] if n["status"] != "void"),
    ]
    recorded = {
        (str(d["code"]), d["type"]): Decimal(str(d["totalTax"]))
        for d in avalara["documents"]
        if d["status"] != "Cancelled"
    }
    wrong = found.differences.setdefault("tax", [])
    for document in documents:
        sign = 1 if document["object"] == "invoice" else -1
        currency = document["currency"]
        charged = sign * major(sum(tax["amount"] for tax in document["total_taxes"] or ()), currency)
        reported = recorded.get((document["id"], "SalesInvoice" if sign > 0 else "ReturnInvoice"), ZERO)
        totals = found.tax.setdefault(currency.upper(), {"stripe": "0", "avalara": "0"})
        totals["stripe"] = str(Decimal(totals["stripe"]) + charged)
        totals["avalara"] = str(Decimal(totals["avalara"]) + reported)
        if charged != reported:
            wrong.append(f"avalara: {document['id']} has tax {reported}, in Stripe {charged} {currency.upper()}")
    for totals in found.tax.values():  # 1.10 and 1.1 are one amount
        totals.update({system: f"{Decimal(amount).normalize():f}" for system, amount in totals.items()})


def _compare(
    found: Money,
    kind: str,
    system: str,
    wanted: Mapping[str, Decimal],
    there: Mapping[str, Sequence[Decimal]],
    *,
    known: Iterable[str] = (),
) -> None:
    """`known`: documents of another kind among those that are there."""
    there = {key: amounts for key, amounts in there.items() if key not in set(known)}
    found.counts.setdefault(kind, {"stripe": len(wanted)})[system] = sum(map(len, there.values()))
    wrong = found.differences.setdefault(kind, [])
    wrong += [f"{system}: {key} is missing" for key in wanted.keys() - there.keys()]
    wrong += [f"{system}: {key} is nothing of Stripe's" for key in there.keys() - wanted.keys()]
    for key in wanted.keys() & there.keys():
        if len(there[key]) > 1:
            wrong.append(f"{system}: {len(there[key])} documents for {key}")
        if there[key][0] != wanted[key]:
            wrong.append(f"{system}: {key} is {there[key][0]}, in Stripe {wanted[key]}")


def _books(rows: Iterable[Row], amount: str) -> dict[str, list[Decimal]]:
    found: dict[str, list[Decimal]] = {}
    for row in rows:
        found.setdefault(str(row.get("externalId")), []).append(Decimal(str(row[amount])))
    return found


def _returns(avalara: Mapping[str, Any], prefix: str) -> list[Row]:
    return [d for d in avalara["documents"] if d["type"] == "ReturnInvoice" and str(d["code"]).startswith(prefix)]


def _sums(returns: Iterable[Row]) -> dict[str, list[Decimal]]:
    found: dict[str, list[Decimal]] = {}
    for row in returns:
        gross = Decimal(str(row["totalAmount"])) + Decimal(str(row["totalTax"]))
        found.setdefault(str(row["code"]), []).append(-gross)
    return found
