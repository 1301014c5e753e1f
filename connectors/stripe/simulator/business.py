"""Seeded lives: customers who sign up, grow, forget to pay, complain, move and leave, interleaved over months.

Everything goes through `StripeSimulator.call`, so every request is checked like any other. A life is a generator: it
acts, then yields the business time at which it wants to act next.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from connectors.stripe.simulator.catalogue import METER, Catalogue, stock
from connectors.stripe.simulator.people import Person, person, scaled
from connectors.stripe.simulator.values import DAY, HOUR, Obj

if TYPE_CHECKING:
    from connectors.stripe.simulator.simulator import StripeSimulator

_Turn: TypeAlias = Generator[int, None, bool]
Life: TypeAlias = Iterator[int]
"""Yields the business time of its next act."""

_ROLES = (
    "plain", "upgrade_now", "credit_before", "plain", "fails_recovers", "upgrade_later", "credit_after", "voided",
    "moves", "cancels_now", "many_lines", "adds_item", "plain", "never_pays", "upgrade_now", "fails_for_good",
    "credit_after", "plain", "upgrade_later", "moves",
)  # fmt: skip
"""What the n-th customer's life is about (n modulo 20); `many_lines` only for one in 50."""
_SENT = frozenset({"credit_before", "never_pays"})
_CHARGED = frozenset({"fails_recovers", "fails_for_good", "credit_after", "upgrade_now"})


@dataclass(slots=True)
class _Account:
    """A customer in mid-life."""

    id: str
    who: Person
    role: str
    product: str
    method: str
    subscription: str = ""
    taxed: bool = True


