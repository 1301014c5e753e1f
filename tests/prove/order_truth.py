"""What must hold in the end, worked out from the truth of `stripe_model.Stripe` alone.

Once means: exactly one invoice in NetSuite and one document in AvaTax per finalised invoice, one payment, one credit
memo, each written in one version for ever; and nothing was sent again that the hub had a receipt for (`Vendor`).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tests.prove.order import Vendor
from tests.prove.stripe_model import Obj, Stripe

Rows = dict[str, list[dict[str, Any]]]


def agrees(stripe: Stripe, vendors: dict[str, Vendor]) -> None:
    """Each vendor holds what is true, and the ledgers came there without a step back and with nothing twice."""
    wrong = [f"{name}: {one}" for name, vendor in vendors.items() for one in vendor.wrong]
    assert not wrong, wrong
    _crm(stripe, vendors["salesforce"].held)
    books, taxes = vendors["netsuite"].held, vendors["avalara"].held
    expected: set[str] = set()
    documents: set[str] = set()
    for id_, states in stripe.truth.items():
        now = states[-1]
        match now["object"]:
            case "invoice" if now["status"] != "draft":
                expected.add(f"invoice stripe_{id_}")
                documents.add(f"SalesInvoice {id_}")
                if now["status"] == "void":
                    expected.add(f"creditMemo:void stripe_void_{id_}")
                    documents.add(f"SalesInvoice.void {id_}")
            case "invoice_payment":
                expected.add(f"customerPayment stripe_{id_}")
            case "credit_note":
                expected.add(f"creditMemo stripe_{id_}")
                documents.add(f"ReturnInvoice {id_}")
            case "customer":
                _customer(states, vendors["netsuite"])
    booked = {k for k in books if not k.startswith("customer ")}
    assert booked == expected, booked ^ expected
    assert set(taxes) == documents, set(taxes) ^ documents
    for key, versions in [*books.items(), *taxes.items()]:
        if not key.startswith("customer "):
            assert len(versions) == 1, f"{key} was written {len(versions)} times"
            _amount(key, versions[0], stripe)


def _amount(key: str, fields: dict[str, Any], stripe: Stripe) -> None:
    id_ = key.split()[1].removeprefix("stripe_").removeprefix("void_")
    now = stripe.truth[id_][-1]
    cents = now["amount_paid" if now["object"] == "invoice_payment" else "total"]
    match key.split(maxsplit=1)[0].partition(":")[0]:
        case "customerPayment":
            assert fields["payment"] * 100 == cents
            applied = [(line["doc"]["externalId"], line["amount"] * 100) for line in fields["apply"]["items"]]
            assert applied == [(f"stripe_{now['invoice']}", cents)]
        case "SalesInvoice":
            assert [line["amount"] * 100 for line in fields["lines"]] == [cents]
        case "ReturnInvoice":
            assert [line["amount"] * 100 for line in fields["lines"]] == [-cents]
        case "invoice" | "creditMemo":
            assert [line["amount"] * 100 for line in fields["item"]["items"]] == [cents]


def _customer(states: list[Obj], books: Vendor) -> None:
    """Its names in the ledger are names it had, in the order in which it had them; the last is the last."""
    id_, deleted = states[-1]["id"], bool(states[-1].get("deleted"))
    key = f"customer stripe_{id_}"
    versions = books.held.get(key, [])
    assert versions or deleted, f"{id_} is not in the ledger"
    if not versions:
        return
    names = [name for name, _ in groupby(v["companyName"] for v in versions)]
    if deleted:
        names = [name for name in names if name != id_]  # all that a read tells of a deleted customer is its id
    true = iter([s["name"] for s in states])
    assert all(name in true for name in names), f"truth {[s['name'] for s in states]}, written {names}"
    inactive = bool(versions[-1].get("isInactive"))
    assert deleted or not inactive, id_
    # A document that came after the deletion was carried out has made it active again, or made it.
    assert inactive or not deleted or key in books.revived | books.absent, id_
    assert deleted or names[-1] == states[-1]["name"], (id_, names, states[-1])


def _crm(stripe: Stripe, crm: Rows) -> None:
    """All that changes is compared."""
    for id_, states in stripe.truth.items():
        now, gone = states[-1], bool(states[-1].get("deleted"))
        match now["object"]:
            case "customer":
                row = crm[f"Account {id_}"][-1]
                assert row["Stripe_Status__c"] == ("deleted" if gone else "active"), id_
                assert gone or row["Name"] == now["name"], (id_, row["Name"], now["name"])
            case "subscription":
                row = crm[f"Stripe_Subscription__c {id_}"][-1]
                held = (row["Status__c"], row["Quantity__c"], row.get("Canceled_At__c") is not None)
                assert held == (now["status"], now["items"]["data"][0]["quantity"], "canceled_at" in now), id_
            case "invoice":
                row = crm[f"Stripe_Invoice__c {id_}"][-1]
                assert row["Status__c"] == ("deleted" if gone else now["status"]), (id_, row, now)
                amounts = [row[f] * 100 for f in ("Total__c", "Amount_Paid__c", "Amount_Remaining__c")]
                assert amounts == [now["total"], now["amount_paid"], now["amount_remaining"]], id_
                assert row["Attempt_Count__c"] == now["attempt_count"], id_
                assert row["Name"] == (now["number"] or id_), id_
                when = now["status_transitions"]
                for field, moment in (("Finalized_At__c", "finalized_at"), ("Paid_At__c", "paid_at")):
                    assert (row[field] is not None) == (when[moment] is not None), (id_, field)
                assert row["Remark__c"] == now["metadata"].get("remark"), id_
