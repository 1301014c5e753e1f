"""The whole sandbox: five vendors under one address, reached by the real connectors; webhooks leave by themselves."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import stripe
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.sandbox.app import create
from connectors.sandbox.environment import VENDORS, environment
from connectors.sandbox.traffic import Webhooks
from connectors.stripe.sandbox_env import WEBHOOK_SECRET
from tests.serving import served

CONNECTORS = {
    "stripe": ("stripe", "StripeSettings"),
    "salesforce": ("salesforce", "SalesforceSettings"),
    "netsuite": ("netsuite", "NetSuiteSettings"),
    "avalara": ("avalara", "AvalaraSettings"),
    "s3": ("s3_lake", "S3LakeSettings"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(create(seed=7, clock=time.time)) as address:
        yield address


@pytest.mark.parametrize("vendor", VENDORS)
async def test_each_connector_reaches_its_vendor(url: str, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)
    folder, table = CONNECTORS[vendor]
    settings = getattr(importlib.import_module(f"connectors.{folder}.settings"), table)()
    destination = importlib.import_module(f"connectors.{folder}.destination").create(settings)
    try:
        assert await destination.ping()
    finally:
        await destination.close()
    assert count(url, vendor) >= 1


def count(url: str, vendor: str) -> int:
    answer = httpx.get(f"{url}/__sandbox/requests", params={"vendor": vendor}, timeout=30).json()
    return int(answer["vendors"][vendor]["requests"])


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_vendor_is_strict_refuses_and_shows_its_state(url: str, vendor: str) -> None:
    state = httpx.get(f"{url}/__sandbox/state/{vendor}", timeout=30)
    assert state.status_code == 200
    assert isinstance(state.json(), dict)
    assert httpx.get(f"{url}/{vendor}/no/such/path", timeout=30).status_code >= 400
    for kind in ("limit", "expired"):
        fault = {"vendor": vendor, "match": {"path_regex": "^/x$"}, "action": {"kind": kind}}
        httpx.post(f"{url}/__sandbox/faults", json=fault, timeout=30).raise_for_status()
        assert httpx.get(f"{url}/{vendor}/x", timeout=30).status_code in (400, 401, 403, 429, 503)


def test_the_environment_is_complete_and_names_each_vendor_once() -> None:
    found = environment("http://127.0.0.1:9700/")
    assert all(name.startswith("HUB_") for name in found)
    addresses = {value for value in found.values() if value.startswith("http")}
    assert addresses == {f"http://127.0.0.1:9700/{vendor}" for vendor in VENDORS}


def test_the_environment_is_light() -> None:
    code = (
        "import sys; from connectors.sandbox.environment import environment; environment('http://127.0.0.1:1');"
        "heavy = ('moto', 'boto3', 'stripe', 'pyarrow', 'starlette', 'simple_salesforce');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


class Receiver:
    """A webhook endpoint that checks signatures with Stripe's library."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.arrived = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        signature = request.headers["stripe-signature"]
        stripe.WebhookSignature.verify_header(body.decode(), signature, WEBHOOK_SECRET, 300)
        self.events.append(await request.json())
        self.loop.call_soon_threadsafe(self.arrived.set)
        await Response(status_code=204)(scope, receive, send)


async def test_webhooks_leave_by_themselves_while_the_sandbox_lives() -> None:
    receiver = Receiver()
    with served(receiver) as target:
        sandbox = create(seed=7, clock=time.time, webhooks=Webhooks(f"{target}/in", WEBHOOK_SECRET, duplicates=1.0))
        async with (
            sandbox.router.lifespan_context(sandbox),
            httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox") as http,
        ):
            sent = (await http.post("/__sandbox/stripe/emit", json={"type": "invoice.paid"})).json()["emitted"]
            async with asyncio.timeout(20):
                while len(receiver.events) < 2:
                    receiver.arrived.clear()
                    await receiver.arrived.wait()
            index = (await http.get("/__sandbox/")).json()
    assert [event["id"] for event in receiver.events] == [sent["id"], sent["id"]]
    assert index["background"] == {"webhooks": "running"}
    assert index["webhooks"][0]["events"] == 1
    assert index["webhooks"][0]["duplicates_sent"] == 1


async def test_business_goes_on_by_itself_while_the_sandbox_lives() -> None:
    sandbox = create(seed=7, clock=time.time, business_rate=200.0)
    enough, customers = asyncio.Event(), set()

    def hear(event: dict[str, Any]) -> None:
        if event["type"] == "customer.created":
            customers.add(event["data"]["object"]["id"])
            if len(customers) >= 3:
                enough.set()

    simulator: Any = sandbox.simulators["stripe"]
    simulator.listen(hear)
    async with (
        sandbox.router.lifespan_context(sandbox),
        httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox") as http,
        asyncio.timeout(20),
    ):
        await enough.wait()
        customers.clear()
        enough.clear()
        await http.post("/__sandbox/reset")
        await enough.wait()  # and it begins again after a reset
        assert (await http.get("/__sandbox/")).json()["background"] == {"business": "running"}
