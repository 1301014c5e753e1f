"""Shared by the tests of the simulated Stripe: an account, short hands for its calls, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.stripe.simulator import StripeSimulator

START = 1_767_225_600
"""Thursday 2026-01-01, midnight in UTC; the first Monday is four days later, January has 31 days."""
HOUR, DAY = 3600, 86_400


class Account:
    """A simulator and what was heard of it since the last question. `payouts`: the balance is paid out on Mondays."""

    def __init__(self, *, payouts: bool = False) -> None:
        self.sim = StripeSimulator(seed=7, clock=lambda: 1_770_000_000.0, start=START, payouts=payouts)
        self.heard: list[dict[str, Any]] = []
        self.sim.listen(self.heard.append)

    def post(self, path: str, **params: Any) -> Any:
        return self.sim.call("POST", path, params)

    def get(self, path: str, **params: Any) -> Any:
        return self.sim.call("GET", path, params)

    def customer(self, **params: Any) -> str:
        return str(self.post("/v1/customers", name="Ada Example", **params)["id"])

    def drafted(self, customer: str, amounts: Sequence[int], currency: str = "usd", **params: Any) -> str:
        """A draft invoice with one line per amount."""
        invoice = str(self.post("/v1/invoices", customer=customer, currency=currency, **params)["id"])
        for amount in amounts:
            self.post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=amount, currency=currency)
        return invoice

    def since(self) -> list[dict[str, Any]]:
        """The events since the last question."""
        heard = list(self.heard)
        self.heard.clear()
        return heard

    def types(self) -> list[str]:
        """Their types."""
        return [event["type"] for event in self.since()]
