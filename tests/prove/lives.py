"""Customers' lives at the simulated Stripe, and what every vendor must hold and have been told of them in the end.

Each customer pays an invoice of 58.32 (worked out in `tests.flow.story`); every third has another of 125.00 that is
voided. All of a life is over before any of it is delivered, so each record is written once, as it is in the end:
what is expected needs no knowledge of when what was delivered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.flow.stack import Vendors
from tests.flow.story import ADDRESS, draft, shop, subscribe
from tests.prove.effects import Effects


@dataclass
class Lives:
    """What was told, and what follows from it."""

    town: Vendors
    shop: dict[str, str] = field(default_factory=dict)
    customers: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)
    paid: list[str] = field(default_factory=list)
    payments: list[str] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    """Ids, in the order in which they happened; of a thin one also the id of what is fetched for it."""

    def one(self, *, thin: bool = False) -> list[dict[str, Any]]:
        """The events of one more customer. `thin`: a thin notification also tells of the finalised invoice."""
        town = self.town
        if not self.shop:
            self.shop = shop(town)
            customer = self.shop["customer"]
        else:
            name = f"Customer {len(self.customers)}"
            customer = town.post("/v1/customers", name=name, address=ADDRESS)["id"]
        plan = subscribe(town, self.shop | {"customer": customer}, 3)
        if len(self.customers) % 3 == 0:
            wrong = draft(town, customer)
            town.post("/v1/invoiceitems", customer=customer, invoice=wrong, amount=12500, description="Training")
            town.post(f"/v1/invoices/{wrong}/finalize")
            town.post(f"/v1/invoices/{wrong}/void")
            self.voided.append(wrong)
        self.customers.append(customer)
        self.subscriptions.append(plan["id"])
        self.paid.append(plan["latest_invoice"])
        if thin:
            notice = town.stripe.emit_thin("v1.invoice.finalized", plan["latest_invoice"])
            self.events.append(f"{notice['id']}:fetched")
        told = list(town.heard)
        town.heard.clear()
        self.events += [event["id"] for event in told]
        self.payments += [e["data"]["object"]["id"] for e in told if e["type"] == "invoice_payment.paid"]
        return told

    def all_there(self, found: dict[str, Any]) -> None:
        """These records and no others. `picture` refuses two of one key."""
        assert len(self.payments) == len(self.paid)
        books, crm, taxes = found["netsuite"], found["salesforce"], found["avalara"]
        assert found["lake"] == dict.fromkeys(self.events, 1)
        assert {k: r.get("total", r.get("payment")) for k, r in books.items()} == (
            {f"customer stripe_{c}": None for c in self.customers}
            | {f"invoice stripe_{i}": "58.32" for i in self.paid}
            | {f"customerPayment stripe_{p}": "58.32" for p in self.payments}
            | {f"invoice stripe_{i}": "125.00" for i in self.voided}
            | {f"creditMemo stripe_void_{i}": "125.00" for i in self.voided}
        )
        assert {k: d["status"] for k, d in taxes.items()} == (
            dict.fromkeys(self.paid, "Committed") | dict.fromkeys(self.voided, "Cancelled")
        )
        assert {k: r.get("Status__c") for k, r in crm.items() if k.startswith(("Account ", "Stripe_"))} == (
            {f"Account {c}": None for c in self.customers}
            | {f"Stripe_Subscription__c {s}": "active" for s in self.subscriptions}
            | {f"Stripe_Invoice__c {i}": "paid" for i in self.paid}
            | {f"Stripe_Invoice__c {i}": "void" for i in self.voided}
        )

    def once(self, effects: Effects) -> None:
        """Every effect at every vendor, counted: no more and no fewer than what the lives need.

        For lives of which all was accepted before any was delivered.
        """
        self.made_once(effects)
        settled = [*self.paid, *self.voided]
        assert effects.counted("netsuite") == Counter(
            [f"made customer {c}" for c in self.customers]
            + [f"made invoice {i}" for i in settled]
            + [f"made customerPayment {p}" for p in self.payments]
            + [f"made creditMemo void_{i}" for i in self.voided]
            # Payment and credit memo close their invoice, and each document moves its customer's balance.
            + [f"changed invoice {i}" for i in settled]
            + [f"changed customer {c}" for c in (*self.customers, *self.customers[::3]) for _ in range(2)]
        )
        assert effects.counted("avalara") == Counter(
            [f"made {i}" for i in settled] + [f"changed {i}" for i in self.voided]
        )
        assert effects.counted("salesforce") == Counter(
            [f"made Account {c}" for c in self.customers]
            + [f"made Stripe_Subscription__c {s}" for s in self.subscriptions]
            + [f"made Stripe_Invoice__c {i}" for i in settled]
        )
        # A repeat that changes nothing is no effect, but is not wanted either where a vendor books: a document is sent
        # again only if it was looked for and is not there.
        assert {path: n for path, n in effects.carried_out("netsuite", "PUT").items() if n > 1} == {}
        assert effects.carried_out("avalara", "POST", "/transactions/create").total() == len(settled)
        assert effects.carried_out("avalara", "POST", "/void").total() == len(self.voided)

    def made_once(self, effects: Effects) -> None:
        """Every record, document and object was made once and none taken away; documents are not changed behind the
        books' back. How often a CRM's record was brought up to date depends on when its events came.
        """
        settled = [*self.paid, *self.voided]
        made = {v: _only("made", effects.counted(v)) for v in ("salesforce", "netsuite", "avalara", "s3")}
        assert made["netsuite"] == Counter(
            [f"customer {c}" for c in self.customers]
            + [f"invoice {i}" for i in settled]
            + [f"customerPayment {p}" for p in self.payments]
            + [f"creditMemo void_{i}" for i in self.voided]
        )
        assert made["avalara"] == Counter(settled)
        assert made["salesforce"] == Counter(
            [f"Account {c}" for c in self.customers]
            + [f"Stripe_Subscription__c {s}" for s in self.subscriptions]
            + [f"Stripe_Invoice__c {i}" for i in settled]
        )
        assert set(made["s3"].values()) == {1}
        for vendor in made:
            assert _only("removed", effects.counted(vendor)) == Counter()
        changed = {v: _only("changed", effects.counted(v)) for v in ("netsuite", "avalara", "s3")}
        assert [k for k in changed["netsuite"] if k.startswith(("customerPayment", "creditMemo"))] == []
        assert changed["avalara"] == Counter(self.voided), "a document is voided once, and never adjusted"
        assert changed["s3"] == Counter()


def _only(what: str, effects: Counter[str]) -> Counter[str]:
    return Counter({k.removeprefix(f"{what} "): n for k, n in effects.items() if k.startswith(f"{what} ")})
