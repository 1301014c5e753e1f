"""Stripe's own doings in the sandbox: delivering webhooks, and made-up business at a steady pace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.simulator import Clock


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Where Stripe's events go, and how badly the network treats them on the way."""

    url: str
    secret: str
    """`whsec_...`, the same as in the hub's `HUB_STRIPE_WEBHOOK_SECRETS`."""
    duplicates: float = 0.0
    """Share of events sent twice, 0 to 1."""
    disorder: float = 0.0
    """Share of events held back so that later ones overtake them, 0 to 1."""


def sender(stripe: Any, webhooks: Webhooks, seed: int, clock: Clock) -> Any:
    """A webhook endpoint of the Stripe simulator: hears events from now on, delivers them in `run`."""
    from connectors.stripe.simulator.webhooks import WebhookSender

    rng = random.Random(seed)  # noqa: S311 - chooses duplicates and disorder
    return WebhookSender(
        stripe, webhooks.url, webhooks.secret, rng, clock, duplicates=webhooks.duplicates, disorder=webhooks.disorder
    )


def counts(sender: Any) -> dict[str, int]:
    """How far it is: `pending` 0 means that everything heard was delivered or given up."""
    names = ("events", "attempts", "duplicates_sent", "failed", "pending")
    return {name: getattr(sender, name) for name in names}


class Trade:
    """Made-up business: customers come, pay or do not, and leave. Paced by the events it causes."""

    def __init__(self, stripe: Any, rate: float, seed: int) -> None:
        """`rate`: events a second of real time, on average; business time runs as fast as that takes."""
        self._stripe, self._rate, self._seed = stripe, rate, seed
        self._events = 0
        self._steps: Iterator[int] = iter(())
        self.restart()

    def restart(self) -> None:
        """Begin again, with no customers: the simulator has been reset."""
        from connectors.stripe.simulator.business import Business

        self._steps = Business(self._stripe, random.Random(self._seed)).endless()  # noqa: S311 - makes up customers

    async def run(self) -> None:
        """Until cancelled. Falls behind rather than catching up in a burst."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        self._stripe.listen(self._count)
        try:
            while next(self._steps, None) is not None:
                due = max(due + self._events / self._rate, loop.time())
                self._events = 0
                await asyncio.sleep(due - loop.time())
        finally:
            self._stripe.unlisten(self._count)

    def _count(self, _: Any) -> None:
        self._events += 1
