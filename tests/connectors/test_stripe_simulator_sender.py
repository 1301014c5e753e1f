"""Webhooks as sent, received by a real server and verified with the vendor's own library."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.stripe.sandbox_env import WEBHOOK_SECRET
from connectors.stripe.simulator import StripeSimulator, WebhookSender
from tests.serving import served


class Inbox:
    """A webhook endpoint that keeps what it is sent; `answer` decides its status from (event, how many-th request)."""

    def __init__(self, answer: Callable[[dict[str, Any], int], int] = lambda _event, _count: 200) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.accepted: list[str] = []
        self._answer = answer
        self.app = Starlette(routes=[Route("/stripe", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((request.headers["stripe-signature"], body))
        status = self._answer(json.loads(body), len(self.requests))
        if status == 200:
            self.accepted.append(json.loads(body)["id"])
        return Response(status_code=status, headers={"Location": "/elsewhere"})


@contextmanager
def endpoint(inbox: Inbox) -> Iterator[str]:
    with served(inbox.app) as url:
        yield f"{url}/stripe"


def customers(sim: StripeSimulator, count: int) -> None:
    for number in range(count):
        sim.call("POST", "/v1/customers", {"name": f"Zoë {number}"})


def simulator() -> StripeSimulator:
    return StripeSimulator(clock=time.time, start=1_767_225_600)


async def test_every_event_arrives_signed_and_in_order() -> None:
    sim, inbox = simulator(), Inbox()
    with endpoint(inbox) as url:
        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(1), time.time, concurrency=1)
        customers(sim, 20)
        assert sender.pending == 20
        await sender.flush()
    assert inbox.accepted == [entry.id for entry in reversed(list(sim.world.log.newest_first()))]
    for header, body in inbox.requests:
        assert stripe.WebhookSignature.verify_header(body.decode(), header, WEBHOOK_SECRET, tolerance=60)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(body.decode() + " ", header, WEBHOOK_SECRET)
    assert "Zoë 0".encode() in inbox.requests[0][1]
    assert json.loads(inbox.requests[0][1])["pending_webhooks"] == 1
    assert (sender.events, sender.attempts, sender.duplicates_sent, sender.failed, sender.pending) == (20, 20, 0, 0, 0)


async def test_the_hubs_way_of_reading_accepts_what_is_sent() -> None:
    sim, inbox = simulator(), Inbox()
    with endpoint(inbox) as url:
        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(1), time.time)
        sim.emit("invoice.paid")
        sim.emit_thin("v1.billing.meter.error_report_triggered", next(iter(sim.world.objects["billing.meter"])))
        await sender.flush()
    client = stripe.StripeClient("sk_test_x")
    bodies = {json.loads(body)["object"]: (header, body) for header, body in inbox.requests}
    header, body = bodies["event"]
    event: Any = client.construct_event(body, header, WEBHOOK_SECRET)
    assert event.data.object.status == "paid"
    header, body = bodies["v2.core.event"]
    assert (
        client.parse_event_notification(body, header, WEBHOOK_SECRET).type == "v1.billing.meter.error_report_triggered"
    )


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_anything_but_2xx_is_retried_with_a_new_signature(status: int) -> None:
    ticks = iter(range(1_770_000_000, 1_770_001_000))
    sim, inbox = simulator(), Inbox(lambda _event, count: status if count <= 2 else 200)
    with endpoint(inbox) as url:
        sender = WebhookSender(
            sim, url, WEBHOOK_SECRET, random.Random(1), lambda: next(ticks), first_retry_seconds=0.01
        )
        customers(sim, 1)
        await sender.flush()
    assert (sender.attempts, sender.failed, sender.pending) == (3, 0, 0)
    assert len({body for _, body in inbox.requests}) == 1
    assert [header.split(",")[0] for header, _ in inbox.requests] == [f"t={1_770_000_000 + n}" for n in range(3)]


async def test_it_gives_up_after_the_last_attempt() -> None:
    sim, inbox = simulator(), Inbox(lambda _event, _count: 503)
    with endpoint(inbox) as url:
        sender = WebhookSender(
            sim, url, WEBHOOK_SECRET, random.Random(1), time.time, first_retry_seconds=0.01, max_attempts=3
        )
        customers(sim, 2)
        await sender.flush()
    assert (sender.attempts, sender.failed, sender.pending) == (6, 2, 0)


async def test_nobody_listening_is_a_failure_like_any_other() -> None:
    sim = simulator()
    with endpoint(Inbox()) as url:
        pass
    sender = WebhookSender(sim, url, "whsec_x", random.Random(1), time.time, first_retry_seconds=0.01, max_attempts=2)
    customers(sim, 1)
    await sender.flush()
    assert (sender.attempts, sender.failed) == (2, 1)


async def test_duplicates_are_the_same_event_again() -> None:
    sim, inbox = simulator(), Inbox()
    with endpoint(inbox) as url:
        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(2), time.time, duplicates=0.5)
        customers(sim, 40)
        await sender.flush()
    assert 5 < sender.duplicates_sent < 35
    assert len(inbox.requests) == 40 + sender.duplicates_sent
    assert len({body for _, body in inbox.requests}) == 40


async def test_disorder_lets_paid_arrive_before_finalized() -> None:
    sim, inbox = simulator(), Inbox()
    customer = sim.call("POST", "/v1/customers", {"name": "A"})["id"]
    with endpoint(inbox) as url:
        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(3), time.time, disorder=0.5, concurrency=1)
        for _ in range(10):
            invoice = sim.call("POST", "/v1/invoices", {"customer": customer})["id"]
            sim.call("POST", "/v1/invoiceitems", {"customer": customer, "invoice": invoice, "amount": 500})
            sim.call("POST", f"/v1/invoices/{invoice}/pay")
        await sender.flush()
    seen = [json.loads(body) for _, body in inbox.requests]
    sent = [entry.id for entry in reversed(list(sim.world.log.newest_first()))][
        1:
    ]  # the customer came before the sender
    assert sorted(event["id"] for event in seen) == sorted(sent)
    assert [event["id"] for event in seen] != sent
    order = {(event["type"], event["data"]["object"]["id"]): place for place, event in enumerate(seen)}
    paid = [key[1] for key in order if key[0] == "invoice.paid"]
    assert len(paid) == 10
    assert any(order["invoice.paid", each] < order["invoice.finalized", each] for each in paid)


async def test_run_delivers_while_flush_only_waits() -> None:
    sim, inbox = simulator(), Inbox()
    with endpoint(inbox) as url:
        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(1), time.time)
        running = asyncio.create_task(sender.run())
        for _ in range(3):
            customers(sim, 5)
            await sender.flush()
            assert sender.pending == 0
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        customers(sim, 1)
        await sender.flush()
        sender.close()
        customers(sim, 1)
        await sender.flush()
    assert len(inbox.accepted) == 16


async def test_what_was_being_sent_when_stopped_is_sent_again() -> None:
    sim, inbox = simulator(), Inbox()
    with endpoint(inbox) as url:
        started = asyncio.Event()

        def clock() -> float:  # asked for the time of every signature, so the first attempt is under way
            started.set()
            return time.time()

        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(1), clock)
        customers(sim, 50)
        running = asyncio.create_task(sender.run())
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert sender.pending > 0
        await sender.flush()
    assert len(set(inbox.accepted)) == 50
    assert sender.pending == 0


async def test_events_made_by_a_served_simulator_in_another_thread_are_sent() -> None:
    sim, inbox = simulator(), Inbox()
    with endpoint(inbox) as url, served(sim.app) as api:
        sender = WebhookSender(sim, url, WEBHOOK_SECRET, random.Random(1), time.time)
        running = asyncio.create_task(sender.run())
        transport = stripe.AIOHTTPClient()
        client = stripe.StripeClient(
            "sk_test_sandbox_only_not_a_secret", base_addresses={"api": api}, http_client=transport
        )
        for number in range(5):
            await client.v1.customers.create_async({"name": f"C{number}"})
        await sender.flush()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await transport.close_async()  # type: ignore[no-untyped-call]
    assert len(inbox.accepted) == 5
