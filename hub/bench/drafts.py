"""How long a draft invoice waits for its tax: from its last line being added in Stripe until Stripe has the tax on it.

All that lies between is in the figure: the webhook, the hub's intake and queue, AvaTax's answer, the write back.
Drafts are made at a steady rate through Stripe's API, as billing code would make them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from hub.bench.ground import BenchError, Say, ground, silent
from hub.bench.stand import quantiles, standing
from hub.commands import common

RATE = 20.0
BUSINESS = 2.0
"""Other events a second meanwhile: just so that every destination has something to do."""
PACE = {"HUB_AVALARA_RATE": "100", "HUB_STRIPE_RATE": "100"}
"""Calls a second that the hub allows itself. AvaTax's default, 10, is a guess, and less than 20 drafts a second
take."""
CUSTOMERS = 20
WAIT = 60.0
"""Seconds after the last draft until a tax that is still missing is an error."""
ADDRESS = {
    "line1": "100 Ravine Lane NE",
    "city": "Bainbridge Island",
    "state": "WA",
    "postal_code": "98110",
    "country": "US",
}
_WRITTEN = re.compile(r".*/v1/invoices/(in_\w+)/update_lines")


async def drafts(seconds: float = 10.0, *, rate: float = RATE, say: Say = silent) -> dict[str, Any]:
    """Make `rate` drafts a second for `seconds`. Raises `BenchError` if one of them gets no tax."""
    async with ground(say) as place:
        say("starting a hub that calculates tax, and a sandbox ...")
        env = {"HUB_AVALARA_TAX": "calculate", **PACE}
        async with (
            standing(place, business=BUSINESS, env=env, sandbox_port=common.free_port()) as stand,
            _stripe(stand.sandbox_url) as stripe,
            httpx.AsyncClient(base_url=stand.sandbox_url) as door,
        ):
            shop = _Shop(stripe)
            await shop.open()
            say(f"{rate:g} drafts a second for {seconds:g} s ...")
            began = await _offer(shop, rate, seconds)
            say("waiting for the last tax ...")
            taken = await _waited(door, began)
    offered = len(began) / seconds
    return {"drafts": {"offered_per_s": round(offered, 1), "drafts": len(taken), **quantiles(taken)}}


def _stripe(sandbox_url: str) -> httpx.AsyncClient:
    from connectors.sandbox.environment import environment
    from connectors.stripe.client import PINNED_VERSION

    found = environment(sandbox_url)
    headers = {"authorization": f"Bearer {found['HUB_STRIPE_API_KEY']}", "stripe-version": PINNED_VERSION}
    return httpx.AsyncClient(base_url=found["HUB_STRIPE_API_BASE"], headers=headers, timeout=30)


class _Shop:
    """Makes drafts of a few customers in turn."""

    def __init__(self, stripe: httpx.AsyncClient) -> None:
        self._stripe, self._customers, self._calls = stripe, list[str](), 0

    async def open(self) -> None:
        address = {f"address[{name}]": value for name, value in ADDRESS.items()}
        for n in range(CUSTOMERS):
            self._customers.append((await self._post("customers", name=f"Customer {n}", **address))["id"])

    async def draft(self, number: int) -> tuple[str, float]:
        """The invoice's id, and when its line was begun to be added (seconds since the epoch)."""
        customer = self._customers[number % CUSTOMERS]
        # It stays a draft: the sandbox's business runs through the hour after which it would be finalised.
        invoice = (await self._post("invoices", customer=customer, auto_advance="false", currency="usd"))["id"]
        at = time.time()
        await self._post(
            "invoiceitems", customer=customer, invoice=invoice, currency="usd", amount="12345", description="Work"
        )
        return invoice, at

    async def _post(self, path: str, **form: str) -> dict[str, Any]:
        self._calls += 1
        answer = await self._stripe.post(f"/v1/{path}", data=form, headers={"idempotency-key": f"bench-{self._calls}"})
        if answer.status_code != 200:
            raise BenchError(f"the sandbox's Stripe refused POST /v1/{path}: {answer.text[:300]}")
        made: dict[str, Any] = answer.json()
        return made


async def _offer(shop: _Shop, rate: float, seconds: float) -> dict[str, float]:
    """Invoice id -> when it was complete. The pace is kept whatever the answers take."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    tasks = []
    for number in range(max(1, round(rate * seconds))):
        await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
        tasks.append(asyncio.create_task(shop.draft(number)))
    return dict(await asyncio.gather(*tasks))


async def _waited(door: httpx.AsyncClient, began: Mapping[str, float]) -> list[float]:
    """Milliseconds per draft until Stripe's answer to the first write of its tax."""
    deadline = time.monotonic() + WAIT
    while True:
        answer = await door.get("/__sandbox/requests", params={"vendor": "stripe", "limit": 20_000}, timeout=30)
        found = written(answer.json()["requests"], began)
        if len(found) == len(began):
            return found
        if time.monotonic() > deadline:
            raise BenchError(f"{len(began) - len(found)} of {len(began)} drafts have no tax {WAIT:g} s after the last")
        await asyncio.sleep(0.5)


def written(requests: Sequence[Mapping[str, Any]], began: Mapping[str, float]) -> list[float]:
    """Milliseconds from each draft's beginning to the end of the first write of its tax that was taken."""
    ended: dict[str, float] = {}
    for request in requests:
        match = _WRITTEN.fullmatch(request["path"])
        if match and match[1] in began and request["status"] == 200 and request["duration"] is not None:
            ended.setdefault(match[1], request["started"] + request["duration"])
    return [(at - began[invoice]) * 1000 for invoice, at in ended.items()]
