"""The benchmarks measure what they say: tiny runs of the real thing, and the load generator against bad servers."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub import bench, envelope, signature, store
from hub.bench import engine, events, intake, load, usage, vendor_calls
from hub.bench.bare import application
from hub.bench.ground import BenchError, Ground, ask, child, fetch, ground, percentile, ready
from hub.db import Database
from hub.mapping import FOLDER
from hub.mapping import load as load_mappings
from hub.routing import Router
from tests.conftest import Clock
from tests.serving import served

SECRET = b"whsec_test"
SLOW = pytest.mark.timeout(400)
"""Starts the real commands: seconds on a quiet machine, minutes on a busy one."""


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _ended(process: psutil.Process) -> bool:
    """A zombie has ended; whoever inherited it from us collects it when it likes."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# The load generator.


async def test_a_closed_run_counts_every_answer_once() -> None:
    seen: list[str] = []

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        signature.verify(body, request.headers["stripe-signature"], [SECRET], time.time())
        seen.append(orjson.loads(body)["id"])
        return PlainTextResponse("ok")

    with served(Starlette(routes=[Route(events.PATH, endpoint, methods=["POST"])])) as url:
        found = await load.measure(load.Plan(_port(url), "t", 0.3, 0.1, 4, prepare=10), SECRET)
    assert found["trouble"] is None
    assert found["acks"] == len(seen) == len(set(seen))
    assert 0 < found["measured"] < found["acks"]  # the warm-up was answered, but does not count
    assert found["per_s"] == pytest.approx(found["measured"] / 0.3)
    assert len(found["latencies_us"]) == found["measured"]


async def test_an_open_run_offers_its_rate_and_counts_a_stall_for_all_who_came_meanwhile() -> None:
    calls = 0

    async def stalls_once(request: Request) -> Response:
        nonlocal calls
        await request.body()
        calls += 1
        if calls == 20:
            time.sleep(0.4)  # noqa: ASYNC251 - the whole server stands still
        return PlainTextResponse("ok")

    with served(Starlette(routes=[Route(events.PATH, stalls_once, methods=["POST"])])) as url:
        found = await load.measure(load.Plan(_port(url), "t", 1.0, 0.0, 2, rate=200.0, prepare=200), SECRET)
    assert found["trouble"] is None
    assert found["acks"] == found["measured"] == 200  # one a 5 ms for 1 s, however slow the answers
    # 0.4 s of standing still make 80 requests late by up to 0.4 s: half of them by more than 0.2 s. Two
    # connections that only count from sending would have seen two slow answers.
    assert sum(taken > 150_000 for taken in found["latencies_us"]) >= 40


@pytest.mark.parametrize("status", [201, 400, 503])
async def test_any_answer_but_200_is_trouble(status: int) -> None:
    async def endpoint(_request: Request) -> Response:
        return PlainTextResponse("no", status_code=status)

    with served(Starlette(routes=[Route(events.PATH, endpoint, methods=["POST"])])) as url:
        found = await load.measure(load.Plan(_port(url), "t", 0.2, 0.0, 2, prepare=2), SECRET)
    assert f"HTTP/1.1 {status}" in found["trouble"]


async def test_a_connection_that_is_closed_is_trouble() -> None:
    async def slams_the_door(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})

    with served(slams_the_door) as url:
        found = await load.measure(load.Plan(_port(url), "t", 0.2, 0.0, 1, prepare=2), SECRET)
    assert found["trouble"] is not None


async def test_an_answer_in_pieces_is_one_answer() -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            await reader.readexactly(length)
            for piece in (b"HTTP/1.1 20", b"0 OK\r\ncontent-len", b"gth: 4\r\n\r\nfi", b"ne"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = await load.measure(load.Plan(port, "t", 0.2, 0.0, 1, rate=20.0, prepare=4), SECRET)
    await gone.wait()
    server.close()
    assert (found["trouble"], found["acks"]) == (None, 4)


async def test_the_bare_server_checks_the_signature() -> None:
    with served(application(SECRET)) as url:
        good = await load.measure(load.Plan(_port(url), "t", 0.1, 0.0, 1, prepare=5, again=True), SECRET)
        bad = await load.measure(load.Plan(_port(url), "t", 0.1, 0.0, 1, prepare=5), b"whsec_other")
    assert good["trouble"] is None
    assert good["acks"] > 5  # the same five were sent again
    assert "HTTP/1.1 500" in bad["trouble"]


# The events.


def test_events_are_unique_realistic_and_go_to_four_destinations(clock: Clock) -> None:
    maker = events.Maker("t", customers=3)
    bodies = [maker.event(n) for n in range(5)]
    assert all(1_500 < len(b) < 3_000 for b in bodies)
    decoded = [orjson.loads(b) for b in bodies]
    assert len({d["id"] for d in decoded}) == len({d["data"]["object"]["id"] for d in decoded}) == 5
    assert len({d["data"]["object"]["customer"] for d in decoded}) == 3
    invoice = decoded[0]["data"]["object"]
    assert sum(line["amount"] for line in invoice["lines"]["data"]) == invoice["total"] == 15000

    kinds = {"salesforce": "state", "netsuite": "ledger", "avalara": "ledger", "s3_lake": "log"}
    router = Router(kinds, load_mappings(FOLDER).routes(), frozenset(), livemode=False)  # type: ignore[arg-type]
    now = datetime.fromtimestamp(clock(), UTC)
    accepted = router.decide(envelope.read(bodies[0], now), now)
    assert sorted(r.destination for r in accepted.routes) == ["avalara", "netsuite", "s3_lake", "salesforce"]


def test_a_template_fills_every_hole() -> None:
    template = events.Template(b"a@event@b@invoice@c@event@")
    assert template.fill(b"1", b"2", b"", b"", b"") == b"a1b2c1"


def test_percentiles_are_nearest_rank() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0


# The ground.


async def test_the_ground_is_durable_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://production.example/hub")
    async with ground() as place:
        (row,) = await fetch(place.dsn, "SELECT current_setting('fsync') AS fsync, count(*) AS n FROM events")
        assert row == {"fsync": "on", "n": 0}
        assert place.fdatasync_ms > 0
        server = usage.postmaster(place.folder / "postgres")
        assert usage.cpu_seconds(server) > 0
        found = usage.memory_of(usage.family(server))
        assert found.rss >= found.pss >= found.uss > 1
    assert not place.folder.exists()
    assert _ended(server)


async def test_children_see_nothing_of_the_callers_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://production.example/hub")
    (tmp_path / "shows.py").write_text(
        "import json, os; print(json.dumps({'hub': [n for n in sorted(os.environ) if n.startswith('HUB_')]}))"
    )
    assert await ask("shows", env={"HUB_PORT": "1"}, folder=tmp_path, seconds=20) == {"hub": ["HUB_PORT"]}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit('out of luck')", "out of luck"),
        ("print('hello')", "no JSON"),
        ("print('[]')", "not an object"),
    ],
)
async def test_a_child_that_fails_is_named_with_its_words(tmp_path: Path, program: str, words: str) -> None:
    (tmp_path / "fails.py").write_text(program)
    with pytest.raises(BenchError, match=words):
        await ask("fails", env={}, folder=tmp_path, seconds=20)


