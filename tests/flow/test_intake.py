"""The webhook endpoint: what is answered, what is stored, and that the two never disagree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from hub import metrics
from hub.db import Database
from hub.intake import Intake, Limits
from hub.routing import Router
from hub.signature import sign
from tests.conftest import Clock
from tests.engine import event, invoice

OLD, NEW = b"whsec_old", b"whsec_new"


ROUTER = Router(
    kinds={"stripe": "ledger", "netsuite": "ledger", "salesforce": "state", "s3_lake": "log"},
    types={"invoice.paid": frozenset({"netsuite", "salesforce"})},
    accounts=frozenset({"acct_ours"}),
    livemode=False,
)


@contextlib.asynccontextmanager
async def at(intake: Intake) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Route("/webhooks/stripe", intake, methods=["POST"])])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
        yield http


@pytest.fixture
async def client(db: Database, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    limits = Limits(body_bytes=4096, store_seconds=3)
    async with at(Intake(db, ROUTER, [OLD, NEW], clock, metrics.create(), limits)) as http:
        yield http


async def post(
    client: httpx.AsyncClient, clock: Clock, body: bytes, secret: bytes = NEW, age: int = 0
) -> httpx.Response:
    header = {"stripe-signature": sign(body, secret, int(clock()) - age)}
    return await client.post("/webhooks/stripe", content=body, headers=header)


async def stored(db: Database) -> list[dict[str, Any]]:
    return [dict(r) for r in await db.fetch_text("SELECT * FROM events ORDER BY seq")]


async def routes(db: Database) -> list[tuple[str, str]]:
    rows = await db.fetch_text("SELECT destination, lane FROM deliveries ORDER BY destination")
    return [(r["destination"], r["lane"]) for r in rows]


async def test_an_event_is_stored_as_received_with_its_deliveries_before_the_2xx(
    client: httpx.AsyncClient, clock: Clock, db: Database
) -> None:
    body = b'  {"note": "byte for byte \xc3\xa9", ' + orjson.dumps(event("evt_1", "invoice.paid", invoice("paid")))[1:]
    answer = await post(client, clock, body)
    assert (answer.status_code, answer.json()) == (200, {"received": True, "repeat": False})
    (row,) = await stored(db)
    assert (row["id"], row["disposition"], row["body"]) == ("evt_1", "routed", body)
    assert await routes(db) == [("netsuite", "cus_1"), ("s3_lake", "00"), ("salesforce", "cus_1")]


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_during_rotation_either_secret_is_good(client: httpx.AsyncClient, clock: Clock, secret: bytes) -> None:
    body = orjson.dumps(event("evt_1", "invoice.paid", invoice("paid")))
    assert (await post(client, clock, body, secret)).status_code == 200


async def test_a_repeat_is_2xx_and_changes_nothing(client: httpx.AsyncClient, clock: Clock, db: Database) -> None:
    body = orjson.dumps(event("evt_1", "invoice.paid", invoice("paid")))
    for repeat in (False, True, True):
        clock.advance(200_000)  # also days later
        answer = await post(client, clock, body)
        assert (answer.status_code, answer.json()["repeat"]) == (200, repeat)
    assert len(await stored(db)) == 1
    assert len(await routes(db)) == 3


async def test_sixty_at_once_with_repeats_are_each_stored_once(
    client: httpx.AsyncClient, clock: Clock, db: Database
) -> None:
    bodies = [orjson.dumps(event(f"evt_{i % 20}", "invoice.paid", invoice("paid"))) for i in range(60)]
    answers = await asyncio.gather(*(post(client, clock, b) for b in bodies))
    assert {a.status_code for a in answers} == {200}
    assert sum(not a.json()["repeat"] for a in answers) == 20
    assert sorted(r["id"] for r in await stored(db)) == sorted(f"evt_{i}" for i in range(20))
    assert len(await routes(db)) == 60


@pytest.mark.parametrize(
    ("change", "disposition", "destinations", "words"),
    [
        ({"type": "shiny.new"}, "unmapped", ["s3_lake"], "no mapping names shiny.new"),
        ({"data": {"object": {"object": "invoice"}}}, "unmapped", ["s3_lake"], "no id"),
        ({"api_version": "2020-08-27"}, "routed", ["netsuite", "s3_lake", "salesforce"], "2020-08-27"),
        ({"account": "acct_other"}, "other_account", [], "acct_other"),
        ({"account": "acct_ours"}, "routed", ["netsuite", "s3_lake", "salesforce"], ""),
        ({"livemode": True}, "other_mode", [], "live-mode"),
        ({"data": None, "created": "?"}, "unmapped", ["s3_lake"], "no id"),
    ],
)
async def test_a_signed_event_is_never_refused_and_the_decision_is_written_down(
    client: httpx.AsyncClient,
    clock: Clock,
    db: Database,
    change: dict[str, Any],
    disposition: str,
    destinations: list[str],
    words: str,
) -> None:
    body = orjson.dumps(event("evt_1", "invoice.paid", invoice("paid")) | change)
    assert (await post(client, clock, body)).status_code == 200
    (row,) = await stored(db)
    assert row["disposition"] == disposition
    assert words in (row["note"] or "")
    assert [d for d, _ in await routes(db)] == destinations


async def test_a_thin_notification_goes_to_be_fetched(client: httpx.AsyncClient, clock: Clock, db: Database) -> None:
    related = {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"}
    thin = event("evt_t", "v1.invoice.paid", {}) | {
        "object": "v2.core.event",
        "created": "2026-11-20T00:00:00Z",
        "related_object": related,
    }
    assert (await post(client, clock, orjson.dumps(thin))).status_code == 200
    assert await routes(db) == [("s3_lake", "00"), ("stripe", "in_1")]


@pytest.mark.parametrize(
    ("secret", "age", "code"), [(b"whsec_else", 0, "mismatch"), (NEW, 301, "stale"), (NEW, -301, "future")]
)
async def test_what_stripe_did_not_sign_just_now_leaves_no_trace(
    client: httpx.AsyncClient, clock: Clock, db: Database, secret: bytes, age: int, code: str
) -> None:
    answer = await post(client, clock, orjson.dumps(event("evt_1", "invoice.paid", invoice("paid"))), secret, age)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert await stored(db) == []
    assert await db.fetch_text("SELECT * FROM rejected_bodies") == []


@pytest.mark.parametrize("body", [b"\xff\xff", b"not json", b"[1]", b'{"id": 5}'])
async def test_a_signed_body_that_is_no_event_is_refused_and_kept(
    client: httpx.AsyncClient, clock: Clock, db: Database, body: bytes
) -> None:
    answer = await post(client, clock, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_an_event")
    (kept,) = await db.fetch_text("SELECT body, reason FROM rejected_bodies")
    assert kept["body"] == body
    assert kept["reason"] in answer.json()["error"]["message"]


async def test_a_body_over_the_limit_is_413_whether_it_says_so_or_not(
    client: httpx.AsyncClient, clock: Clock, db: Database
) -> None:
    body = b"x" * 4097
    assert (await post(client, clock, body)).status_code == 413

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000

    assert (await client.post("/webhooks/stripe", content=unannounced())).status_code == 413
    assert await stored(db) == []


async def test_a_database_that_is_away_is_503_so_that_stripe_sends_again(
    client: httpx.AsyncClient, clock: Clock, db: Database
) -> None:
    await db.close()
    answer = await post(client, clock, orjson.dumps(event("evt_1", "invoice.paid", invoice("paid"))))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "5"


async def test_a_body_that_does_not_arrive_is_408_in_time_and_leaves_nothing(db: Database, clock: Clock) -> None:
    intake = Intake(db, ROUTER, [NEW], clock, metrics.create(), Limits(body_seconds=0.1))
    body = orjson.dumps(event("evt_1", "invoice.paid", invoice("paid")))

    async def trickle() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(0.02)

    async with asyncio.timeout(3), at(intake) as slow:
        header = {"stripe-signature": sign(body, NEW, int(clock()))}
        answer = await slow.post("/webhooks/stripe", content=trickle(), headers=header)
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "slow_body")
        assert await stored(db) == []
        assert (await post(slow, clock, body)).json() == {"received": True, "repeat": False}, "and it may come again"


async def test_a_store_that_hangs_is_503_in_time_so_that_stripe_sends_again(
    db: Database, clock: Clock, dsn: str
) -> None:
    intake = Intake(db, ROUTER, [NEW], clock, metrics.create(), Limits(store_seconds=0.2))
    body = orjson.dumps(event("evt_1", "invoice.paid", invoice("paid")))
    rival = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(10), at(intake) as client:
            async with rival.transaction():
                await rival.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
                answer = await post(client, clock, body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert (await post(client, clock, body)).json() == {"received": True, "repeat": False}
    finally:
        await rival.close()
