"""Turning points in customers' lives: what each role does once, in the second or third month.

Each is a generator like a life, and returns whether the customer is gone afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from connectors.stripe.simulator.people import Account, scaled
from connectors.stripe.simulator.values import DAY, HOUR, Obj, rounded

if TYPE_CHECKING:
    from connectors.stripe.simulator.business import Business

Turn: TypeAlias = Generator[int, None, bool]


def settle(shop: Business, account: Account) -> Iterator[int]:
    """Customers who are sent invoices pay them: most in time, some late, half of them by bank transfer."""
    if account.method != "send_invoice":
        return
    late = shop.rng.random() < 0.1
    yield shop.sim.now + shop.rng.randint(*((15, 18) if late else (1, 9))) * DAY
    for invoice in _open(shop, account):
        shop.post(f"/v1/invoices/{invoice['id']}/pay", paid_out_of_band=shop.rng.random() < 0.5)


def _open(shop: Business, account: Account) -> list[Obj]:
    found: list[Obj] = shop.get("/v1/invoices", customer=account.id, status="open")["data"]
    return found


def _latest(shop: Business, account: Account, **filters: Any) -> Obj | None:
    found = shop.get("/v1/invoices", customer=account.id, limit=1, **filters)["data"]
    return found[0] if found else None


def _charge(shop: Business, account: Account) -> Obj | None:
    """The newest charge with money left on it."""
    found = shop.get("/v1/charges", customer=account.id)["data"]
    return next((each for each in found if each["amount_captured"] > each["amount_refunded"]), None)


def _share(amount: int, part: str, currency: str) -> int:
    return rounded(amount * Decimal(part), currency)


def _plain(_shop: Business, _account: Account, _end: int) -> Turn:
    yield from ()
    return False


# More and less -------------------------------------------------------------------------------------------------------


def _upgrade(shop: Business, account: Account, behavior: str) -> None:
    prices = shop.catalogue.prices[account.who.currency]
    item = shop.get(f"/v1/subscriptions/{account.subscription}")["items"]["data"][0]
    if account.product == "metered":
        _add_support(shop, account, behavior)
        return
    change: Obj = {"id": item["id"], "quantity": item["quantity"] + shop.rng.randint(2, 12)}
    if account.product == "team":
        change["price"] = prices["business"]
    shop.post(f"/v1/subscriptions/{account.subscription}", items=[change], proration_behavior=behavior)


def _add_support(shop: Business, account: Account, behavior: str) -> None:
    price = shop.catalogue.prices[account.who.currency]["support"]
    items = shop.get(f"/v1/subscriptions/{account.subscription}")["items"]["data"]
    has = [item for item in items if item["price"]["id"] == price]
    change = {"id": has[0]["id"], "quantity": has[0]["quantity"] + 1} if has else {"price": price, "quantity": 1}
    shop.post(f"/v1/subscriptions/{account.subscription}", items=[change], proration_behavior=behavior)


def _upgrade_now(shop: Business, account: Account, _end: int) -> Turn:
    _upgrade(shop, account, "always_invoice")
    yield from ()
    return False


def _upgrade_later(shop: Business, account: Account, _end: int) -> Turn:
    _upgrade(shop, account, "create_prorations")
    yield from ()
    return False


def _adds_item(shop: Business, account: Account, _end: int) -> Turn:
    _add_support(shop, account, "create_prorations")
    yield from ()
    return False


def _downgrade(shop: Business, account: Account, _end: int) -> Turn:
    """Far fewer seats, invoiced at once: the invoice is negative, and the credit pays the next ones."""
    item = shop.get(f"/v1/subscriptions/{account.subscription}")["items"]["data"][0]
    change = {"id": item["id"], "quantity": 2}
    shop.post(f"/v1/subscriptions/{account.subscription}", items=[change], proration_behavior="always_invoice")
    yield from ()
    return False


def _many_lines(shop: Business, account: Account, _end: int) -> Turn:
    """Extra work, item by item, on the next invoice: more lines than an event carries."""
    for index in range(shop.rng.randint(11, 14)):
        amount = scaled(shop.rng.randint(5, 90) * 100, account.who.currency)
        shop.post(
            "/v1/invoiceitems", customer=account.id, currency=account.who.currency, amount=amount,
            subscription=account.subscription, description=f"Consulting hour {index + 1}",
        )  # fmt: skip
    yield from ()
    return False


def _moves(shop: Business, account: Account, _end: int) -> Turn:
    """A new name and another street in the same place."""
    address = {**account.who.address, "line1": f"{shop.rng.randint(10, 99)} Other Invented Road"}
    name = f"{account.who.name} (renamed)"
    shop.post(f"/v1/customers/{account.id}", address=address, name=name, phone="+1 555 0100")
    yield from ()
    return False


def _cancels_now(shop: Business, account: Account, _end: int) -> Turn:
    params = {"invoice_now": True, "cancellation_details": {"feedback": "too_expensive"}}
    shop.sim.call("DELETE", f"/v1/subscriptions/{account.subscription}", params)
    yield from settle(shop, account)
    return True


# Not paying ----------------------------------------------------------------------------------------------------------


def _fails_recovers(shop: Business, account: Account, end: int) -> Turn:
    shop.sim.set_payment(account.id, "fails")
    yield end + 4 * DAY
    shop.sim.set_payment(account.id, "ok")
    yield shop.sim.now + 5 * DAY
    return False


def _write_off(shop: Business, account: Account) -> list[Obj]:
    return [shop.post(f"/v1/invoices/{each['id']}/mark_uncollectible") for each in _open(shop, account)]


def _fails_for_good(shop: Business, account: Account, end: int) -> Turn:
    shop.sim.set_payment(account.id, "fails")
    yield end + 17 * DAY
    _write_off(shop, account)
    return True


def _written_off_then_pays(shop: Business, account: Account, end: int) -> Turn:
    shop.sim.set_payment(account.id, "fails")
    yield end + 17 * DAY
    written_off = _write_off(shop, account)
    shop.sim.set_payment(account.id, "ok")
    yield shop.sim.now + 12 * DAY
    for invoice in written_off:
        shop.post(f"/v1/invoices/{invoice['id']}/pay")
    return True


def _never_pays(shop: Business, account: Account, end: int) -> Turn:
    yield end + 20 * DAY
    shop.sim.call("DELETE", f"/v1/subscriptions/{account.subscription}", {})
    yield shop.sim.now + 10 * DAY
    _write_off(shop, account)
    return True


def _two_payments(shop: Business, account: Account, end: int) -> Turn:
    """Part of an invoice by card, the rest by bank transfer."""
    yield end + 2 * HOUR
    for invoice in _open(shop, account)[:1]:
        currency = invoice["currency"]
        part = _share(invoice["amount_remaining"], "0.4", currency)
        intent = shop.post("/v1/payment_intents", customer=account.id, amount=part, currency=currency)["id"]
        shop.post(f"/v1/invoices/{invoice['id']}/attach_payment", payment_intent=intent)
        shop.post(f"/v1/payment_intents/{intent}/confirm")
        yield shop.sim.now + 1 * DAY
        left = shop.get(f"/v1/invoices/{invoice['id']}")["amount_remaining"]
        record = shop.post(
            "/v1/payment_records/report_payment", amount_requested={"value": left, "currency": currency},
            initiated_at=shop.sim.now, outcome="guaranteed", guaranteed={"guaranteed_at": shop.sim.now},
            customer_details={"customer": account.id},
            payment_method_details={"type": "custom", "custom": {"display_name": "Bank transfer"}},
        )["id"]  # fmt: skip
        shop.post(f"/v1/invoices/{invoice['id']}/attach_payment", payment_record=record)
    return False


# Taking back ---------------------------------------------------------------------------------------------------------


def _voided(shop: Business, account: Account, _end: int) -> Turn:
    """An invoice for work that was never ordered, taken back two days later."""
    sent = {"collection_method": "send_invoice", "days_until_due": 30}
    invoice = shop.post("/v1/invoices", customer=account.id, **sent)["id"]
    amount = scaled(shop.rng.randint(50, 400) * 100, account.who.currency)
    shop.post("/v1/invoiceitems", customer=account.id, invoice=invoice, amount=amount, description="Training day")
    shop.post(f"/v1/invoices/{invoice}/finalize")
    shop.post(f"/v1/invoices/{invoice}/send")
    yield shop.sim.now + 2 * DAY
    shop.post(f"/v1/invoices/{invoice}/void")
    return False


def _creditable(shop: Business, invoice: Obj | None) -> Obj | None:
    if invoice is None:
        return None
    lines = shop.get(f"/v1/invoices/{invoice['id']}/lines", limit=100)["data"]
    return min(
        (line for line in lines if line["amount"] > 0), key=lambda line: (line["amount"], line["id"]), default=None
    )


def _taxes(shop: Business, line: Obj, amount: int) -> Obj:
    """`tax_amounts` of a credit note's line over `amount` of an invoice's line, where its taxes were put on it by hand:
    their rates are archived."""
    rates = {tax["tax_rate_details"]["tax_rate"] for tax in line["taxes"]}
    if not any(not shop.get(f"/v1/tax_rates/{rate}")["active"] for rate in sorted(rates)):
        return {}
    share = Decimal(amount) / line["amount"]
    return {
        "tax_amounts": [
            {
                "amount": rounded(tax["amount"] * share, line["currency"]),
                "taxable_amount": rounded((tax["taxable_amount"] or 0) * share, line["currency"]),
                "tax_rate": tax["tax_rate_details"]["tax_rate"],
            }
            for tax in line["taxes"]
        ]
    }


def _note(shop: Business, invoice: Obj, line: Obj, amount: int, **params: Any) -> Obj:
    given = {"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": amount}
    lines = [{**given, **_taxes(shop, line, amount)}]
    return shop.post("/v1/credit_notes", invoice=invoice["id"], lines=lines, **params)


def _one_unit_back(shop: Business, account: Account) -> Obj | None:
    """A complaint about an invoice not yet paid: one unit of its smallest positive line is taken back."""
    invoice = _latest(shop, account, status="open")
    line = _creditable(shop, invoice)
    if invoice is None or line is None:
        return None
    amount = rounded(Decimal(line["amount"]) / (line["quantity"] or 1), line["currency"])
    return _note(shop, invoice, line, amount, reason="product_unsatisfactory") if amount else None


def _credit_before(shop: Business, account: Account, end: int) -> Turn:
    yield end + 2 * HOUR
    _one_unit_back(shop, account)
    return False


def _note_voided(shop: Business, account: Account, end: int) -> Turn:
    """The complaint was a mistake: the note is voided while the invoice is still open."""
    yield end + 2 * HOUR
    note = _one_unit_back(shop, account)
    yield shop.sim.now + 12 * HOUR
    if note is not None and shop.get(f"/v1/invoices/{note['invoice']}")["status"] == "open":
        shop.post(f"/v1/credit_notes/{note['id']}/void")
    return False


def _smallest_line_back(shop: Business, account: Account, way: str) -> None:
    """A complaint about a paid invoice: its smallest line is credited whole, and given back that way."""
    invoice = _latest(shop, account, status="paid")
    line = _creditable(shop, invoice)
    if invoice is None or line is None:
        return
    back = line["amount"] - sum(each["amount"] for each in line["discount_amounts"])
    back += sum(tax["amount"] for tax in line["taxes"] if tax["tax_behavior"] == "exclusive")
    if 0 < back <= invoice["amount_paid"]:
        _note(shop, invoice, line, line["amount"], reason="order_change", **{way: back})


def _credit_after(shop: Business, account: Account, end: int) -> Turn:
    yield end + 2 * HOUR
    _smallest_line_back(shop, account, "refund_amount")
    return False


def _credit_to_balance(shop: Business, account: Account, end: int) -> Turn:
    """What is given back pays part of the next invoice."""
    yield end + 2 * HOUR
    _smallest_line_back(shop, account, "credit_amount")
    return False


def _bare_refund(shop: Business, account: Account, end: int) -> Turn:
    """Money back without a credit note."""
    yield end + 2 * HOUR
    charge = _charge(shop, account)
    if charge is not None:
        amount = _share(charge["amount_captured"], "0.35", charge["currency"])
        shop.post("/v1/refunds", charge=charge["id"], amount=amount, reason="requested_by_customer")
    return False


def _refund_fails(shop: Business, account: Account, end: int) -> Turn:
    """A refund that comes back, and another that takes two days."""
    for outcome in ("failed", "succeeded"):
        yield max(shop.sim.now, end) + 2 * HOUR
        charge = _charge(shop, account)
        if charge is not None:
            shop.sim.next_refund("failed" if outcome == "failed" else "succeeded")
            amount = _share(charge["amount_captured"], "0.2", charge["currency"])
            shop.post("/v1/refunds", payment_intent=charge["payment_intent"], amount=amount)
        yield shop.sim.now + 3 * DAY
    return False


def _disputed(shop: Business, account: Account, end: int, outcome: Any) -> Turn:
    yield end + 2 * HOUR
    charge = _charge(shop, account)
    if charge is not None:
        reason = shop.rng.choice(("fraudulent", "product_unacceptable", "subscription_canceled"))
        dispute = shop.sim.dispute(charge["id"], reason)["id"]
        yield shop.sim.now + shop.rng.randint(4, 12) * DAY
        shop.sim.close_dispute(dispute, outcome)
    return False


def _dispute_won(shop: Business, account: Account, end: int) -> Turn:
    return _disputed(shop, account, end, "won")


def _dispute_lost(shop: Business, account: Account, end: int) -> Turn:
    return _disputed(shop, account, end, "lost")


TURNS: dict[str, Callable[[Business, Account, int], Turn]] = {
    "adds_item": _adds_item, "bare_refund": _bare_refund, "cancels_now": _cancels_now, "credit_after": _credit_after,
    "credit_before": _credit_before, "credit_to_balance": _credit_to_balance, "dispute_lost": _dispute_lost,
    "dispute_won": _dispute_won, "downgrade": _downgrade, "fails_for_good": _fails_for_good,
    "fails_recovers": _fails_recovers, "many_lines": _many_lines, "moves": _moves, "never_pays": _never_pays,
    "note_voided": _note_voided, "plain": _plain, "refund_fails": _refund_fails, "two_payments": _two_payments,
    "upgrade_later": _upgrade_later, "upgrade_now": _upgrade_now, "voided": _voided,
    "written_off_then_pays": _written_off_then_pays,
}  # fmt: skip
"""Role -> its turning point: (business, account, end of the current period)."""
