"""What an object's state proves, worked out by hand from Stripe's descriptions of its events."""

from __future__ import annotations

from typing import Any

import pytest

from hub.steps import FAMILIES, owed, said

AT = {"marked_uncollectible_at": 5}
SAID: list[tuple[str, dict[str, Any], str]] = [
    ("customer", {}, "customer.created"),
    ("customer", {"deleted": True}, "customer.deleted"),
    ("product", {"active": False}, "product.created"),
    ("price", {"active": False}, "price.created"),
    ("subscription", {"status": "past_due"}, "customer.subscription.created"),
    ("subscription", {"status": "canceled"}, "customer.subscription.created customer.subscription.deleted"),
    ("credit_note", {"status": "issued"}, "credit_note.created"),
    ("credit_note", {"status": "void"}, "credit_note.created credit_note.voided"),
    ("invoice", {"status": "draft"}, "invoice.created"),
    ("invoice", {"status": "draft", "deleted": True}, "invoice.deleted"),
    ("invoice", {"status": "open"}, "invoice.created invoice.finalized"),
    ("invoice", {"status": "void"}, "invoice.created invoice.finalized invoice.voided"),
    ("invoice", {"status": "uncollectible"}, "invoice.created invoice.finalized invoice.marked_uncollectible"),
    (
        "invoice",
        {"status": "paid", "amount_paid": 5, "status_transitions": AT},
        "invoice.created invoice.finalized invoice.marked_uncollectible invoice.payment_succeeded invoice.paid",
    ),
    (
        "invoice",
        {"status": "paid", "amount_paid": 5, "amount_paid_off_stripe": 5},
        "invoice.created invoice.finalized invoice.paid",
    ),
    ("invoice_payment", {"status": "open"}, ""),
    ("invoice_payment", {"status": "paid"}, "invoice_payment.paid"),
    ("refund", {"status": "succeeded"}, "refund.created"),
    ("refund", {"status": "failed"}, "refund.created refund.failed"),
    ("dispute", {"status": "warning_needs_response", "balance_transactions": []}, "charge.dispute.created"),
    (
        "dispute",
        {"status": "won", "balance_transactions": [{"amount": -500}, {"amount": 500}]},
        "charge.dispute.created charge.dispute.funds_withdrawn charge.dispute.funds_reinstated charge.dispute.closed",
    ),
    ("payout", {"status": "in_transit"}, "payout.created"),
    ("payout", {"status": "paid"}, "payout.created payout.paid"),
    ("payout", {"status": "failed"}, "payout.created payout.failed"),
]


@pytest.mark.parametrize(("object_type", "state", "wanted"), SAID)
def test_a_state_proves_its_steps(object_type: str, state: dict[str, Any], wanted: str) -> None:
    assert said(object_type, state) == tuple(wanted.split())


def test_every_type_is_spoken_of_and_parents_come_first() -> None:
    assert {t for t, _, _ in SAID} == set(FAMILIES)
    assert list(FAMILIES)[:6] == ["customer", "product", "price", "subscription", "invoice", "credit_note"]


ROUTES = {
    "invoice.created": {"crm": "state"},
    "invoice.updated": {"crm": "state"},
    "invoice.finalized": {"crm": "state", "books": "ledger"},
    "invoice.paid": {"books": "ledger"},
    "customer.created": {"crm": "state", "books": "ledger"},
    "customer.updated": {"crm": "state", "books": "ledger"},
}
PAID = {"status": "paid"}
ALL = {("invoice.finalized", "crm"), ("invoice.finalized", "books"), ("invoice.paid", "books")}
FINALIZED = ALL - {("invoice.paid", "books")}


@pytest.mark.parametrize(
    ("had", "seen", "changed", "wanted"),
    [
        (set(), False, True, "invoice.finalized invoice.paid"),  # the state destination hears it with a step
        (FINALIZED, True, True, "invoice.updated invoice.paid"),  # no step that is left goes to it
        (ALL, True, False, ""),
        (ALL, True, True, "invoice.updated"),
        (ALL - {("invoice.finalized", "books")}, True, False, "invoice.finalized"),  # a ledger that came later
        (ALL - {("invoice.finalized", "crm")}, True, False, "invoice.finalized"),  # a state destination that did
    ],
)
def test_a_ledger_is_owed_each_step_and_a_state_destination_the_newest(
    had: set[tuple[str, str]], *, seen: bool, changed: bool, wanted: str
) -> None:
    assert owed("invoice", PAID, ROUTES, had, seen=seen, changed=changed) == tuple(wanted.split())


def test_what_no_mapping_names_is_still_kept_once() -> None:
    assert owed("product", {}, ROUTES, (), seen=False, changed=True) == ("product.created",)
    assert owed("product", {}, ROUTES, (), seen=True, changed=True) == ("product.updated",)
    assert owed("product", {"deleted": True}, ROUTES, (), seen=True, changed=True) == ("product.deleted",)
    assert owed("product", {}, ROUTES, (), seen=True, changed=False) == ()


def test_a_ledger_hears_of_a_change_that_is_no_step() -> None:
    had = {("customer.created", "crm"), ("customer.created", "books")}
    assert owed("customer", {}, ROUTES, had, seen=True, changed=True) == ("customer.updated",)
    assert owed("customer", {}, ROUTES, had, seen=True, changed=False) == ()
