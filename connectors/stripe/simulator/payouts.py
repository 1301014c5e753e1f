"""Payouts: every Monday what is available goes to the bank, per settlement currency.

docs.stripe.com/payouts, docs.stripe.com/payouts/reconciliation, docs.stripe.com/api/payouts/object. A weekly schedule
is a setting of an account. A payout is pending for half a day, then in transit, and paid (or failed) on its arrival
date two days after its making (Stripe: depends on the bank; weekends are not modelled). A balance that is not positive
is left alone (Stripe may debit the bank account instead). A failed payout stays as it is: a transaction of type
`payout_failure` gives the money back, and the next payout contains it. When Stripe has listed what a payout contains
is not known; here an hour after its making.
"""

from __future__ import annotations

from connectors.stripe.simulator.balance import transaction
from connectors.stripe.simulator.errors import refused
from connectors.stripe.simulator.lists import in_range, newest
from connectors.stripe.simulator.totals import InvariantError
from connectors.stripe.simulator.values import DAY, HOUR, Obj
from connectors.stripe.simulator.world import World

WEEK = 7 * DAY
STATUSES = ("pending", "in_transit", "paid", "failed", "canceled")
FAILURE = ("account_closed", "The bank account has been closed")


def begin(w: World) -> None:
    """Pay out each Monday at midnight UTC from now on. (The epoch was a Thursday.)"""
    weeks = -(-(w.now - 4 * DAY) // WEEK)
    w.at(4 * DAY + max(weeks, 0) * WEEK, lambda: _monday(w))


def _monday(w: World) -> None:
    for currency in list(w.unpaid):
        pay_out(w, currency)
    w.at(w.now + WEEK, lambda: _monday(w))


def pay_out(w: World, currency: str) -> Obj | None:
    """One payout of all that is available in a currency; None if that is nothing."""
    table = w.objects["balance_transaction"]
    chosen = [each for each in w.unpaid[currency] if table[each]["status"] == "available"]
    amount = sum(table[each]["net"] for each in chosen)
    if amount <= 0:
        return None
    w.unpaid[currency] = [each for each in w.unpaid[currency] if table[each]["status"] != "available"]
    arrival = w.now + 2 * DAY
    payout: Obj = {
        "id": w.new_id("po"), "object": "payout", "amount": amount, "application_fee": None,
        "application_fee_amount": None, "arrival_date": arrival, "automatic": True, "balance_transaction": None,
        "created": w.now, "currency": currency, "description": "STRIPE PAYOUT", "destination": f"ba_sim_{currency}",
        "failure_balance_transaction": None, "failure_code": None, "failure_message": None, "livemode": False,
        "metadata": {}, "method": "standard", "original_payout": None, "payout_method": None,
        "reconciliation_status": "in_progress", "reversed_by": None, "source_type": "card",
        "statement_descriptor": None, "status": "pending", "trace_id": {"status": "pending", "value": None},
        "type": "bank_account",
    }  # fmt: skip
    w.add("payout", payout)
    w.paid_out[payout["id"]] = chosen
    payout["balance_transaction"] = transaction(
        w, "payout", -amount, currency, payout["id"], "payout", available_on=arrival, description="STRIPE PAYOUT"
    )["id"]
    check_once(w, currency)
    w.emit("payout.created", payout)
    fails = w.failing_payouts > 0
    w.failing_payouts -= fails
    w.at(w.now + HOUR, lambda: _reconciled(w, payout))
    w.at(w.now + 12 * HOUR, lambda: _sent(w, payout))
    w.at(arrival, lambda: _failed(w, payout) if fails else _arrived(w, payout))
    return payout


def _reconciled(w: World, payout: Obj) -> None:
    payout["reconciliation_status"] = "completed"
    w.emit("payout.reconciliation_completed", payout)


def _sent(w: World, payout: Obj) -> None:
    with w.changing(payout, "payout.updated"):
        payout["status"] = "in_transit"


def _arrived(w: World, payout: Obj) -> None:
    payout.update(status="paid", trace_id={"status": "unsupported", "value": None})
    w.emit("payout.paid", payout)


def _failed(w: World, payout: Obj) -> None:
    """The bank refused it: the money is back in the balance."""
    code, message = FAILURE
    back = transaction(
        w, "payout_failure", payout["amount"], payout["currency"], payout["id"], "payout_reversal", available_on=w.now,
        description="STRIPE PAYOUT FAILURE",
    )["id"]  # fmt: skip
    w.unpaid[payout["currency"]].append(back)
    payout.update(
        status="failed", failure_code=code, failure_message=message, failure_balance_transaction=back,
        trace_id={"status": "unsupported", "value": None},
    )  # fmt: skip
    check_once(w, payout["currency"])
    w.emit("payout.failed", payout)


def check(w: World, payout: Obj) -> None:
    """Raises `InvariantError` unless a payout is the sum of what it pays out."""
    nets = sum(each["net"] for each in w.all("balance_transaction", w.paid_out[payout["id"]]))
    own = w.objects["balance_transaction"].get(payout["balance_transaction"] or "")
    if own is None or (nets, own["net"]) != (payout["amount"], -payout["amount"]):
        raise InvariantError(f"{payout['id']} of {payout['amount']} pays out {nets} by {own}")


def check_once(w: World, currency: str) -> None:
    """Raises `InvariantError` if a transaction is counted twice, or the balance is not the sum of all there were."""
    mine = [po for po in w.paid_out if w.objects["payout"][po]["currency"] == currency]
    counted = [*w.unpaid[currency], *(each for po in mine for each in w.paid_out[po])]
    whole = sum(each["net"] for each in w.objects["balance_transaction"].values() if each["currency"] == currency)
    left = sum(each["net"] for each in w.all("balance_transaction", w.unpaid[currency]))
    if len(counted) != len(set(counted)) or whole != left:
        raise InvariantError(f"{currency}: {left} is left of {whole}, {len(counted)} counted")


# Operations ----------------------------------------------------------------------------------------------------------


def list_payouts(w: World, p: Obj, _ids: list[str]) -> Obj:
    """Newest first."""
    if p.get("status", "paid") not in STATUSES:
        raise refused(f"Invalid status: must be one of {', '.join(STATUSES)}", param="status")
    arrival = p.get("arrival_date")
    return newest(w, p, "payout", "status", "destination", where=lambda row: in_range(row["arrival_date"], arrival))
