"""Refunds: a charge paid back, wholly or in part.

docs.stripe.com/refunds, docs.stripe.com/api/refunds/object. A refund succeeds at once, unless
`StripeSimulator.next_refund` has said otherwise: then it is pending for two days. Its money leaves the balance when it
is made; a refund that fails puts it back by a transaction of its own (`failure_balance_transaction`) and no longer
counts in the charge's `amount_refunded`. A credit note that lists it stays as it is.
"""

from __future__ import annotations

from connectors.stripe.simulator.balance import moved
from connectors.stripe.simulator.catalog import amount_of, update_metadata
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.values import DAY, Obj
from connectors.stripe.simulator.world import World

WAIT = 2 * DAY


def refund(w: World, paid: Obj, amount: int, reason: str | None, metadata: Obj) -> Obj:
    """Pay back part of a charge. Emits `charge.refunded`, then `refund.created`."""
    if paid["disputed"]:
        raise refused(f"Charge {paid['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    left = paid["amount_captured"] - paid["amount_refunded"]
    if left <= 0:
        raise refused(f"Charge {paid['id']} has already been refunded.", code="charge_already_refunded")
    if not 0 < amount <= left:
        raise refused(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).", param="amount")
    outcome, w.next_refund = w.next_refund, None
    made: Obj = {
        "id": w.new_id("re"), "object": "refund", "amount": amount, "balance_transaction": None,
        "charge": paid["id"], "created": w.now, "currency": paid["currency"], "customer": paid["customer"],
        "customer_account": None, "destination_details": None, "metadata": metadata,
        "payment_intent": paid["payment_intent"], "payment_method": paid["payment_method"], "reason": reason,
        "receipt_number": None, "source_transfer_reversal": None, "status": "pending" if outcome else "succeeded",
        "transfer_reversal": None,
    }  # fmt: skip
    w.add("refund", made)
    text = f"REFUND FOR CHARGE ({paid['description']})"
    made["balance_transaction"] = moved(w, "refund", -amount, paid["currency"], made["id"], "refund", text)["id"]
    _count(paid, amount)
    w.emit("charge.refunded", paid)
    w.emit("refund.created", made)
    if outcome == "succeeded":
        w.at(w.now + WAIT, lambda: _succeeded(w, made))
    elif outcome == "failed":
        w.at(w.now + WAIT, lambda: _failed(w, made, paid))
    return made


def _count(paid: Obj, amount: int) -> None:
    paid["amount_refunded"] += amount
    paid["refunded"] = paid["amount_refunded"] == paid["amount"]


def _succeeded(w: World, made: Obj) -> None:
    with w.changing(made, "refund.updated"):
        made["status"] = "succeeded"


def _failed(w: World, made: Obj, paid: Obj) -> None:
    back = moved(w, "refund_failure", made["amount"], made["currency"], made["id"], "refund_failure", "REFUND FAILURE")
    with w.changing(made, "refund.updated"):
        made.update(status="failed", failure_reason="expired_or_canceled_card", failure_balance_transaction=back["id"])
    w.emit("refund.failed", made)
    with w.changing(paid, "charge.updated"):
        _count(paid, -made["amount"])


# Operations ----------------------------------------------------------------------------------------------------------


def create_refund(w: World, p: Obj, _ids: list[str]) -> Obj:
    if ("charge" in p) == ("payment_intent" in p):
        raise refused("One of the following params should be provided for this request: payment_intent or charge.")
    if "charge" in p:
        paid = w.get("charge", p["charge"], "charge")
    else:
        intent = w.get("payment_intent", p["payment_intent"], "payment_intent")
        if intent["latest_charge"] is None:
            raise refused("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
        paid = w.objects["charge"][intent["latest_charge"]]
    amount = p.get("amount", paid["amount_captured"] - paid["amount_refunded"])
    amount_of(amount, paid["currency"], "amount")
    return refund(w, paid, amount, p.get("reason"), dict(p.get("metadata") or {}))


def update_refund(w: World, p: Obj, ids: list[str]) -> Obj:
    made = w.get("refund", ids[0])
    with w.changing(made, "refund.updated"):
        update_metadata(made, p.get("metadata"))
    return made


def list_refunds(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Newest first."""
    return newest(w, p, "refund", "charge", "payment_intent")
