"""Disputes: a bank takes a charge back, and perhaps gives it back again.

docs.stripe.com/disputes/how-disputes-work, docs.stripe.com/api/disputes/object. A customer's bank opens one, so no
request does: `StripeSimulator.dispute` and `close_dispute` are the bank. Evidence and inquiries are not modelled. The
money leaves the balance, with a fee, when the dispute is made; a dispute won gives the money back and keeps the fee.
"""

from __future__ import annotations

from connectors.stripe.simulator.balance import moved
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import DAY, Obj
from connectors.stripe.simulator.world import World

REASONS = frozenset({
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated", "debit_not_authorized",
    "duplicate", "fraudulent", "general", "incorrect_account_details", "insufficient_funds", "product_not_received",
    "product_unacceptable", "subscription_canceled", "unrecognized",
})  # fmt: skip
TIME_TO_ANSWER = 9 * DAY
_EVIDENCE = (
    "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal "
    "customer_communication customer_email_address customer_name customer_purchase_ip customer_signature "
    "duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id product_description receipt "
    "refund_policy refund_policy_disclosure refund_refusal_explanation service_date service_documentation "
    "shipping_address shipping_carrier shipping_date shipping_documentation shipping_tracking_number "
    "uncategorized_file uncategorized_text"
)


def open_dispute(w: World, charge: Obj, reason: str, amount: int | None) -> Obj:
    """The bank takes back `amount` (None: all that was not refunded)."""
    if reason not in REASONS:
        raise refused(f"Invalid reason: must be one of {', '.join(sorted(REASONS))}", param="reason")
    if charge["disputed"]:
        raise refused(f"Charge {charge['id']} has already been disputed.", param="charge")
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        raise refused(f"Only {left} of charge {charge['id']} can be disputed, not {amount}.", param="amount")
    dispute: Obj = {
        "id": w.new_id("dp"), "object": "dispute", "amount": amount, "balance_transactions": [],
        "charge": charge["id"], "created": w.now, "currency": charge["currency"], "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE.split()), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": w.now + TIME_TO_ANSWER, "enhanced_eligibility": {}, "has_evidence": False, "past_due": False,
            "submission_count": 0, "submission_method": "not_submitted",
        },
        "intended_submission_method": None, "is_charge_refundable": False, "livemode": False, "metadata": {},
        "network_reason_code": None, "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": None},
            "type": "card",
        },
        "reason": reason, "status": "needs_response",
    }  # fmt: skip
    w.add("dispute", dispute)
    w.emit("charge.dispute.created", dispute)
    with w.changing(charge, "charge.updated"):
        charge["disputed"] = True
    _move(w, dispute, -1, "dispute", f"Chargeback withdrawal for {charge['id']}")
    w.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def close(w: World, dispute: Obj, outcome: str) -> Obj:
    """The bank has decided: `won` (by the account, not by its customer) or `lost`."""
    if dispute["status"] in ("won", "lost"):
        raise refused(f"This dispute is already closed ({dispute['status']}).", param="id")
    dispute["status"] = outcome
    dispute["evidence_details"]["past_due"] = w.now > dispute["evidence_details"]["due_by"]
    w.emit("charge.dispute.closed", dispute)
    if outcome == "won":
        _move(w, dispute, 1, "dispute_reversal", f"Chargeback reversal for {dispute['charge']}")
        w.emit("charge.dispute.funds_reinstated", dispute)
    return dispute


def _move(w: World, dispute: Obj, sign: int, category: str, text: str) -> None:
    made = moved(w, "adjustment", sign * dispute["amount"], dispute["currency"], dispute["id"], category, text)
    dispute["balance_transactions"].append(made)  # the live object: a dispute shows them whole


# Operations ----------------------------------------------------------------------------------------------------------


def close_dispute(w: World, _p: Obj, ids: list[str]) -> Obj:
    """Accept it: closed as lost (docs.stripe.com/api/disputes/close)."""
    return close(w, w.get("dispute", ids[0]), "lost")


def list_disputes(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Newest first."""
    return newest(w, p, "dispute", "charge", "payment_intent")
