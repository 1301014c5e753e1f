"""Every object the simulator makes, against the resource classes of the installed `stripe` package, field by field."""

from __future__ import annotations

import ast
import functools
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stripe

from connectors.stripe.simulator import Business, StripeSimulator

ROOT = Path(stripe.__file__).parent
FILES = {
    "InvoiceLineItem": "_invoice_line_item", "TaxRate": "_tax_rate", "Price": "_price", "Plan": "_plan",
    "SubscriptionItem": "_subscription_item", "CreditNoteLineItem": "_credit_note_line_item", "Invoice": "_invoice",
    "Customer": "_customer", "Product": "_product", "Coupon": "_coupon", "Subscription": "_subscription",
    "InvoiceItem": "_invoice_item", "CreditNote": "_credit_note", "InvoicePayment": "_invoice_payment",
    "PaymentIntent": "_payment_intent", "Charge": "_charge", "Refund": "_refund", "Discount": "_discount",
    "Meter": "billing/_meter", "Event": "_event", "BalanceTransaction": "_balance_transaction", "Payout": "_payout",
    "Dispute": "_dispute", "TaxId": "_tax_id", "PaymentRecord": "_payment_record",
    "CustomerBalanceTransaction": "_customer_balance_transaction",
}  # fmt: skip
BY_OBJECT = {
    "customers": "Customer", "products": "Product", "prices": "Price", "coupons": "Coupon", "tax_rates": "TaxRate",
    "subscriptions": "Subscription", "invoice_items": "InvoiceItem", "invoices": "Invoice",
    "credit_notes": "CreditNote", "payments": "InvoicePayment", "payment_intents": "PaymentIntent",
    "charges": "Charge", "refunds": "Refund", "meters": "Meter", "balance_transactions": "BalanceTransaction",
    "payouts": "Payout", "disputes": "Dispute", "tax_ids": "TaxId", "payment_records": "PaymentRecord",
    "customer_balance_transactions": "CustomerBalanceTransaction",
}  # fmt: skip


@functools.cache
def resource(name: str) -> ast.ClassDef:
    for node in ast.parse((ROOT / f"{FILES[name]}.py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise LookupError(name)


def problems(value: Any, cls: ast.ClassDef, where: str, scope: tuple[ast.ClassDef, ...] = ()) -> list[str]:
    """What is wrong with an object, measured by a class's annotations."""
    scope = (*scope, cls)
    fields = {
        n.target.id: n.annotation for n in cls.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    found = [f"{where}.{key} is not a field of {cls.name}" for key in value.keys() - fields.keys()]
    for name, annotation in fields.items():
        if name == "OBJECT_NAME":
            continue
        if name not in value:
            if not ast.unparse(annotation).startswith("Optional"):
                found.append(f"{where}.{name} is missing")
        else:
            found += check(value[name], annotation, f"{where}.{name}", scope)
    return found


def check(value: Any, node: ast.expr, where: str, scope: tuple[ast.ClassDef, ...]) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.Subscript):
        head = ast.unparse(node.value)
        inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head == "Optional":
            return [] if value is None else check(value, inner[0], where, scope)
        if head == "Literal":
            allowed = [n.value for n in inner if isinstance(n, ast.Constant)]
            return [] if value in allowed else [f"{where} = {value!r} is none of {allowed}"]
        if head == "Union":
            return check(value, inner[0], where, scope)
        if head == "ExpandableField":
            return [] if isinstance(value, str) else [f"{where} is not an id"]
        if head == "List":
            return [p for i, each in enumerate(value) for p in check(each, inner[0], f"{where}[{i}]", scope)]
        if head == "ListObject":
            wrong = [] if value.keys() == {"object", "data", "has_more", "url"} else [f"{where} is not a list object"]
            return wrong + [
                p for i, each in enumerate(value["data"]) for p in check(each, inner[0], f"{where}[{i}]", scope)
            ]
        return [] if isinstance(value, dict) else [f"{where} is not an object"]
    name = ast.unparse(node).rpartition(".")[2]
    types: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}
    if name == "Decimal":
        return [] if isinstance(value, str) and Decimal(value).is_finite() else [f"{where} is not a decimal string"]
    if name in types:
        right = isinstance(value, types[name]) and (name == "bool" or not isinstance(value, bool))
        return [] if right else [f"{where} = {value!r} is not {name}"]
    for cls in reversed(scope):
        nested = next((n for n in cls.body if isinstance(n, ast.ClassDef) and n.name == name), None)
        if nested is not None:
            return problems(value, nested, where, scope)
    return problems(value, resource(name), where)


@pytest.fixture(scope="module")
def lived() -> tuple[StripeSimulator, list[dict[str, Any]]]:
    sim = StripeSimulator(seed=3, clock=lambda: 1_770_000_000.0, start=1_767_225_600)
    events: list[dict[str, Any]] = []
    sim.listen(events.append)
    for _ in Business(sim, random.Random(5)).live(24):
        pass
    return sim, events


@pytest.mark.parametrize("kind", sorted(BY_OBJECT))
def test_every_object_has_the_shape_of_its_class(
    lived: tuple[StripeSimulator, list[dict[str, Any]]], kind: str
) -> None:
    objects = lived[0].state()[kind]
    assert objects
    wrong = {re.sub(r"\[\d+\]", "[]", p) for obj in objects for p in problems(obj, resource(BY_OBJECT[kind]), kind)}
    assert wrong == set()


def test_every_event_has_a_known_type_and_shape(lived: tuple[StripeSimulator, list[dict[str, Any]]]) -> None:
    events = lived[1]
    assert len(events) > 1000
    assert {p for event in events for p in problems(event, resource("Event"), "event")} == set()
    assert len({event["id"] for event in events}) == len(events)
    for event in events:
        assert ("previous_attributes" in event["data"]) == event["type"].endswith(".updated"), event["type"]


def test_the_checker_itself_notices(lived: tuple[StripeSimulator, list[dict[str, Any]]]) -> None:
    invoice = lived[0].state()["invoices"][0]
    assert problems({**invoice, "tax": 5}, resource("Invoice"), "in") == ["in.tax is not a field of Invoice"]
    assert problems({**invoice, "status": "done"}, resource("Invoice"), "in")
    assert problems({**invoice, "total": "5"}, resource("Invoice"), "in") == ["in.total = '5' is not int"]
    del invoice["lines"]["data"][0]["period"]
    assert problems(invoice, resource("Invoice"), "in") == ["in.lines[0].period is missing"]
