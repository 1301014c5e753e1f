"""Two people press a button of the same dead letter at the same time, each at a web process of their own: one of them
wins, the other is told so, and the vendor sees one effect. Over HTTP on both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hub import api
from hub.db import Database
from hub.errors import Outcome, Receipt, Reject, Retry
from hub.model import ADOPT, Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, invoice
from tests.serving import served

TOKEN = "a-token-for-tests-of-24-characters"
ADMIN = {"authorization": f"Bearer {TOKEN}"}


class Vendor:
    """Books over HTTP. Refuses everything while `closed`; counts every write, also a repeated one."""

    def __init__(self) -> None:
        self.closed = False
        self.writes: list[str] = []
        self.app = Starlette(routes=[Route("/{key}", self._put, methods=["PUT"])])

    async def _put(self, request: Request) -> JSONResponse:
        if self.closed:
            return JSONResponse({"error": "period closed"}, 422)
        self.writes.append(request.path_params["key"])
        return JSONResponse({"id": str(len(self.writes))})


@pytest.fixture
def vendor() -> Iterator[tuple[Vendor, str]]:
    books = Vendor()
    with served(books.app) as url:
        yield books, url


@contextlib.asynccontextmanager
async def offices(dsn: str, clock: Clock, engine: Engine) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two web applications, each with a pool of its own, on one database."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            db = await Database.connect(dsn, size=2)
            stack.push_async_callback(db.close)
            app = Starlette(routes=api.routes(db, clock, TOKEN, engine.mappings))
            transport = httpx.ASGITransport(app)
            client = httpx.AsyncClient(transport=transport, base_url="http://hub", headers=ADMIN)
            clients.append(await stack.enter_async_context(client))
        yield clients


@pytest.fixture
async def engine(
    db: Database, clock: Clock, tmp_path: Path, vendor: tuple[Vendor, str]
) -> AsyncIterator[tuple[Engine, Vendor]]:
    """A ledger whose invoice is dead and holds the next step; the vendor is well again."""
    books, url = vendor
    engine = build(db, clock, tmp_path, "ledger")
    async with httpx.AsyncClient(base_url=url) as http:
        _speak(engine, http)
        await engine.accept(event("evt_c", "customer.created", customer(), 1_788_999_000))
        await engine.drain()
        books.closed = True
        await engine.accept(
            event("evt_1", "invoice.finalized", invoice("open")),
            event("evt_2", "invoice.paid", invoice("paid"), 1_789_000_010),
        )
        await engine.drain()
        assert await engine.states() == ["done", "dead", "held"]
        books.closed = False
        books.writes.clear()
        yield engine, books


def _speak(engine: Engine, http: httpx.AsyncClient) -> None:
    """The destination writes every record by its key, one after the other."""

    async def write(job: Job) -> Outcome:
        links = []
        for record in job.records:
            if record.action == ADOPT:
                continue
            reply = await http.put(f"/{record.key}")
            if reply.status_code != 200:
                return Reject("period_closed", "the books are closed", "reopen them")
            id_ = reply.json()["id"]
            links.append(record.link_to(id_))
        return Receipt(tuple(links)) if links else Retry("nothing", "nothing was to be written")

    async def send(jobs: Any) -> list[Outcome]:
        return [await write(job) for job in jobs]

    engine.destination.send = send  # type: ignore[method-assign]


async def press(client: httpx.AsyncClient, verb: str, id_: int = 2) -> tuple[str, int, Mapping[str, Any]]:
    bodies = {"skip": {"reason": "not wanted"}, "link": {"vendor_id": "647", "reason": "booked by hand"}, "retry": {}}
    answer = await client.post(f"/api/v1/deliveries/{id_}/{verb}", json=bodies[verb])
    return verb, answer.status_code, answer.json()


@pytest.mark.parametrize("round_", range(3))
async def test_retry_pressed_twice_at_once_has_one_effect_and_the_second_is_told(
    engine: tuple[Engine, Vendor], dsn: str, clock: Clock, round_: int
) -> None:
    hub, books = engine
    async with offices(dsn, clock, hub) as (one, other):
        answers = await asyncio.gather(press(one, "retry"), press(other, "retry"))
        assert sorted(status for _, status, _ in answers) == [200, 409]
        refused = next(body for _, status, body in answers if status == 409)["error"]
        assert refused["code"] == "already_due"
        assert "someone retried it a moment ago" in refused["message"]
        await hub.drain()
        assert await hub.states() == ["done"] * 3
        assert books.writes == ["k_in_1"], "the step behind it finds the record as wanted already"
        _, status, body = await press(other, "retry")
        assert (status, body["error"]["code"]) == (409, "already_done")


@pytest.mark.parametrize("pair", [("skip", "skip"), ("link", "link"), ("skip", "link")], ids="+".join)
async def test_two_buttons_that_settle_it_at_once_settle_it_once(
    engine: tuple[Engine, Vendor], dsn: str, clock: Clock, pair: tuple[str, str]
) -> None:
    hub, books = engine
    async with offices(dsn, clock, hub) as (one, other):
        answers = await asyncio.gather(press(one, pair[0]), press(other, pair[1]))
        assert sorted(status for _, status, _ in answers) == [200, 409]
        (won,) = [verb for verb, status, _ in answers if status == 200]
        refused = next(body for _, status, body in answers if status == 409)["error"]
        assert refused["code"] == ("already_done" if won == "link" else "already_skipped")
        assert ("booked by hand" if won == "link" else "not wanted") in refused["message"], (
            "who lost reads what was done"
        )
        await hub.drain()
        assert await hub.states() == ["done", "done" if won == "link" else "skipped", "done"]
        assert books.writes == ["k_in_1"], "the next step, once"


@pytest.mark.parametrize("other_verb", ["skip", "link"])
async def test_a_retry_and_a_button_that_settles_it_at_once_leave_one_answer(
    engine: tuple[Engine, Vendor], dsn: str, clock: Clock, other_verb: str
) -> None:
    """Retry first: it is open again, and is then settled all the same. The other first: the retry is told so."""
    hub, books = engine
    async with offices(dsn, clock, hub) as (one, other):
        answers = await asyncio.gather(press(one, "retry"), press(other, other_verb))
        (_, settled, _) = answers[1]
        assert settled == 200
        if answers[0][1] != 200:
            assert answers[0][2]["error"]["code"] in ("already_done", "already_skipped")
        await hub.drain()
        assert await hub.states() == ["done", "skipped" if other_verb == "skip" else "done", "done"]
        attempts = await hub.db.fetch_text("SELECT delivery_id FROM attempts WHERE started_at >= $1 AND outcome = $2",
                                           datetime.fromtimestamp(clock(), UTC), "receipt")  # fmt: skip
        assert 2 not in [a["delivery_id"] for a in attempts]
        assert books.writes == ["k_in_1"]
