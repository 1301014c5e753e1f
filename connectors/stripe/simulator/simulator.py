"""The simulator itself: business time, operations, side doors."""

from __future__ import annotations

import random
from typing import Any, Literal

import orjson
from starlette.types import ASGIApp

from connectors.simulator import Clock
from connectors.stripe.simulator import balance, disputes, fixtures, invoices, payouts, routes, schema, totals
from connectors.stripe.simulator.errors import StripeError, not_simulated, refused
from connectors.stripe.simulator.events import EventLog, Listener
from connectors.stripe.simulator.http import application
from connectors.stripe.simulator.idempotency import Replies, Reply
from connectors.stripe.simulator.lists import expand
from connectors.stripe.simulator.thin import emit_thin
from connectors.stripe.simulator.values import Obj, merged
from connectors.stripe.simulator.world import Caller, World

_STATE = {
    "customers": "customer", "products": "product", "prices": "price", "coupons": "coupon", "tax_rates": "tax_rate",
    "subscriptions": "subscription", "invoice_items": "invoiceitem", "invoices": "invoice",
    "credit_notes": "credit_note", "payments": "invoice_payment", "payment_intents": "payment_intent",
    "charges": "charge", "refunds": "refund", "meters": "billing.meter",
    "invoice_payments": "invoice_payment", "disputes": "dispute", "payouts": "payout",
    "balance_transactions": "balance_transaction", "tax_ids": "tax_id", "payment_records": "payment_record",
    "customer_balance_transactions": "customer_balance_transaction",
}  # fmt: skip


def _check_invoice(w: World, invoice: Obj) -> None:
    if invoice["id"] in w.lines:
        totals.check(invoice, w.lines[invoice["id"]])


_CHECKS = {
    "invoice": _check_invoice, "charge": balance.check_charge, "balance_transaction": balance.check,
    "payout": payouts.check,
}  # fmt: skip


