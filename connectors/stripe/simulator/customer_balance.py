"""What a customer has to his credit (below zero) or owes (above), and every change of it.

docs.stripe.com/billing/customer/balance, docs.stripe.com/api/customer_balance_transactions/object. There is no event
about a transaction, only `customer.updated`. The type Stripe gives to the credit of a negative invoice is not known;
here it is that of a balance applied.
"""

from __future__ import annotations

from connectors.stripe.simulator.catalog import amount_of, currency_of, update_metadata
from connectors.stripe.simulator.errors import no_such
from connectors.stripe.simulator.invoice_items import use_currency
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World


def change(
    w: World,
    customer: Obj,
    amount: int,
    currency: str,
    kind: str,
    *,
    invoice: str | None = None,
    note: str | None = None,
    description: str | None = None,
) -> Obj:
    """Add `amount` to the balance: below zero in the customer's favour. Emits `customer.updated`."""
    with w.changing(customer, "customer.updated"):
        customer["balance"] += amount
    made: Obj = {
        "id": w.new_id("cbtxn"), "object": "customer_balance_transaction", "amount": amount, "checkout_session": None,
        "created": w.now, "credit_note": note, "currency": currency, "customer": customer["id"],
        "customer_account": None, "description": description, "ending_balance": customer["balance"],
        "invoice": invoice, "livemode": False, "metadata": {}, "type": kind,
    }  # fmt: skip
    return w.add("customer_balance_transaction", made)


def create_transaction(w: World, p: Obj, ids: list[str]) -> Obj:
    """An adjustment by hand."""
    customer = w.get("customer", ids[0])
    currency = currency_of(p["currency"])
    use_currency(w, customer, currency)
    amount = amount_of(p["amount"], currency, "amount")
    made = change(w, customer, amount, currency, "adjustment", description=p.get("description"))
    update_metadata(made, p.get("metadata"))
    return made


def retrieve_transaction(w: World, _p: Obj, ids: list[str]) -> Obj:
    made = w.get("customer_balance_transaction", ids[1])
    if made["customer"] != ids[0]:
        raise no_such("customer_balance_transaction", ids[1])
    return made


def list_transactions(w: World, p: Obj, ids: list[str]) -> Obj:
    """Newest first."""
    customer = w.get("customer", ids[0])
    url = f"/v1/customers/{customer['id']}/balance_transactions"
    kind, own = "customer_balance_transaction", {**p, "customer": customer["id"]}
    return newest(w, own, kind, "customer", "invoice", url=url)
