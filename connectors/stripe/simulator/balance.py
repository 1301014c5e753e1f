"""The account's Stripe balance: a balance transaction for every movement of money, and what it all adds up to.

docs.stripe.com/api/balance_transactions, docs.stripe.com/reports/balance-transaction-types, /reporting-categories.
The account modelled settles in US dollars and in euros, which is a setting of an account; whatever else customers pay
is converted to dollars by a fixed table (Stripe's rates change and contain its margin). Fees are those of a plain
account: 2.9 % and 30 minor units of the settlement currency on a charge, 15.00 for a dispute. A refund or a dispute won
does not give a fee back. A charge is available two days later at the next midnight UTC, everything else at once
(Stripe: depends on the country).
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from connectors.stripe.simulator.catalog import currency_of
from connectors.stripe.simulator.errors import not_simulated
from connectors.stripe.simulator.lists import newest
from connectors.stripe.simulator.totals import InvariantError
from connectors.stripe.simulator.values import DAY, Obj, exponent
from connectors.stripe.simulator.world import World

SETTLEMENT = ("usd", "eur")
"""A charge in one of these stays in it; every other becomes dollars."""
RATES = {
    "jpy": Decimal("0.0066"), "kwd": Decimal("3.25"), "gbp": Decimal("1.27"), "chf": Decimal("1.13"),
    "cad": Decimal("0.73"), "aud": Decimal("0.66"),
}  # fmt: skip
"""Dollars for one unit (not minor unit) of a currency."""
FEE_RATE, FEE_FIXED = Decimal("0.029"), 30
DISPUTE_FEE = 1500
DELAY = 2 * DAY
KINDS = frozenset({"adjustment", "charge", "payout", "payout_failure", "refund", "refund_failure", "stripe_fee"})
"""Types a list can be asked for: those made here, and Stripe's own fee, which never happens."""


def settlement(currency: str) -> tuple[str, Decimal | None]:
    """The currency an amount in `currency` settles in, and the rate if it is another."""
    return (currency, None) if currency in SETTLEMENT else ("usd", RATES[currency])


def converted(amount: int, currency: str) -> int:
    """An amount in minor units, in the settlement currency's minor units; half up, away from zero."""
    into, rate = settlement(currency)
    if rate is None:
        return amount
    value = Decimal(amount).scaleb(exponent(into) - exponent(currency)) * rate
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def moved(w: World, kind: str, amount: int, currency: str, source: str, category: str, description: str | None) -> Obj:
    """A movement of a customer's money: `amount` signed, in the currency the customer sees. Takes the fee there is on
    that kind of movement."""
    into, rate = settlement(currency)
    gross = converted(amount, currency)
    fee, text = 0, ""
    if kind == "charge":
        fee = int((gross * FEE_RATE).quantize(Decimal(1), ROUND_HALF_UP)) + FEE_FIXED
        text = "Stripe processing fees"
    elif category == "dispute":
        fee, text = DISPUTE_FEE, "Dispute fee"
    later = -(-(w.now + DELAY) // DAY) * DAY if kind == "charge" else w.now
    made = transaction(w, kind, gross, into, source, category, fee=fee, available_on=later, description=description)
    if fee:
        made["fee_details"].append(
            {"amount": fee, "application": None, "currency": into, "description": text, "type": "stripe_fee"}
        )
    made["exchange_rate"] = None if rate is None else float(rate)
    w.unpaid[into].append(made["id"])
    return made


def transaction(
    w: World,
    kind: str,
    amount: int,
    currency: str,
    source: str,
    category: str,
    *,
    fee: int = 0,
    available_on: int,
    description: str | None,
) -> Obj:
    """A balance transaction. `amount` and `fee` in the settlement currency. The caller says which pile it is on."""
    made: Obj = {
        "id": w.new_id("txn"), "object": "balance_transaction", "amount": amount, "available_on": available_on,
        "balance_type": "payments", "created": w.now, "currency": currency, "description": description,
        "exchange_rate": None, "fee": fee, "fee_details": [], "net": amount - fee, "reporting_category": category,
        "source": source, "status": "available" if available_on <= w.now else "pending", "type": kind,
    }  # fmt: skip
    if made["status"] == "pending":
        w.at(available_on, lambda: made.update(status="available"))
    return w.add("balance_transaction", made)


def check(w: World, made: Obj) -> None:
    """Raises `InvariantError` unless a transaction adds up and says what its charge says."""
    fees = sum(each["amount"] for each in made["fee_details"])
    if (made["net"], made["fee"]) != (made["amount"] - made["fee"], fees):
        raise InvariantError(f"{made['id']}: {made['amount']} - {made['fee']} is not {made['net']}, or fees differ")
    charge = w.objects["charge"].get(made["source"])
    if charge is not None and made["type"] == "charge":
        check_charge(w, charge)


def check_charge(w: World, charge: Obj) -> None:
    """Raises `InvariantError` unless a charge that succeeded has the transaction its amount converts to."""
    made = w.objects["balance_transaction"].get(charge["balance_transaction"] or "")
    expected = converted(charge["amount_captured"], charge["currency"])
    if charge["paid"] and (made is None or (made["amount"], made["source"]) != (expected, charge["id"])):
        raise InvariantError(f"{charge['id']} of {charge['amount_captured']} {charge['currency']} is {made}")


def amounts(w: World) -> dict[str, dict[str, int]]:
    """Currency -> `available` and `pending`: what has not been paid out."""
    result: dict[str, dict[str, int]] = {}
    for currency in SETTLEMENT:
        sums = {"available": 0, "pending": 0}
        for each in w.all("balance_transaction", w.unpaid[currency]):
            sums[each["status"]] += each["net"]
        result[currency] = sums
    return result


# Operations ----------------------------------------------------------------------------------------------------------


def retrieve_balance(w: World, _p: Obj, _ids: list[str]) -> Obj:
    """docs.stripe.com/api/balance/balance_object."""
    found = amounts(w)

    def part(name: str) -> list[Obj]:
        return [
            {"amount": sums[name], "currency": currency, "source_types": {"card": sums[name]}}
            for currency, sums in found.items()
        ]

    return {"object": "balance", "available": part("available"), "livemode": False, "pending": part("pending")}


def list_transactions(w: World, p: Obj, _ids: list[str]) -> Obj:
    """With `payout`: what it paid out, and its own transaction (the newest, so it is first), as Stripe lists them."""
    if p.get("type", "charge") not in KINDS:
        raise not_simulated(f"type={p['type']}")
    wanted = currency_of(p["currency"]) if "currency" in p else None
    rows = None
    if "payout" in p:
        payout = w.get("payout", p["payout"], "payout")
        ids = [*w.paid_out[payout["id"]], payout["balance_transaction"]]
        rows = w.all("balance_transaction", ids)
    return newest(w, {**p, "currency": wanted}, "balance_transaction", "type", "currency", "source", rows=rows)
