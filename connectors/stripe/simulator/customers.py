"""Customers: who is billed."""

from __future__ import annotations

from connectors.stripe.simulator import invoices, standing, tax_ids
from connectors.stripe.simulator.catalog import assign, update_metadata
from connectors.stripe.simulator.errors import no_such
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World

_FIELDS = "name individual_name business_name email phone description tax_exempt preferred_locales"


def create_customer(w: World, p: Obj, _ids: list[str]) -> Obj:
    customer_id = w.new_id("cus")
    customer: Obj = {
        "id": customer_id, "object": "customer", "address": None, "balance": 0, "business_name": None, "created": w.now,
        "currency": None, "customer_account": None, "default_source": None, "delinquent": False, "description": None,
        "discount": None, "email": None, "individual_name": None, "invoice_credit_balance": {},
        "invoice_prefix": "".join(w.rng.choices("0123456789ABCDEF", k=8)),
        "invoice_settings": {
            "custom_fields": None, "default_payment_method": w.new_id("pm"), "footer": None, "rendering_options": None
        },
        "livemode": False, "metadata": dict(p.get("metadata") or {}), "name": None, "next_invoice_sequence": 1,
        "phone": None, "preferred_locales": [], "shipping": None, "tax_exempt": "none", "test_clock": None,
    }  # fmt: skip
    _write(customer, p)
    w.add("customer", customer)
    w.emit("customer.created", customer)
    for index, given in enumerate(p.get("tax_id_data") or []):
        tax_ids.new_tax_id(w, customer, given, f"tax_id_data[{index}][value]")
    return customer


def _write(customer: Obj, p: Obj) -> None:
    assign(customer, p, _FIELDS)
    customer["tax_exempt"] = customer["tax_exempt"] or "none"
    customer["preferred_locales"] = customer["preferred_locales"] or []
    if "address" in p:
        customer["address"] = _address(p["address"])
    if "shipping" in p:
        given = p["shipping"]
        customer["shipping"] = (
            None
            if given == ""
            else {"address": _address(given["address"]), "name": given["name"], "phone": given.get("phone")}
        )


def _address(given: object) -> Obj | None:
    if not isinstance(given, dict):
        return None
    fields = ("city", "country", "line1", "line2", "postal_code", "state")
    return {field: given.get(field) or None for field in fields}


def update_customer(w: World, p: Obj, ids: list[str]) -> Obj:
    customer = w.get("customer", ids[0])
    with w.changing(customer, "customer.updated"):
        _write(customer, p)
        update_metadata(customer, p.get("metadata"))
    invoices.refresh_drafts(w, customer)
    return customer


def delete_customer(w: World, _p: Obj, ids: list[str]) -> Obj:
    """Cancels its subscriptions at once and stops collecting its invoices; later reads give a stub."""
    customer = w.get("customer", ids[0])
    for subscription in w.all("subscription", w.subscriptions_of[customer["id"]]):
        if not subscription["ended_at"]:
            standing.end(w, subscription, "cancellation_requested")
    for invoice in w.all("invoice", w.invoices_of[customer["id"]]):
        if invoice.get("status") in ("draft", "open"):
            invoices.stop_collecting(w, invoice)
    w.emit("customer.deleted", customer)
    stub: Obj = {"id": customer["id"], "object": "customer", "deleted": True}
    w.objects["customer"][customer["id"]] = stub
    return stub


def retrieve_customer(w: World, _p: Obj, ids: list[str]) -> Obj:
    """A deleted customer is still found, as a stub (docs.stripe.com/api/customers/retrieve)."""
    if ids[0] not in w.objects["customer"]:
        raise no_such("customer", ids[0])
    return w.objects["customer"][ids[0]]


def list_customers(w: World, p: Obj, _ids: list[str]) -> Obj:
    return newest(w, p, "customer", "email")
