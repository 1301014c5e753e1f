"""A customer's life: signing up, using, paying, one turning point (`turns`), leaving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from connectors.stripe.simulator import turns
from connectors.stripe.simulator.catalogue import METER
from connectors.stripe.simulator.people import Account, Person, person
from connectors.stripe.simulator.values import DAY, HOUR, Obj

if TYPE_CHECKING:
    from connectors.stripe.simulator.business import Business

Life: TypeAlias = Iterator[int]
"""Yields the business time of its next act."""

ROLES = (
    "plain", "upgrade_now", "credit_before", "dispute_won", "fails_recovers", "upgrade_later", "credit_after", "voided",
    "bare_refund", "cancels_now", "many_lines", "dispute_lost", "two_payments", "never_pays", "credit_to_balance",
    "fails_for_good", "downgrade", "note_voided", "written_off_then_pays", "adds_item", "refund_fails", "moves",
    "plain", "plain",
)  # fmt: skip
"""What the n-th customer's life is about (n modulo 24); `many_lines` only for one in 48."""
_SENT = frozenset({"credit_before", "never_pays", "note_voided", "two_payments"})
_CHARGED = frozenset({
    "bare_refund", "credit_after", "credit_to_balance", "dispute_lost", "dispute_won", "downgrade", "fails_for_good",
    "fails_recovers", "refund_fails", "upgrade_now", "written_off_then_pays",
})  # fmt: skip


def life(shop: Business, number: int) -> Life:
    """The `number`-th customer's."""
    account = _sign_up(shop, number)
    months = shop.rng.randint(5, 7)
    turning_point = shop.rng.randint(1, 2)
    for month in range(months):
        start, end = shop.sim.now, _period_end(shop, account)
        yield from _use(shop, account, start, end)
        if month == turning_point:
            gone = yield from turns.TURNS[account.role](shop, account, end)
            if gone:
                return
        yield max(shop.sim.now, end) + shop.rng.randint(2 * HOUR, 30 * HOUR)
        yield from turns.settle(shop, account)
    yield from _leave(shop, account)


def _sign_up(shop: Business, number: int) -> Account:
    rng = shop.rng
    who = person(rng, number)
    role = ROLES[number % len(ROLES)]
    if role == "many_lines" and number % 48 != 10:
        role = "plain"
    customer: Obj = {"name": who.name, "email": who.email, "address": who.address}
    if who.tax_exempt != "none":
        customer["tax_exempt"] = who.tax_exempt
    if who.vat_id is not None:
        customer["tax_id_data"] = [{"type": "eu_vat", "value": who.vat_id}]
    customer_id = shop.post("/v1/customers", **customer)["id"]
    product = rng.choice(("team", "team", "business", "graduated", "volume", "metered"))
    if role in ("downgrade", "dispute_won", "dispute_lost", "bare_refund", "refund_fails", "credit_to_balance"):
        product = "business"
    sent = role in _SENT or (role not in _CHARGED and rng.random() < (0.3 if who.taxed else 0.7))
    account = Account(customer_id, who, role, product, "send_invoice" if sent else "charge_automatically")
    account.subscription = _subscribe(shop, account, who)["id"]
    return account


def _subscribe(shop: Business, account: Account, who: Person) -> Obj:
    rng, catalogue = shop.rng, shop.catalogue
    params: Obj = {
        "customer": account.id,
        "items": _items(shop, account),
        "collection_method": account.method,
    }
    if account.method == "send_invoice":
        params["days_until_due"] = 14
    if who.taxed and catalogue.rates[who.place]:
        params["default_tax_rates"] = catalogue.rates[who.place]
    if rng.random() < 0.25:
        params["discounts"] = [{"coupon": rng.choice(catalogue.coupons[who.currency])}]
    if rng.random() < 0.15:
        params["trial_period_days"] = 14
    if rng.random() < 0.2:
        params["add_invoice_items"] = [{"price": catalogue.prices[who.currency]["setup"]}]
    return shop.post("/v1/subscriptions", **params)


def _items(shop: Business, account: Account) -> list[Obj]:
    prices = shop.catalogue.prices[account.who.currency]
    most = {"team": 20, "business": 30, "graduated": 80, "volume": 140}.get(account.product)
    main: Obj = {"price": prices[account.product]}
    if most is not None:
        main["quantity"] = shop.rng.randint(24 if account.role == "downgrade" else 2, most)
    extra = [{"price": prices["support"], "quantity": 1}] if shop.rng.random() < 0.25 else []
    return [main, *extra]


def _use(shop: Business, account: Account, start: int, end: int) -> Life:
    """Live through the first half of a period; metered customers report what they used."""
    reports = 3 if account.product == "metered" else 1
    for part in range(reports):
        yield max(shop.sim.now, start + (end - start) * (part + 1) // (2 * reports + 1))
        if account.product == "metered":
            payload = {"stripe_customer_id": account.id, "value": str(shop.rng.randint(200, 40000))}
            identifier = f"use-{shop.calls}-{shop.rng.getrandbits(40):010x}"
            shop.post("/v1/billing/meter_events", event_name=METER, payload=payload, identifier=identifier)


def _period_end(shop: Business, account: Account) -> int:
    items = shop.get(f"/v1/subscriptions/{account.subscription}")["items"]["data"]
    return int(items[0]["current_period_end"])


def _leave(shop: Business, account: Account) -> Life:
    start, end = shop.sim.now, _period_end(shop, account)
    yield from _use(shop, account, start, end)
    shop.post(f"/v1/subscriptions/{account.subscription}", cancel_at_period_end=True)
    yield end + 2 * HOUR
    yield from turns.settle(shop, account)
    yield shop.sim.now + DAY