class Business:
    """One business with one catalogue. `live` is a closed story, `endless` a steady stream; use one of them."""

    def __init__(self, sim: StripeSimulator, rng: random.Random) -> None:
        self._sim, self._rng = sim, rng
        self._catalogue: Catalogue | None = None
        self._queue: list[tuple[int, int, Life]] = []
        self._count = 0
        self._calls = 0

    def live(self, customers: int) -> Iterator[int]:
        """Run that many customers' whole lives; sign-ups are spread over the first month. Yields business time after
        each small step; at the end no invoice is a draft."""
        self.start(customers)
        while self.step():
            yield self._sim.now
        for _ in range(3):
            self._sim.advance(HOUR)
            yield self._sim.now

    def endless(self, every_seconds: int = 4 * HOUR) -> Iterator[int]:
        """A steady stream: a new customer about every `every_seconds` of business time; the old ones leave in turn. The
        caller decides how fast to ask for the next step."""
        self._stock()
        self._enter(self._sim.now, self._arrivals(every_seconds))
        while self.step():
            yield self._sim.now

    def start(self, customers: int) -> None:
        """Plan the sign-ups of that many customers over the first 30 days."""
        self._stock()
        for _ in range(customers):
            self._enter(self._sim.now + self._rng.randrange(30 * DAY), self._life(self._next_number()))

    def step(self) -> bool:
        """The next act of whoever is first; False when everybody has left."""
        if not self._queue:
            return False
        when, _, life = heapq.heappop(self._queue)
        if when > self._sim.now:
            self._sim.advance(when - self._sim.now)
        following = next(life, None)
        if following is not None:
            self._enter(following, life)
        return True

    def _stock(self) -> None:
        if self._catalogue is None:
            self._catalogue = stock(self._sim)

    def _enter(self, when: int, life: Life) -> None:
        self._calls += 1
        heapq.heappush(self._queue, (when, self._calls, life))

    def _next_number(self) -> int:
        self._count += 1
        return self._count - 1

    def _arrivals(self, every: int) -> Life:
        while True:
            self._enter(self._sim.now, self._life(self._next_number()))
            yield self._sim.now + self._rng.randint(every // 2, every * 3 // 2)

    # Calls -----------------------------------------------------------------------------------------------------------

    def _post(self, path: str, **params: Any) -> Obj:
        self._calls += 1
        return self._sim.call(
            "POST", path, params, idempotency_key=f"shop-{self._calls}-{self._rng.getrandbits(48):012x}"
        )

    def _get(self, path: str, **params: Any) -> Obj:
        return self._sim.call("GET", path, params)

    def _period_end(self, account: _Account) -> int:
        items = self._get(f"/v1/subscriptions/{account.subscription}")["items"]["data"]
        return int(items[0]["current_period_end"])

    def _latest(self, account: _Account, **filters: Any) -> Obj | None:
        found = self._get("/v1/invoices", customer=account.id, limit=1, **filters)["data"]
        return found[0] if found else None

    # A life ----------------------------------------------------------------------------------------------------------

    def _life(self, number: int) -> Life:
        account = self._sign_up(number)
        months = self._rng.randint(5, 7)
        turning_point = self._rng.randint(1, 2)
        for month in range(months):
            start, end = self._sim.now, self._period_end(account)
            yield from self._use(account, start, end)
            if month == turning_point:
                gone = yield from _TURNS[account.role](self, account, end)
                if gone:
                    return
            yield max(self._sim.now, end) + self._rng.randint(2 * HOUR, 30 * HOUR)
            yield from self._settle(account)
        yield from self._leave(account)

    def _sign_up(self, number: int) -> _Account:
        rng, catalogue = self._rng, self._catalogue
        assert catalogue is not None
        who = person(rng, number)
        role = _ROLES[number % len(_ROLES)]
        if role == "many_lines" and number % 50 != 10:
            role = "plain"
        customer = self._post("/v1/customers", name=who.name, email=who.email, address=who.address)["id"]
        product = rng.choice(("team", "team", "business", "graduated", "volume", "metered"))
        method = (
            "charge_automatically" if role in _CHARGED or (role not in _SENT and rng.random() < 0.7) else "send_invoice"
        )
        account = _Account(customer, who, role, product, method, taxed=rng.random() < 0.9)
        params: Obj = {"customer": customer, "items": self._items(account), "collection_method": method}
        if method == "send_invoice":
            params["days_until_due"] = 14
        if account.taxed and catalogue.rates[who.place]:
            params["default_tax_rates"] = catalogue.rates[who.place]
        if rng.random() < 0.25:
            params["discounts"] = [{"coupon": rng.choice(catalogue.coupons[who.currency])}]
        if rng.random() < 0.15:
            params["trial_period_days"] = 14
        if rng.random() < 0.2:
            params["add_invoice_items"] = [{"price": catalogue.prices[who.currency]["setup"]}]
        account.subscription = self._post("/v1/subscriptions", **params)["id"]
        return account

    def _items(self, account: _Account) -> list[Obj]:
        assert self._catalogue is not None
        prices = self._catalogue.prices[account.who.currency]
        most = {"team": 20, "business": 30, "graduated": 80, "volume": 140}.get(account.product)
        main: Obj = {"price": prices[account.product]}
        if most is not None:
            main["quantity"] = self._rng.randint(2, most)
        extra = [{"price": prices["support"], "quantity": 1}] if self._rng.random() < 0.25 else []
        return [main, *extra]

    def _use(self, account: _Account, start: int, end: int) -> Life:
        """Live through the first half of a period; metered customers report what they used."""
        reports = 3 if account.product == "metered" else 1
        for part in range(reports):
            yield max(self._sim.now, start + (end - start) * (part + 1) // (2 * reports + 1))
            if account.product == "metered":
                payload = {"stripe_customer_id": account.id, "value": str(self._rng.randint(200, 40000))}
                identifier = f"use-{self._calls}-{self._rng.getrandbits(40):010x}"
                self._post("/v1/billing/meter_events", event_name=METER, payload=payload, identifier=identifier)

    def _settle(self, account: _Account) -> Life:
        """Customers who are sent invoices pay them: most in time, some late, half of them by bank transfer."""
        if account.method != "send_invoice":
            return
        late = self._rng.random() < 0.1
        yield self._sim.now + self._rng.randint(*((15, 18) if late else (1, 9))) * DAY
        for invoice in self._get("/v1/invoices", customer=account.id, status="open")["data"]:
            self._post(f"/v1/invoices/{invoice['id']}/pay", paid_out_of_band=self._rng.random() < 0.5)

    def _leave(self, account: _Account) -> Life:
        end = self._period_end(account)
        self._post(f"/v1/subscriptions/{account.subscription}", cancel_at_period_end=True)
        yield end + 2 * HOUR
        yield from self._settle(account)

    # Turning points; each returns whether the customer is gone afterwards --------------------------------------------

    def _plain(self, _account: _Account, _end: int) -> _Turn:
        yield from ()
        return False

    def _upgrade(self, account: _Account, behavior: str) -> None:
        assert self._catalogue is not None
        prices = self._catalogue.prices[account.who.currency]
        item = self._get(f"/v1/subscriptions/{account.subscription}")["items"]["data"][0]
        if account.product == "metered":
            self._add_support(account, behavior)
            return
        change: Obj = {"id": item["id"], "quantity": item["quantity"] + self._rng.randint(2, 12)}
        if account.product == "team":
            change["price"] = prices["business"]
        self._post(f"/v1/subscriptions/{account.subscription}", items=[change], proration_behavior=behavior)

    def _add_support(self, account: _Account, behavior: str) -> None:
        assert self._catalogue is not None
        price = self._catalogue.prices[account.who.currency]["support"]
        items = self._get(f"/v1/subscriptions/{account.subscription}")["items"]["data"]
        has = [item for item in items if item["price"]["id"] == price]
        change = {"id": has[0]["id"], "quantity": has[0]["quantity"] + 1} if has else {"price": price, "quantity": 1}
        self._post(f"/v1/subscriptions/{account.subscription}", items=[change], proration_behavior=behavior)

    def _upgrade_now(self, account: _Account, _end: int) -> _Turn:
        self._upgrade(account, "always_invoice")
        yield from ()
        return False

    def _upgrade_later(self, account: _Account, _end: int) -> _Turn:
        self._upgrade(account, "create_prorations")
        yield from ()
        return False

    def _adds_item(self, account: _Account, _end: int) -> _Turn:
        self._add_support(account, "create_prorations")
        yield from ()
        return False

    def _fails_recovers(self, account: _Account, end: int) -> _Turn:
        self._sim.set_payment(account.id, "fails")
        yield end + 4 * DAY
        self._sim.set_payment(account.id, "ok")
        yield self._sim.now + 5 * DAY
        return False

    def _fails_for_good(self, account: _Account, end: int) -> _Turn:
        self._sim.set_payment(account.id, "fails")
        yield end + 17 * DAY
        for invoice in self._get("/v1/invoices", customer=account.id, status="open")["data"]:
            self._post(f"/v1/invoices/{invoice['id']}/mark_uncollectible")
        return True

    def _never_pays(self, account: _Account, end: int) -> _Turn:
        yield end + 20 * DAY
        self._sim.call("DELETE", f"/v1/subscriptions/{account.subscription}", {})
        yield self._sim.now + 10 * DAY
        for invoice in self._get("/v1/invoices", customer=account.id, status="open")["data"]:
            self._post(f"/v1/invoices/{invoice['id']}/mark_uncollectible")
        return True

    def _voided(self, account: _Account, _end: int) -> _Turn:
        """An invoice for work that was never ordered, taken back two days later."""
        invoice = self._post("/v1/invoices", customer=account.id, collection_method="send_invoice", days_until_due=30)[
            "id"
        ]
        amount = scaled(self._rng.randint(50, 400) * 100, account.who.currency)
        self._post("/v1/invoiceitems", customer=account.id, invoice=invoice, amount=amount, description="Training day")
        self._post(f"/v1/invoices/{invoice}/finalize")
        self._post(f"/v1/invoices/{invoice}/send")
        yield self._sim.now + 2 * DAY
        self._post(f"/v1/invoices/{invoice}/void")
        return False

    def _credit_before(self, account: _Account, end: int) -> _Turn:
        """A complaint about an invoice not yet paid: one unit of its first positive line is taken back."""
        yield end + 2 * HOUR
        invoice = self._latest(account, status="open")
        line = self._creditable(invoice)
        if invoice is not None and line is not None:
            lines = [{"type": "invoice_line_item", "invoice_line_item": line["id"], "quantity": 1}]
            self._post("/v1/credit_notes", invoice=invoice["id"], lines=lines, reason="product_unsatisfactory")
        return False

    def _credit_after(self, account: _Account, end: int) -> _Turn:
        """A complaint about a paid invoice: its smallest line is credited whole and refunded."""
        yield end + 2 * HOUR
        invoice = self._latest(account, status="paid")
        line = self._creditable(invoice)
        if invoice is not None and line is not None:
            back = line["amount"] - sum(each["amount"] for each in line["discount_amounts"])
            back += sum(tax["amount"] for tax in line["taxes"] if tax["tax_behavior"] == "exclusive")
            lines = [{"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": line["amount"]}]
            params: Obj = {"invoice": invoice["id"], "lines": lines, "reason": "order_change"}
            if 0 < back <= invoice["amount_paid"]:
                self._post("/v1/credit_notes", **params, refund_amount=back)
        return False

    def _creditable(self, invoice: Obj | None) -> Obj | None:
        if invoice is None:
            return None
        lines = self._get(f"/v1/invoices/{invoice['id']}/lines", limit=100)["data"]
        return min(
            (line for line in lines if line["amount"] > 0), key=lambda line: (line["amount"], line["id"]), default=None
        )

    def _moves(self, account: _Account, _end: int) -> _Turn:
        """A new name and another street in the same place."""
        address = {**account.who.address, "line1": f"{self._rng.randint(10, 99)} Other Invented Road"}
        self._post(
            f"/v1/customers/{account.id}", address=address, name=f"{account.who.name} (renamed)", phone="+1 555 0100"
        )
        yield from ()
        return False

    def _many_lines(self, account: _Account, _end: int) -> _Turn:
        """Extra work, item by item, on the next invoice: more lines than an event carries."""
        for index in range(self._rng.randint(11, 14)):
            amount = scaled(self._rng.randint(5, 90) * 100, account.who.currency)
            self._post(
                "/v1/invoiceitems", customer=account.id, currency=account.who.currency, amount=amount,
                subscription=account.subscription, description=f"Consulting hour {index + 1}",
            )  # fmt: skip
        yield from ()
        return False

    def _cancels_now(self, account: _Account, _end: int) -> _Turn:
        params = {"invoice_now": True, "cancellation_details": {"feedback": "too_expensive"}}
        self._sim.call("DELETE", f"/v1/subscriptions/{account.subscription}", params)
        yield from self._settle(account)
        return True


_TURNS: dict[str, Callable[..., Any]] = {role: getattr(Business, f"_{role}") for role in set(_ROLES)}
