"""Customers' tax ids: docs.stripe.com/billing/customer/tax-ids, docs.stripe.com/api/customer_tax_ids.

European and British ones are verified with their authorities a while later (here a minute; Stripe names no time), and
in test mode always successfully. Which shapes Stripe accepts per type is modelled for these only.
"""

from __future__ import annotations

import re

from connectors.stripe.simulator import invoices
from connectors.stripe.simulator.errors import no_such, not_simulated, refused
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import Obj
from connectors.stripe.simulator.world import World

_EU = "AT BE BG CY CZ DE DK EE EL ES FI FR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
SHAPES = {
    "eu_vat": re.compile(f"({_EU.replace(' ', '|')})[0-9A-Z]{{8,12}}"),
    "gb_vat": re.compile(r"GB\d{9}(\d{3})?"),
    "ch_vat": re.compile(r"CHE-\d{3}\.\d{3}\.\d{3} (MWST|TVA|IVA)"),
}  # fmt: skip
MOST = 5
"""Tax ids of one customer."""
VERIFIED_AFTER = 60


def new_tax_id(w: World, customer: Obj, given: Obj, param: str = "value") -> Obj:
    """Adds it, says `customer.tax_id.created`, and puts it on the customer's drafts."""
    kind, value = given["type"], given["value"]
    if kind not in SHAPES:
        raise not_simulated(f"tax ids of type {kind}")
    if not SHAPES[kind].fullmatch(value):
        raise refused(f"Invalid value for {kind}.", param=param, code="tax_id_invalid")
    if len(w.tax_ids_of[customer["id"]]) >= MOST:
        raise refused(f"A customer can have at most {MOST} tax ids.")
    checked = kind in ("eu_vat", "gb_vat")
    country = {"EL": "GR", "CH": "CH"}.get(value[:2], value[:2])
    status = "pending" if checked else "unavailable"
    made: Obj = {
        "id": w.new_id("txi"), "object": "tax_id", "country": country, "created": w.now, "customer": customer["id"],
        "customer_account": None, "livemode": False,
        "owner": {"customer": customer["id"], "type": "customer"}, "type": kind, "value": value,
        "verification": {"status": status, "verified_address": None, "verified_name": None},
    }  # fmt: skip
    w.add("tax_id", made)
    w.tax_ids_of[customer["id"]].append(made["id"])
    w.emit("customer.tax_id.created", made)
    invoices.refresh_drafts(w, customer)
    if checked:
        w.at(w.now + VERIFIED_AFTER, lambda: _verify(w, customer, made))
    return made


def _verify(w: World, customer: Obj, made: Obj) -> None:
    if made["id"] not in w.tax_ids_of[customer["id"]]:
        return
    with w.changing(made, "customer.tax_id.updated"):
        made["verification"].update(status="verified", verified_name=customer.get("name"))


def create_tax_id(w: World, p: Obj, ids: list[str]) -> Obj:
    return new_tax_id(w, w.get("customer", ids[0]), p)


def _of(w: World, customer: Obj, tax_id: str) -> Obj:
    if tax_id not in w.tax_ids_of[customer["id"]]:
        raise no_such("tax_id", tax_id)
    return w.objects["tax_id"][tax_id]


def retrieve_tax_id(w: World, _p: Obj, ids: list[str]) -> Obj:
    return _of(w, w.get("customer", ids[0]), ids[1])


def delete_tax_id(w: World, _p: Obj, ids: list[str]) -> Obj:
    """Invoices already finalised keep it."""
    customer = w.get("customer", ids[0])
    gone = _of(w, customer, ids[1])
    w.tax_ids_of[customer["id"]].remove(gone["id"])
    w.emit("customer.tax_id.deleted", gone)
    stub: Obj = {"id": gone["id"], "object": "tax_id", "deleted": True}
    w.objects["tax_id"][gone["id"]] = stub
    invoices.refresh_drafts(w, customer)
    return stub


def list_tax_ids(w: World, p: Obj, ids: list[str]) -> Obj:
    """Newest first."""
    customer = w.get("customer", ids[0])
    rows = w.all("tax_id", w.tax_ids_of[customer["id"]])
    return newest(w, p, "tax_id", rows=rows, url=f"/v1/customers/{customer['id']}/tax_ids")
