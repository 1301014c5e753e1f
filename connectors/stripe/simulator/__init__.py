"""Stripe, simulated: one account in test mode, in memory, strict, with a business time of its own.

    sim = StripeSimulator(seed=7, clock=time.time)
    sim.call("POST", "/v1/customers", {"name": "Ada Example"})     # the same operations as over HTTP (`sim.app`)
    sim.advance(3600)                                              # drafts finalise, renewals happen, retries run
    sender = WebhookSender(sim, url, secret, rng, time.time)       # signed webhooks
    for _ in Business(sim, random.Random(1)).live(200): ...        # 200 customers' lives

What it models and refuses is said where it is modelled: `routes` (operations and parameters), `totals` (arithmetic),
`invoices`, `renewals`, `subscription_update`, `prorations`, `credit_notes`, `payments`, `collecting`, `refunds`,
`disputes`, `payouts` (life cycles), `balance` (what is left of money), `schema` (request contract).
"""

from connectors.stripe.simulator.business import Business
from connectors.stripe.simulator.errors import StripeError
from connectors.stripe.simulator.simulator import StripeSimulator
from connectors.stripe.simulator.totals import InvariantError
from connectors.stripe.simulator.webhooks import WebhookSender

__all__ = ["Business", "InvariantError", "StripeError", "StripeSimulator", "WebhookSender"]