class StripeSimulator:
    """One Stripe account in test mode. `clock` is real time (idempotency keys, webhook signatures); `now` is business
    time, in unix seconds, and moves only by `advance`. `start`: where it begins (default: real time at
    construction). `payouts`: whether the balance is paid out every Monday."""

    def __init__(self, *, seed: int = 7, clock: Clock, start: int | None = None, payouts: bool = True) -> None:
        self.clock = clock
        self._seed = seed
        self._start = int(clock()) if start is None else start
        self._payouts = payouts
        self._listeners: list[Listener] = []
        self.app: ASGIApp = application(self._perform)
        self.reset()

    def reset(self) -> None:
        """Forget everything but the listeners; start again from the seed."""
        rng = random.Random(self._seed)  # noqa: S311 - ids of a simulator
        self._request_ids = random.Random(self._seed)  # noqa: S311
        log = EventLog(schema.api_version(), self._listeners)
        self.world = World(rng, self._start, log, _CHECKS)
        if self._payouts:
            payouts.begin(self.world)
        self._replies = Replies(self.clock)

    # Time ------------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Business time, unix seconds."""
        return self.world.now

    @property
    def next_due(self) -> int | None:
        """When Stripe does something by itself next, in business time."""
        return self.world.due[0][0] if self.world.due else None

    def advance(self, seconds: int) -> None:
        """Move business time forward and do everything that falls due, in order."""
        self.world.advance_to(self.world.now + seconds)

    # Operations ------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, params: Obj | None = None, idempotency_key: str | None = None) -> Obj:
        """An operation, as over HTTP but in process. Parameters are plain values (lists, dicts, numbers, booleans,
        text). Raises `StripeError`."""
        _, reply, _ = self._perform(method, path, params or {}, idempotency_key)
        body: Obj = orjson.loads(reply.body)
        if reply.status != 200:
            raise StripeError(reply.status, body)
        return body

    def _perform(self, method: str, path: str, raw: Obj, key: str | None) -> tuple[str, Reply, bool]:
        """Check, then run, then remember. Contract errors raise; what an operation refuses is a reply like any
        other."""
        found = routes.find(method, path)
        if found is None:
            raise refused(
                f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs.", status=404
            )
        route, ids = found
        params = schema.params(route.contract)(raw, "")
        for name in sorted(params.keys() - route.modelled):
            raise not_simulated(name)
        request_id = f"req_{self._request_ids.randrange(36**12):012x}"
        fingerprint = b""
        if key is not None:
            fingerprint = orjson.dumps([method, path, params], default=str, option=orjson.OPT_SORT_KEYS)
            earlier = self._replies.earlier(key, fingerprint)
            if earlier is not None:
                return request_id, earlier, True
        reply = self._run(route, params, ids, Caller(request_id, key))
        if key is not None:
            self._replies.keep(key, fingerprint, reply)
        return request_id, reply, False

    def _run(self, route: routes.Route, params: Obj, ids: list[str], caller: Caller) -> Reply:
        paths = params.pop("expand", [])
        self.world.caller = caller if route.method != "GET" else Caller()
        try:
            result = route.handler(self.world, params, ids)
            body = result if result.get("object") in ("list", "event", None) else self.world.snapshot(result)
            return Reply(200, orjson.dumps(expand(self.world, body, paths)))
        except StripeError as error:
            return Reply(error.status, orjson.dumps(error.body))
        finally:
            self.world.caller = Caller()

    # Side doors ------------------------------------------------------------------------------------------------------

    def set_payment(self, customer: str, outcome: Literal["ok", "fails"]) -> None:
        """Whether this customer's charges succeed from now on."""
        self.world.payment[self.world.get("customer", customer)["id"]] = outcome

    def dispute(self, charge: str, reason: str = "general", amount: int | None = None) -> Obj:
        """The customer's bank takes a charge back (all that was not refunded, or `amount` in minor units)."""
        w = self.world
        return w.snapshot(disputes.open_dispute(w, w.get("charge", charge), reason, amount))

    def close_dispute(self, dispute: str, outcome: Literal["won", "lost"]) -> Obj:
        """The bank decides: `won` gives the money back."""
        w = self.world
        return w.snapshot(disputes.close(w, w.get("dispute", dispute), outcome))

    def next_refund(self, outcome: Literal["succeeded", "failed"]) -> None:
        """The next refund is pending for two days, then this."""
        self.world.next_refund = outcome

    def webhooks_fail(self, *, failing: bool) -> None:
        """Whether the account's endpoints leave `invoice.created` unanswered from now on (drafts then wait up to 72
        hours). Has nothing to do with whether events reach listeners."""
        if failing:
            self.world.webhooks_fail = True
        else:
            invoices.webhooks_answer(self.world)

    def fail_next_payout(self) -> None:
        """The bank refuses the next payout on its arrival date. Called twice, the next two."""
        self.world.failing_payouts += 1

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every event from now on (a webhook endpoint)."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Stop calling it."""
        self._listeners.remove(listener)

    def emit(self, event_type: str, overrides: Obj | None = None) -> Obj:
        """A realistic event of that type about the newest fitting object (made without a sound if there is none), with
        `overrides` merged into the event. Any type is accepted; an unknown one is about a generic object."""
        event = merged(fixtures.event(self, event_type), overrides or {})
        self.emit_event(event)
        return event

    def emit_event(self, event: Obj) -> Obj:
        """Send exactly this, and keep it like any event if it has an id."""
        if isinstance(event.get("id"), str):
            self.world.log.append(event)
        else:
            self.world.log.tell(event)
        return event

    def emit_thin(self, event_type: str, related_object_id: str | None = None) -> Obj:
        """A thin notification about an existing object, e.g. a meter."""
        related = None
        if related_object_id is not None:
            kind = next((k for k, table in self.world.objects.items() if related_object_id in table), None)
            if kind is None:
                raise refused(f"No such object: '{related_object_id}'", code="resource_missing", status=404)
            related = (kind, related_object_id)
        return emit_thin(self.world, event_type, related)

    def state(self) -> dict[str, Any]:
        """Every object by kind, as the API would show it, but with all lines in invoices and credit notes. `payments`
        and `invoice_payments` are the InvoicePayments; `balance` is what has not been paid out, per currency;
        `paid_out` is payout -> the balance transactions it pays out;
        `events` is how many snapshot events there have been. Deleted objects are stubs."""
        objects = self.world.objects
        state = {name: [self._whole(obj) for obj in objects[kind].values()] for name, kind in _STATE.items()}
        paid_out = {payout: list(ids) for payout, ids in self.world.paid_out.items()}
        return {
            **state, "balance": balance.amounts(self.world), "paid_out": paid_out, "events": self.world.log.total
        }  # fmt: skip

    def _whole(self, obj: Obj) -> Obj:
        body = self.world.snapshot(obj)
        if "lines" in body:
            body["lines"]["data"] = orjson.loads(orjson.dumps(self.world.lines[obj["id"]]))
            body["lines"]["has_more"] = False
        return body

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """How Stripe refuses: an expired key is a 401, a limit a 429 that names its reason and is not to be retried
        blindly."""
        headers = {"Content-Type": "application/json", "Request-Id": "req_refused"}
        if kind == "expired":
            error = refused("Expired API Key provided: sk_test_****", status=401, code="api_key_expired")
        elif kind == "limit":
            error = refused("Too many requests hit the API too quickly.", status=429, code="rate_limit")
            headers["Stripe-Rate-Limited-Reason"] = "global-rate"
        else:
            raise ValueError(f"Stripe has no refusal of kind {kind!r}; use 'expired' or 'limit'")
        return error.status, headers, orjson.dumps(error.body)
