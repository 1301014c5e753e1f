"""The benchmarks of latency, isolation, nodes and soak: their verdicts on made-up samples, their checks, and the
soak's smallest form. Those of the others need many processes: they are in tests/prove.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import orjson
import pytest

from hub import bench
from hub.bench import drift, endurance, intake, load, machine, scale, stand, trouble
from hub.bench.drafts import written
from hub.bench.drift import Drift, Rule
from hub.bench.endurance import Record
from hub.bench.engine import routed
from hub.bench.events import Maker
from hub.bench.gate import Gate
from hub.bench.ground import BenchError, Ground
from hub.bench.trouble import Fault, Pair
from hub.db import Database
from hub.model import DeliveryState
from tests import filling
from tests.filling import CRM, LAKE, LEDGER, NOW, execute, new_event

SLOW = pytest.mark.timeout(400)
MEMORY = Rule(0.05, 4.0, 60)
"""A twentieth of the median, or 4 MB; nothing is said of less than a minute."""

# Flat or not.


def over(seconds: int) -> list[float]:
    return [float(t) for t in range(0, seconds + 1, 5)]


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        pytest.param([100.0] * 41, True, id="constant"),
        pytest.param([100 + min(t, 100) for t in over(200)], True, id="warms up in the first half only"),
        pytest.param([100 + (t // 5) % 4 for t in over(200)], True, id="a sawtooth"),
        pytest.param([100.0] * 30 + [400.0] + [100.0] * 10, True, id="one odd sample"),
        pytest.param([300 - t for t in over(200)], True, id="shrinks"),
        # 0.2 MB a second for the 100 s of the second half are 20 MB; a twentieth of the median, 130 MB, is 6.5.
        pytest.param([100 + 0.2 * t for t in over(200)], False, id="leaks"),
        # 0.03 a second make 3 MB: more than nothing, less than the floor of 4.
        pytest.param([10 + 0.03 * t for t in over(200)], True, id="within the floor"),
        # A sawtooth with a leak: 0.1 a second make 10.
        pytest.param([100 + 0.1 * t + (t // 5) % 4 for t in over(200)], False, id="a sawtooth that rises"),
    ],
)
def test_what_does_not_grow_in_the_second_half_is_flat(values: list[float], flat: bool) -> None:
    assert drift.drift(over(200), values, MEMORY).flat is flat


def test_how_much_it_grew_and_how_much_was_allowed_is_said() -> None:
    found = drift.drift(over(200), [100 + 0.2 * t for t in over(200)], MEMORY)
    assert (found.grown, found.allowed) == (20.0, 6.5)


def test_of_a_run_that_was_too_short_nothing_is_said() -> None:
    assert drift.drift(over(100), [100 + t for t in over(100)], MEMORY).flat is None  # its half has 50 s
    assert drift.drift([0.0], [1.0], Rule(0, 0, 0)).flat is None
    assert drift.drift([], [], Rule(0, 0, 0)).flat is None


def test_a_soak_is_flat_only_if_every_figure_is() -> None:
    flat, grown, unsaid = Drift(0, 1, True), Drift(7.5, 4, False), Drift(9, 1, None)
    assert drift.verdict({"a": flat, "b": flat}) == "flat"
    assert drift.verdict({"a": flat, "b": grown, "c": unsaid}) == "not flat: b grew by 7.5 (4 allowed)"
    assert drift.verdict({"a": flat, "c": unsaid}) == "flat as far as it can be said; too short for c"
    assert drift.verdict({"c": unsaid}) == "too short to judge"


def test_a_queue_that_grows_is_not_flat_and_a_second_of_deliveries_is_no_growth() -> None:
    def judged(queue: list[float]) -> bool | None:
        record = Record()
        for t, n in zip(over(200), queue, strict=True):
            record.add(t, {"queue": n, "connections": 12, "dead_tuples lanes": 50 * t})
        found = endurance.judged(record, [[t, 5, 2.0, 9.0] for t in over(200)], rate=10)
        assert found["connections"].flat
        assert found["ack_p99"].flat
        assert "dead_tuples lanes" not in found, "shown, not judged: vacuuming comes when it comes"
        return found["queue"].flat

    # 10 events a second for four destinations: 40 deliveries more or less are a second's worth.
    assert judged([100 + 0.3 * t for t in over(200)])
    assert not judged([100 + t for t in over(200)])


def test_a_table_or_a_connection_that_grows_is_named() -> None:
    record = Record()
    for t in over(600):
        record.add(t, {"size lanes": 10 + 0.05 * t, "connections": 10 + t / 100, "files work": 30.0})
    found = endurance.judged(record, [], rate=10)
    assert {name: d.flat for name, d in found.items()} == {
        "size lanes": False, "connections": False, "files work": True, "ack_p99": None
    }  # fmt: skip


# Isolated or not.


def pairs(ratio: dict[tuple[Fault, str], list[float]], rounds: int = 3, samples: int = 100) -> list[Pair]:
    """Windows whose p99 is 200 ms without the fault, and with it 200 ms times the ratio (1 where nothing is said)."""

    def taken(p99: float) -> list[float]:
        return [50.0] * (samples - 2) + [p99] * 2

    return [
        Pair(
            fault,
            {name: taken(200.0) for name in trouble.OTHERS},
            {name: taken(200.0 * ratio.get((fault, name), [1.0] * rounds)[n]) for name in trouble.OTHERS},
            3.0 + n,
        )
        for n in range(rounds)
        for fault in trouble.FAULTS
    ]


def test_ten_per_cent_slower_is_isolated_and_more_is_not() -> None:
    assert trouble.OTHERS == ("salesforce", "avalara", "s3_lake")
    found = trouble.summary(pairs({("down", "avalara"): [1.09, 1.09, 1.09]}))
    assert found["verdict"] == "isolated"
    assert found["p99_ratio"]["down"] == {"salesforce": 1.0, "avalara": 1.09, "s3_lake": 1.0}
    assert found["quiet_p99_ms"]["s3_lake"] == 200.0
    assert found["recovery_s"] == {"down": 5.0, "hanging": 5.0, "limit": 5.0}
    found = trouble.summary(pairs({("hanging", "avalara"): [1.3, 1.0, 1.2]}))
    assert found["verdict"] == "not isolated: avalara with NetSuite hanging: 1.20"
    assert not bench.passed({"isolation": found})


def test_one_bad_round_of_three_is_the_machine() -> None:
    assert trouble.summary(pairs({("limit", "s3_lake"): [1.0, 9.0, 1.05]}))["verdict"] == "isolated"


@pytest.mark.parametrize(("rounds", "samples"), [(2, 100), (3, 99)])
def test_too_few_rounds_or_samples_are_not_judged(rounds: int, samples: int) -> None:
    found = trouble.summary(pairs({("down", "avalara"): [5.0] * 3}, rounds, samples))
    assert found["verdict"].startswith("too short to judge")
    assert bench.passed({"isolation": found})


# The gate.


async def test_a_gate_is_open_down_or_hanging() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    gate = Gate(server.sockets[0].getsockname()[1])

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"hello\n")
        return await asyncio.wait_for(reader.readline(), 0.3)

    writers = []
    try:
        await gate.set("open")
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writers.append(writer)
        assert await ask(reader, writer) == b"hello\n"
        await gate.set("hanging")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)  # cut
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writers.append(writer)
        with pytest.raises(TimeoutError):
            await ask(reader, writer)
        await gate.set("down")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gate.port)
        await gate.set("open")
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writers.append(writer)
        assert await ask(reader, writer) == b"hello\n"
    finally:
        await gate.close()
        for one in writers:
            one.close()
        server.close()
        await asyncio.sleep(0.01)


# How long it took.


async def test_a_superseded_delivery_is_confirmed_when_the_one_that_carries_it_is(db: Database, dsn: str) -> None:
    for n in range(3):
        event = new_event(f"evt_{n}", received_at=NOW + timedelta(seconds=n))
        await filling.accept(db, filling.routed(event, CRM))
    text = "UPDATE deliveries SET state = $2, superseded_by = $3, settled_at = $4, due_at = NULL WHERE id = $1"
    for id_, by, ms in ((1, 2, 100), (2, 3, 1200)):
        await execute(db, text, id_, "superseded", by, NOW + timedelta(milliseconds=ms))
    place = Ground(Path(), dsn, 0.0)
    everything = stand.Window(NOW, NOW + timedelta(seconds=3))
    with pytest.raises(BenchError, match="3 deliveries are still open"):
        await stand.confirmed(place, everything, (CRM,), limit=0)
    await execute(db, text, 3, "done", None, NOW + timedelta(seconds=5))
    assert sorted((await stand.confirmed(place, everything, (CRM,)))[CRM]) == [3000.0, 4000.0, 5000.0]
    two = stand.Window(NOW, NOW + timedelta(seconds=2))
    assert sorted((await stand.confirmed(place, two, (CRM,)))[CRM]) == [4000.0, 5000.0]
    with pytest.raises(BenchError, match=f"nothing was received for {LAKE}"):
        await stand.confirmed(place, two, (CRM, LAKE))


async def test_a_dead_letter_has_no_latency(db: Database, dsn: str) -> None:
    await filling.accept(db, filling.routed(new_event("evt_1"), LEDGER))
    await filling.finish(db, DeliveryState.DEAD, "reject")
    with pytest.raises(BenchError, match="netsuite is dead"):
        await stand.confirmed(
            Ground(Path(), dsn, 0.0), stand.Window(NOW, NOW + timedelta(seconds=1)), (LEDGER,), limit=0
        )


def test_a_drawn_distribution_has_a_point_for_each_percentile() -> None:
    points = stand.curve([float(n) for n in range(1000, 0, -1)])
    assert (len(points), points[0], points[50], points[99], points[100]) == (101, 1.0, 500.0, 990.0, 1000.0)


# The load.


def test_latencies_are_told_by_stretches_of_time() -> None:
    at = [-0.2, 0.1, 4.9, 5.0, 12.0]
    taken = [0.001, 0.002, 0.009, 0.004, 0.007]
    assert load.sliced(at, taken, 5.0) == [[0.0, 3, 2.0, 9.0], [5.0, 1, 4.0, 4.0], [10.0, 1, 7.0, 7.0]]


async def test_in_an_open_run_every_connection_has_its_turn() -> None:
    counts: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = len(counts)
        counts.append(0)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]))
                counts[mine] += 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = await load.measure(load.Plan(port, "t", 0.4, 0.0, 4, rate=100.0, prepare=50, slices=0.2), b"whsec_test")
    server.close()
    await asyncio.sleep(0.01)
    assert (found["trouble"], sum(counts)) == (None, 40)
    assert min(counts) >= 5, "a server closes a connection on which nothing comes"
    assert [n for _, n, _, _ in found["slices"]] == [20, 20]
    assert found["cpu_seconds"] > 0


# The checks of nodes and soak.


async def test_a_delivery_that_was_attempted_twice_spoils_the_figure(db: Database, dsn: str) -> None:
    run = scale.Run("slow", 1, 2, 0)
    maker = Maker("t", customers=2)
    await filling.accept(db, *(routed(maker.event(n), run.destination, NOW) for n in range(2)))
    place = Ground(Path(), dsn, 0.0)
    assert not await scale.over(place, run)
    await filling.finish(db, DeliveryState.DONE, destination=run.destination)
    assert await scale.over(place, run)
    await execute(
        db, "INSERT INTO attempts (delivery_id, claim, started_at, duration_ms, outcome) VALUES (1, 2, $1, 1, 'retry')",
        NOW,
    )  # fmt: skip
    with pytest.raises(BenchError, match="attempted up to 2 times"):
        await scale.over(place, run)


def test_what_more_processes_bring_is_the_ratio_of_the_medians() -> None:
    found = scale.compared("acks", {4: [30.0, 90.0, 40.0], 1: [10.0, 20.0, 30.0]})
    assert found == {"few_acks_per_s": 20.0, "many_acks_per_s": 40.0, "acks_times": 2.0}


async def test_a_soak_counts_what_was_acknowledged_against_what_is_stored(db: Database, dsn: str) -> None:
    event = filling.routed(new_event("evt_1"), *intake.DESTINATIONS)
    await filling.accept(db, event)
    place = Ground(Path(), dsn, 0.0)
    with pytest.raises(BenchError, match="2 events were acknowledged; stored are 1 with 4 deliveries"):
        await endurance.drained(place, 2)
    await filling.finish(db, DeliveryState.DEAD, "reject")
    with pytest.raises(BenchError, match="1 deliveries are dead: tax code 7 is unknown"):
        await endurance.drained(place, 1)


# What is written.


def made_up() -> dict[str, object]:
    return {
        "ingest": {"acks_per_s": 1, "curves": {"rate_p50_p99": [[250, 1.0, 3.0], [500, 2.0, 9.0]]}},
        "calls_per_1000_events": {"s3": 9.0},
        "latency": {"curves": {"salesforce": [float(n + 1) for n in range(101)]}},
        "growth": {"small": 10, "large": 20, "claim": {"small_ms": 1.0, "large_ms": 1.1, "ratio": 1.1}},
        "isolation": {
            "verdict": "isolated",
            "curves": {f: {d: [1.0, 1.05] for d in trouble.OTHERS} for f in trouble.FAULTS},
        },
        "nodes": {"curves": {"acks": {"1": [10.0], "2": [19.0]}}},
        "soak": {
            "verdict": "flat",
            "curves": {
                "at_s": [0.0, 5.0],
                "memory serve": [60.0, 61.0],
                "queue": [3.0, 4.0],
                "ack_slices": [[0.0, 9, 1.0, 2.0], [5.0, 9, 1.0, 2.0]],
            },
        },
    }


def test_everything_is_written_with_its_machine_and_its_curves(tmp_path: Path) -> None:
    now = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    written = bench.write(made_up(), tmp_path / "new", now)
    names = ["bench.json", "ingest.svg", "latency.svg", "growth.svg", "isolation.svg", "nodes.svg", "soak.svg"]
    assert [p.name for p in written] == names
    whole = orjson.loads(written[0].read_bytes())
    assert whole["machine"]["date"] == "2026-11-02T12:00:00Z"
    assert whole["machine"]["cores"] >= 1
    assert whole["machine"]["postgresql"][0].isdigit()
    assert whole["soak"]["curves"]["queue"] == [3.0, 4.0]
    for path in written[1:]:
        assert ET.fromstring(path.read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    assert "salesforce" in (tmp_path / "new" / "latency.svg").read_text()
    again = bench.write({"nodes": made_up()["nodes"]}, tmp_path / "again", now)
    assert again[1].read_bytes() == written[5].read_bytes(), "the same results, the same bytes"


def test_curves_are_for_files_not_for_the_table() -> None:
    table = bench.render(bench.without_curves(made_up()))
    growth = ["growth", "", "", "", ""]
    assert list(table.columns[0].cells) == ["ingest", "calls_per_1000_events", *growth, "isolation", "soak"]
    assert list(table.columns[2].cells) == ["1", "9.0", "10", "20", "1.0", "1.1", "1.1", "isolated", "flat"]
    assert bench.passed(made_up())
    assert not bench.passed({"soak": {"verdict": "not flat: queue grew by 9 (1 allowed)"}})


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    text = "import hub.bench, hub.app, hub.cli, sys; raise SystemExit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_the_processor_is_named() -> None:
    assert machine.cpu_model("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n") == "Fast CPU @ 3 GHz"
    assert machine.cpu_model("") != ""


# Tax on drafts.


def test_a_draft_has_its_tax_when_the_first_write_that_was_taken_is_answered() -> None:
    def request(path: str, started: float, duration: float | None, status: int | None = 200) -> dict[str, object]:
        return {"path": f"/v1/invoices/{path}", "started": started, "duration": duration, "status": status}

    requests = [
        request("in_1", 10.0, 0.5),  # something else
        request("in_1/update_lines", 11.0, 0.5, 500),
        request("in_1/update_lines", 12.0, 0.25),
        request("in_1/update_lines", 20.0, 0.25),  # again: too late to count
        request("in_2/update_lines", 12.0, None, None),  # under way
        request("in_9/update_lines", 12.0, 0.5),  # none of ours
    ]
    assert written(requests, {"in_1": 10.0, "in_2": 10.0}) == [2250.0]


# The smallest forms.


@SLOW
async def test_soak() -> None:
    found = (await bench.soak(6.0, rate=20.0))["soak"]
    assert found["events_per_s"] == 20.0
    assert found["samples"] >= 3
    judged = found["growth_of_second_half"]
    assert {"memory serve", "memory work", "connections", "size lanes", "bytes_per_row events", "queue"} < set(judged)
    # On a busy machine a queue may grow for six seconds; what takes longer to tell is not told.
    assert "memory" not in found["verdict"].partition("too short for")[0]
    at_the_end = found["at_the_end"]
    assert min(at_the_end["memory serve"], at_the_end["memory work"]) > 30
    assert at_the_end["connections"] >= 2
    assert at_the_end["bytes_per_row events"] > 2000  # the bodies alone are that long
    assert 0 < found["ack_p50_ms"] <= found["ack_p99_ms"]
    assert sum(n for _, n, _, _ in found["curves"]["ack_slices"]) == 120