async def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    with pytest.raises(BenchError, match="did not end within"):
        await ask("hangs", env={}, folder=tmp_path, seconds=0.3)


async def test_a_server_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("raise SystemExit('port taken')")
    with pytest.raises(BenchError, match="port taken"):
        async with child("ends", "ends", env={}, folder=tmp_path) as process:
            await ready("http://127.0.0.1:9/", process, tmp_path / "ends.log")


# The checks, and tiny runs of all.


async def test_what_is_stored_must_be_what_was_acknowledged(db: Database, dsn: str, clock: Clock) -> None:
    now = datetime.fromtimestamp(clock(), UTC)
    maker = events.Maker("t", customers=3)
    routed = [engine.routed(maker.event(n), "salesforce", now) for n in range(2)]
    await db.run(store.accept, routed, now)
    place = Ground(Path(), dsn, 0.0)
    with pytest.raises(BenchError, match="3 events were acknowledged, 2 are stored"):
        await intake.check(place, 3)
    with pytest.raises(BenchError, match=r"2 deliveries for 2 events to \['salesforce'\]"):
        await intake.check(place, 2)
    plan = engine.Plan(dsn, "", "mapped", 2, 2)
    with pytest.raises(BenchError, match=r"\(2, 0, 0, 2\)"):  # both were sent, the worker says; neither is done
        await engine.check(plan, {"sent": 2})


@SLOW
@pytest.mark.prove
async def test_ingest() -> None:
    found = (await bench.ingest(0.6, 8, rounds=1, warm=0.2))["ingest"]
    assert found["acks"] == found["events_stored"] > 300  # 500/s for 0.8 s alone
    assert found["deliveries_stored"] == 4 * found["acks"]
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert 0 < found["offered_500"]["p50_ms"] <= found["offered_500"]["p99_ms"]
    assert found["offered_500"]["per_s"] == pytest.approx(500, abs=5)
    assert found["ratio_to_bare"] == pytest.approx(found["acks_per_s"] / found["bare_asgi_per_s"], abs=0.01)
    assert min(found["hub_cpu_us_per_ack"], found["postgres_cpu_us_per_ack"]) > 0


@SLOW
@pytest.mark.prove
async def test_drain() -> None:
    found = (await bench.drain(120))["drain"]
    assert found["deliveries"] == 120
    assert min(found["deliveries_per_s"], found["ledger_per_s"], found["mapped_per_s"]) > 0


@SLOW
@pytest.mark.prove
async def test_memory() -> None:
    found = (await bench.memory(50, 0.3))["memory"]
    assert found["waiting"] == 52  # 13 events for four destinations each
    assert (
        50 < found["uss_mb"] <= found["pss_mb"] <= found["rss_mb"] < 1000
    )  # two Python processes with vendors' libraries
    assert found["postgres_rss_mb"] > 10


@SLOW
@pytest.mark.prove
async def test_calls() -> None:
    found = (await bench.calls(1))["calls_per_1000_events"]
    assert {"salesforce", "netsuite", "avalara", "s3"} <= set(found)
    assert found["netsuite"] > 0


def test_calls_are_divided_by_events() -> None:
    assert vendor_calls.per_thousand({"events": 400, "vendor_calls": {"b": 3, "a": 100}}) == {"a": 250.0, "b": 7.5}
    with pytest.raises(BenchError, match="no events"):
        vendor_calls.per_thousand({"events": 0, "vendor_calls": {}})


async def test_an_unknown_benchmark_is_named() -> None:
    with pytest.raises(BenchError, match=r"'ingset'.*ingest, drain, memory, calls"):
        await bench.run("ingset")


def test_the_table_shows_every_figure() -> None:
    table = bench.render(
        {
            "ingest": {"acks_per_s": 4000, "offered_500": {"p99_ms": 9.5}, "rounds": [1, 2]},
            "calls_per_1000_events": {"s3": 9.0},
        }
    )
    cells = [list(column.cells) for column in table.columns]
    assert cells == [
        ["ingest", "", "", "calls_per_1000_events"],
        ["acks_per_s", "offered_500 p99_ms", "rounds", "s3"],
        ["4,000", "9.5", "1, 2", "9.0"],
        ["/s", "ms", "", "calls per 1000 events"],
    ]
