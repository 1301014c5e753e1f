"""Seeded business: customers who sign up, pay, complain and leave, interleaved over months, and a bank that now and
then says no.

Everything goes through `StripeSimulator.call`, so every request is checked like any other; what no request does (a
customer's bank disputing a charge) goes through the simulator's side doors. A life (`lives`) is a generator: it acts,
then yields the business time at which it wants to act next.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from connectors.stripe.simulator.catalogue import Catalogue, stock
from connectors.stripe.simulator.lives import Life, life
from connectors.stripe.simulator.values import DAY, HOUR, Obj

if TYPE_CHECKING:
    from connectors.stripe.simulator.simulator import StripeSimulator

TROUBLE = 45 * DAY
"""How long until the bank refuses a payout; in endless business, each time."""
LAST_PAYOUTS = 35
"""Days to wait at most, at the end of a story, for everything to be paid out."""


class Business:
    """One business with one catalogue. `live` is a closed story, `endless` a steady stream; use one of them."""

    def __init__(self, sim: StripeSimulator, rng: random.Random) -> None:
        self.sim, self.rng = sim, rng
        self._catalogue: Catalogue | None = None
        self._queue: list[tuple[int, int, Life]] = []
        self._count = 0
        self.calls = 0

    def live(self, customers: int) -> Iterator[int]:
        """Run that many customers' whole lives; sign-ups are spread over the first month. Yields business time after
        each small step; at the end no invoice is a draft and no money is on its way."""
        self.start(customers)
        while self.step():
            yield self.sim.now
        for _ in range(3):
            self.sim.advance(HOUR)
            yield self.sim.now
        for _ in range(LAST_PAYOUTS):
            if self._all_paid_out():
                return
            self.sim.advance(DAY)
            yield self.sim.now

    def _all_paid_out(self) -> bool:
        """A balance below zero stays."""
        parts = self.get("/v1/balance")
        waiting = [each for each in parts["pending"] if each["amount"]]
        waiting += [each for each in parts["available"] if each["amount"] > 0]
        moving = [po for status in ("pending", "in_transit") for po in self.get("/v1/payouts", status=status)["data"]]
        return not waiting and not moving

    def endless(self, every_seconds: int = 4 * HOUR) -> Iterator[int]:
        """A steady stream: a new customer about every `every_seconds` of business time; the old ones leave in turn. The
        caller decides how fast to ask for the next step."""
        self._stock()
        self.enter(self.sim.now, self._arrivals(every_seconds))
        self.enter(self.sim.now, self._bank(again=True))
        while self.step():
            yield self.sim.now

    def start(self, customers: int) -> None:
        """Plan the sign-ups of that many customers over the first 30 days."""
        self._stock()
        for _ in range(customers):
            self.enter(self.sim.now + self.rng.randrange(30 * DAY), life(self, self._next_number()))
        self.enter(self.sim.now, self._bank(again=False))

    def step(self) -> bool:
        """The next act of whoever is first, or what Stripe does by itself before that (a renewal's draft, say, which is
        to be looked at before it is finalised); False when everybody has left."""
        if not self._queue:
            return False
        due = self.sim.next_due
        if due is not None and self.sim.now < due < self._queue[0][0]:
            self.sim.advance(due - self.sim.now)
            return True
        when, _, who = heapq.heappop(self._queue)
        if when > self.sim.now:
            self.sim.advance(when - self.sim.now)
        following = next(who, None)
        if following is not None:
            self.enter(following, who)
        return True

    def _stock(self) -> None:
        if self._catalogue is None:
            self._catalogue = stock(self.sim)

    @property
    def catalogue(self) -> Catalogue:
        """What is sold, once the business has begun."""
        assert self._catalogue is not None
        return self._catalogue

    def enter(self, when: int, who: Life) -> None:
        """Let somebody act at that time."""
        self.calls += 1
        heapq.heappush(self._queue, (when, self.calls, who))

    def _next_number(self) -> int:
        self._count += 1
        return self._count - 1

    def _arrivals(self, every: int) -> Life:
        while True:
            self.enter(self.sim.now, life(self, self._next_number()))
            yield self.sim.now + self.rng.randint(every // 2, every * 3 // 2)

    def _bank(self, *, again: bool) -> Life:
        while True:
            yield self.sim.now + TROUBLE
            self.sim.fail_next_payout()
            if not again:
                return

    # Calls -----------------------------------------------------------------------------------------------------------

    def post(self, path: str, **params: Any) -> Obj:
        """A request that changes something, with an idempotency key of its own."""
        self.calls += 1
        return self.sim.call("POST", path, params, idempotency_key=f"shop-{self.calls}-{self.rng.getrandbits(48):012x}")

    def get(self, path: str, **params: Any) -> Obj:
        """A request that reads."""
        return self.sim.call("GET", path, params)
