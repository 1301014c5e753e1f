"""What is found, in which order and page by page; and that finding it does not read the whole history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from hub import operate, search
from hub.db import SQL, Connection, Database
from hub.model import DeliveryState, Disposition, EventKind
from hub.search import DeliveryFilter, EventFilter, Page
from hub.store import Accepted
from tests.filling import (
    CRM,
    LAKE,
    LEDGER,
    NOW,
    accept,
    claim,
    execute,
    finish,
    link,
    new_event,
    register,
    routed,
    settle,
    settlement,
)

LATER = NOW + timedelta(hours=2)


async def ids(db: Database, **where: Any) -> list[str]:
    """Ids of the events a filter finds."""
    page = await db.run(search.reading, search.events, EventFilter(**where))
    return [e["id"] for e in page.items]


async def delivery_ids(db: Database, *states: DeliveryState, **where: Any) -> list[int]:
    page = await db.run(search.reading, search.deliveries, DeliveryFilter(states, **where))
    return [d["id"] for d in page.items]


async def walk(fetch: Callable[[int | None], Awaitable[Page]]) -> list[list[Any]]:
    """All pages of a list, as the ids on them."""
    pages: list[list[Any]] = []
    after: int | None = None
    while True:
        page = await fetch(after)
        pages.append([row["id"] for row in page.items])
        after = page.next
        if after is None:
            return pages


@pytest.fixture
async def mixed(db: Database) -> Database:
    """Events of every sort: 1 and 2 of in_1, 3 of another customer, 4 unmapped, 5 thin, 6 a read."""
    day = timedelta(days=1)
    thin = new_event("evt_5", kind=EventKind.THIN, type="v1.billing.meter.no_meter_found", object_id="mtr_1")
    read = new_event("read:in_1:1", kind=EventKind.READ, type="invoice.read", received_at=NOW + 2 * day)
    await accept(
        db,
        routed(new_event("evt_1", received_at=NOW - 2 * day), LEDGER, CRM),
        routed(new_event("evt_2", type="invoice.voided", received_at=NOW - day), LEDGER, CRM),
        routed(new_event("evt_3", object_id="in_3", customer_id="cus_3"), LEDGER),
        Accepted(
            new_event("evt_4", type="x.y", object_id=None, customer_id=None), Disposition.UNMAPPED, "no mapping", ()
        ),
        routed(thin, LAKE),
        Accepted(read, Disposition.READ, "read by the hub", ()),
    )
    return db


async def test_events_come_newest_first_without_bodies(mixed: Database) -> None:
    page = await mixed.run(search.events, EventFilter())
    assert [e["id"] for e in page.items] == ["read:in_1:1", "evt_5", "evt_4", "evt_3", "evt_2", "evt_1"]
    assert page.next is None
    assert page.items[-1] == {
        "seq": 1,
        "id": "evt_1",
        "kind": "snapshot",
        "type": "invoice.paid",
        "account": None,
        "api_version": "2026-10-28.endive",
        "livemode": False,
        "object_type": "invoice",
        "object_id": "in_1",
        "customer_id": "cus_1",
        "created": NOW - timedelta(seconds=60),
        "received_at": NOW - timedelta(days=2),
        "disposition": "routed",
        "note": None,
    }


async def test_events_by_what_is_asked(mixed: Database) -> None:
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"type": "invoice.voided"}, ["evt_2"]),
        ({"type": "invoice"}, []),
        ({"object": "in_1"}, ["read:in_1:1", "evt_2", "evt_1"]),
        ({"customer": "cus_3"}, ["evt_3"]),
        ({"disposition": Disposition.UNMAPPED}, ["evt_4"]),
        ({"kind": EventKind.THIN}, ["evt_5"]),
        ({"since": NOW}, ["read:in_1:1", "evt_5", "evt_4", "evt_3"]),
        ({"until": NOW}, ["evt_2", "evt_1"]),
        ({"since": NOW - timedelta(days=1), "until": NOW}, ["evt_2"]),
        ({"object": "in_1", "kind": EventKind.SNAPSHOT, "type": "invoice.paid"}, ["evt_1"]),
        ({"object": "' OR true --"}, []),
    ]
    for where, found in cases:
        assert await ids(mixed, **where) == found, where


EVERY = ["evt_1 netsuite", "evt_1 salesforce", "evt_2 netsuite", "evt_2 salesforce", "evt_3 netsuite", "evt_5 s3_lake"]


async def test_deliveries_by_what_is_asked(mixed: Database) -> None:
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, EVERY),
        ({"destination": CRM}, ["evt_1 salesforce", "evt_2 salesforce"]),
        ({"object": "in_1"}, EVERY[:4]),
        ({"object": "in_1", "destination": LEDGER}, ["evt_1 netsuite", "evt_2 netsuite"]),
        ({"event": "evt_2"}, ["evt_2 netsuite", "evt_2 salesforce"]),
        ({"event": "evt_nowhere"}, []),
        ({"object": "in_nowhere"}, []),
    ]
    for where, found in cases:
        page = await mixed.run(search.deliveries, DeliveryFilter(**where))
        assert sorted(f"{d['event']['id']} {d['destination']}" for d in page.items) == found, where
        numbers = [d["id"] for d in page.items]
        assert numbers == sorted(numbers, reverse=True)


async def test_deliveries_by_state(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i}", object_id=f"in_{i}"), LEDGER) for i in range(1, 9)))
    (lane,) = await claim(db)
    first, second, third, fourth, fifth, sixth = lane.deliveries[:6]
    await settle(
        db,
        [],
        settlement(first, DeliveryState.DONE),
        settlement(second, DeliveryState.SUPERSEDED, superseded_by=first.id),
        settlement(third, DeliveryState.DEAD),
        settlement(fifth, DeliveryState.UNKNOWN, due_at=LATER),
        settlement(sixth, DeliveryState.WAITING, due_at=LATER),
    )
    await settle(db, [], settlement(fourth, DeliveryState.HELD, held_by=third.id))
    await execute(
        db, "UPDATE deliveries SET state = 'skipped', note = 'x', settled_at = $1, lease_until = NULL WHERE id = 8", NOW
    )
    by_state = {s: await delivery_ids(db, s) for s in DeliveryState}
    assert by_state == {
        DeliveryState.DONE: [1],
        DeliveryState.SUPERSEDED: [2],
        DeliveryState.DEAD: [3],
        DeliveryState.HELD: [4],
        DeliveryState.UNKNOWN: [5],
        DeliveryState.WAITING: [6],
        DeliveryState.CLAIMED: [7],
        DeliveryState.SKIPPED: [8],
    }
    assert await delivery_ids(db, DeliveryState.DEAD, DeliveryState.HELD, DeliveryState.DONE) == [4, 3, 1]


async def test_an_object_without_an_id_is_found_by_its_event(db: Database) -> None:
    await accept(db, routed(new_event("evt_1", object_id=None, type="invoice.upcoming"), LEDGER))
    (found,) = (await db.run(search.deliveries, DeliveryFilter(object="evt_1"))).items
    assert (found["id"], found["object_id"]) == (1, "evt_1")


async def test_pages_show_everything_once_even_while_more_arrives(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i:02}", object_id=f"in_{i}"), LEDGER) for i in range(10)))
    late = iter([f"evt_late_{i}" for i in range(10)])

    async def page(after: int | None) -> Page:
        found = await db.run(search.events, EventFilter(), 4, after)
        await accept(db, routed(new_event(next(late)), LEDGER))
        return found

    assert await walk(page) == [
        ["evt_09", "evt_08", "evt_07", "evt_06"],
        ["evt_05", "evt_04", "evt_03", "evt_02"],
        ["evt_01", "evt_00"],
    ]


async def test_a_page_that_ends_exactly_with_the_list_is_the_last(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i}"), LEDGER) for i in range(4)))
    assert await walk(lambda after: db.run(search.deliveries, DeliveryFilter(), 2, after)) == [[4, 3], [2, 1]]
    await execute(
        db,
        "INSERT INTO rejected_bodies (received_at, reason, body) SELECT $1, 'x', 'abc' FROM generate_series(1, 3)",
        NOW,
    )
    assert await walk(lambda after: db.run(search.rejected_bodies, 1, after)) == [[3], [2], [1]]


async def test_a_dead_letter_says_how_many_it_holds(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i}"), LEDGER) for i in range(4)))
    await accept(db, routed(new_event("evt_other", customer_id="cus_2", object_id="in_2"), LEDGER))
    await accept(db, routed(new_event("evt_crm"), CRM))
    claims = await claim(db)
    deliveries = sorted((d for c in claims for d in c.deliveries), key=lambda d: d.id)
    await settle(
        db,
        claims,
        settlement(deliveries[0], DeliveryState.DEAD, "reject"),
        settlement(deliveries[4], DeliveryState.DEAD, "reject", code="budget_used_up"),
    )
    await settle(db, [], *(settlement(d, DeliveryState.HELD, held_by=1) for d in deliveries[1:4]))
    await finish(db, DeliveryState.DEAD, "reject", destination=CRM)

    page = await db.run(search.dead_letters, LEDGER)

    shown = [(d["id"], d["code"], d["cause"], d["fix"], d["holds"], d["event"]["id"]) for d in page.items]
    cause, fix = "tax code 7 is unknown", "add it to the lookup, then retry"
    assert shown == [(5, "budget_used_up", cause, fix, 0, "evt_other"), (1, "tax_code", cause, fix, 3, "evt_0")]
    assert [d["id"] for d in (await db.run(search.dead_letters)).items] == [6, 5, 1]
    detail = await db.run(search.delivery, 1)
    assert detail is not None
    assert detail["holds"] == 3


async def test_a_delivery_shows_its_attempts_newest_first_and_the_links_there(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await finish(db, DeliveryState.WAITING, "retry", due_at=NOW, code="busy", cause="try later")
    (lane,) = claims = await claim(db)
    await settle(
        db, claims, settlement(lane.deliveries[0], DeliveryState.DONE, links=(link(), link("cus_1", "customer")))
    )
    await execute(
        db,
        "INSERT INTO links SELECT 'salesforce', object_id, record, key, vendor_id, digest, mapping, status, linked_at"
        " FROM links",
    )
    found = await db.run(search.delivery, 1)
    assert found is not None
    assert [(a["outcome"], a["claim"], a["answer"]) for a in found["attempts"]] == [
        ("receipt", 2, {"field": "taxcode"}),
        ("retry", 1, {"field": "taxcode"}),
    ]
    assert (found["state"], found["claims"], found["attempts_total"], found["holds"]) == ("done", 2, 2, 0)
    assert [(k["destination"], k["object_id"], k["vendor_id"]) for k in found["links"]] == [(LEDGER, "in_1", "4711")]
    assert await db.run(search.delivery, 2) is None


async def test_a_delivery_of_a_batch_shows_the_batchs_attempts(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i}"), LAKE) for i in range(3)))
    await execute(
        db,
        "INSERT INTO batches (destination, lane, received_date, first_seq, last_seq, rows, sealed_at)"
        " VALUES ('s3_lake', 'cus_1', '2026-09-21', 1, 2, 2, $1)",
        NOW,
    )
    await execute(db, "UPDATE deliveries SET batch_id = 1 WHERE id < 3")
    await execute(
        db,
        "INSERT INTO attempts (batch_id, claim, started_at, duration_ms, outcome)"
        " SELECT 1, n, $1, 5, 'retry' FROM generate_series(1, 3) n",
        NOW,
    )
    history = await db.run(search.history, "in_1")
    assert history is not None
    attempts = {d["id"]: [a["claim"] for a in d["attempts"]] for d in history["deliveries"]}
    assert attempts == {1: [3, 2, 1], 2: [3, 2, 1], 3: []}


async def test_of_many_attempts_the_newest_are_shown_and_all_are_counted(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    await execute(
        db,
        "INSERT INTO attempts (delivery_id, claim, started_at, duration_ms, outcome)"
        " SELECT 1, n, $1, 5, 'defer' FROM generate_series(1, 250) n",
        NOW,
    )
    found = await db.run(search.delivery, 1)
    assert found is not None
    assert (len(found["attempts"]), found["attempts"][0]["claim"], found["attempts_total"]) == (200, 250, 250)
    history = await db.run(search.history, "in_1")
    assert history is not None
    (shown,) = history["deliveries"]
    assert (len(shown["attempts"]), shown["attempts"][-1]["claim"], shown["attempts_total"]) == (20, 231, 250)


async def test_the_story_of_an_object_is_all_of_it_and_nothing_else(mixed: Database) -> None:
    for name, kind in ((LEDGER, "ledger"), (CRM, "state"), (LAKE, "log")):
        await register(mixed, name, kind)
    (lane,) = claims = [c for c in await claim(mixed) if c.lane == "cus_1"]
    first, second = lane.deliveries
    await settle(
        mixed,
        claims,
        settlement(first, DeliveryState.DONE, links=(link(), link("cus_1", "customer"))),
        settlement(second, DeliveryState.DEAD, "reject"),
    )
    found = await mixed.run(search.history, "in_1")
    assert found is not None
    assert [e["id"] for e in found["events"]] == ["read:in_1:1", "evt_2", "evt_1"]
    assert found["events_left_off"] is False
    shown = sorted((d["destination"], d["state"], d["attempts_total"]) for d in found["deliveries"])
    assert shown == [
        (LEDGER, "dead", 1),
        (LEDGER, "done", 1),
        (CRM, "waiting", 0),
        (CRM, "waiting", 0),
    ]
    assert [(k["destination"], k["record"]) for k in found["links"]] == [(LEDGER, "invoice")]
    only_linked = await mixed.run(search.history, "cus_1")
    assert only_linked is not None
    assert (only_linked["events"], len(only_linked["links"])) == ([], 1)
    assert await mixed.run(search.history, "in_nowhere") is None


async def test_a_long_story_says_what_it_left_off(db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i:03}"), LEDGER) for i in range(501)))
    found = await db.run(search.history, "in_1")
    assert found is not None
    assert (len(found["events"]), found["events"][-1]["id"], found["events_left_off"]) == (500, "evt_001", True)


async def test_an_event_has_its_bytes_and_its_deliveries(mixed: Database) -> None:
    found = await mixed.run(search.event, "evt_2")
    assert found is not None
    assert found["body"] == new_event("evt_2", type="invoice.voided").body
    assert sorted(d["destination"] for d in found["deliveries"]) == [LEDGER, CRM]
    assert await mixed.run(search.event, "evt_nowhere") is None


async def test_destinations_show_their_pause_and_what_is_open(db: Database) -> None:
    await register(db, LEDGER, "ledger")
    await register(db, CRM, "state")
    await register(db, LAKE, "log", "HUB_S3_LAKE_BUCKET: is missing")
    old = NOW - timedelta(hours=5)
    await accept(db, routed(new_event("evt_1"), LEDGER), now=old)
    await finish(db, DeliveryState.DEAD, "reject")
    await accept(db, routed(new_event("evt_2", object_id="in_2"), LEDGER, due_at=LATER), now=NOW - timedelta(hours=1))
    await db.fetch("pause_by_hub", CRM, LATER, "daily limit reached")

    shown = await db.run(search.reading, search.destinations, NOW)

    nothing = {"waiting": 0, "claimed": 0, "unknown": 0, "held": 0, "dead": 0}
    assert shown == [
        {
            "name": LEDGER,
            "kind": "ledger",
            "paused": False,
            "paused_until": None,
            "reason": None,
            "paused_by": None,
            "circuit": "closed",
            "share": 1.0,
            "open": nothing | {"waiting": 1, "dead": 1},
            "oldest_open_seconds": 3600.0,
            "next_due_at": LATER,
        },
        {
            "name": LAKE,
            "kind": "log",
            "paused": True,
            "paused_until": "until resumed",
            "reason": "HUB_S3_LAKE_BUCKET: is missing",
            "paused_by": "settings",
            "circuit": "closed",
            "share": 1.0,
            "open": nothing,
            "oldest_open_seconds": None,
            "next_due_at": None,
        },
        {
            "name": CRM,
            "kind": "state",
            "paused": True,
            "paused_until": LATER,
            "reason": "daily limit reached",
            "paused_by": "hub",
            "circuit": "closed",
            "share": 1.0,
            "open": nothing,
            "oldest_open_seconds": None,
            "next_due_at": None,
        },
    ]
    after = {d["name"]: d for d in await db.run(search.destinations, LATER)}
    assert (after[CRM]["paused"], after[CRM]["paused_until"], after[CRM]["reason"]) == (False, None, None)


async def test_counts(mixed: Database) -> None:
    await finish(mixed, DeliveryState.DONE)
    assert await mixed.run(search.counts) == {
        "about": False,
        "events": {
            "total": 6,
            "by_disposition": {"routed": 4, "unmapped": 1, "other_account": 0, "other_mode": 0, "read": 1},
            "by_kind": {"snapshot": 4, "thin": 1, "read": 1},
        },
        "deliveries": {
            name: dict.fromkeys([s.value for s in DeliveryState], 0) | states
            for name, states in ((LEDGER, {"done": 3}), (LAKE, {"waiting": 1}), (CRM, {"waiting": 2}))
        },
    }


async def test_a_destination_is_known_by_registration_or_by_what_it_was_sent(db: Database) -> None:
    await register(db, CRM, "state")
    await accept(db, routed(new_event("evt_1"), LEDGER))
    assert [await db.run(search.destination_is_known, n) for n in (CRM, LEDGER, LAKE)] == [True, True, False]


async def test_a_reading_can_neither_write_nor_run_for_ever(db: Database) -> None:
    await accept(db, routed(new_event("evt_1"), LEDGER))
    with pytest.raises(asyncpg.exceptions.ReadOnlySQLTransactionError):
        await db.run(search.reading, operate.skip, 1, "x", NOW)
    with pytest.raises(asyncpg.exceptions.QueryCanceledError):
        await db.run(_slowly)
    await db.run(operate.skip, 1, "x", NOW)


async def _slowly(connection: Connection[Any]) -> None:
    await connection.fetch(SQL["guard_reading"], "20")
    await connection.fetch("SELECT pg_sleep(20)")


@pytest.fixture
async def crowded(db: Database) -> Database:
    """20,000 events of 4,000 invoices, each with a delivery; nearly all are done."""
    await execute(
        db,
        "INSERT INTO events (id, kind, type, object_type, object_id, customer_id, rank, created, received_at,"
        " disposition, body)"
        " SELECT 'evt_' || n, 'snapshot', 'invoice.paid', 'invoice', 'in_' || n % 4000, 'cus_' || n % 1000, 0, $1, $1,"
        " 'routed', convert_to(repeat('x', 300), 'UTF8') FROM generate_series(1, 20000) n",
        NOW,
    )
    await execute(
        db,
        "INSERT INTO deliveries (event_seq, destination, lane, object_id, state, settled_at, created_at, code, cause,"
        " fix)"
        " SELECT seq, 'netsuite', customer_id, object_id, CASE WHEN seq % 1000 = 0 THEN 'dead' ELSE 'done' END, $1, $1,"
        " 'c', 'c', 'f' FROM events",
        NOW,
    )
    await execute(
        db,
        "INSERT INTO attempts (delivery_id, claim, started_at, duration_ms, outcome)"
        " SELECT id, 1, $1, 5, 'receipt' FROM deliveries",
        NOW,
    )
    await execute(
        db,
        "INSERT INTO links SELECT 'netsuite', 'in_' || n, 'invoice', 'k', 'v', 'd', 'm', NULL, $1"
        " FROM generate_series(0, 3999) n",
        NOW,
    )
    await register(db, LEDGER, "ledger")
    await execute(db, "ANALYZE")
    return db


async def plan(db: Database, text: str, arguments: list[Any], mode: str) -> str:
    """The plan of a statement: made for these values, or for any (which is what a statement used often may get)."""

    async def explain(connection: Connection[Any]) -> str:
        await connection.execute(f"SET LOCAL plan_cache_mode = force_{mode}_plan")
        await connection.execute(f"PREPARE asked AS {text}")
        values = ", ".join(str(a) if isinstance(a, int) else f"'{a}'" for a in arguments)
        rows = await connection.fetch(f"EXPLAIN EXECUTE asked ({values})")
        await connection.execute("DEALLOCATE asked")
        return "\n".join(r[0] for r in rows)

    return await db.run(explain)


@pytest.mark.parametrize("mode", ["custom", "generic"])
async def test_searches_use_the_indexes(crowded: Database, mode: str) -> None:
    events, deliveries = search.events_statement, search.deliveries_statement
    wanted = {
        "events of an object": (events(EventFilter(object="in_5"), 50, None), ["events_object"]),
        "the newest events": (events(EventFilter(), 50, None), ["Backward using events_pkey"]),
        "the next page": (events(EventFilter(), 50, 9000), ["Backward using events_pkey"]),
        "deliveries of an object": (
            deliveries(DeliveryFilter(object="in_5"), 50, None),
            ["events_object", "deliveries_event_seq_destination_key"],
        ),
        "deliveries of an event": (
            deliveries(DeliveryFilter(event="evt_5"), 50, None),
            ["events_id_key", "deliveries_event_seq_destination_key"],
        ),
        "dead letters": (deliveries(DeliveryFilter((DeliveryState.DEAD,)), 50, None), ["deliveries_dead"]),
        "an event": ((SQL["event_body"], ["evt_5"]), ["events_id_key"]),
        "summaries": ((SQL["summaries_of"], ["{1,2,3}"]), ["events_pkey"]),
        "attempts": ((SQL["attempts_of"], ["{1,2}", "{NULL,7}", 20]), ["attempts_delivery", "attempts_batch"]),
        "what is held": ((SQL["holds"], ["{1}", "{netsuite}", "{cus_1}"]), ["using deliveries_"]),
        "what is held by one": ((SQL["held_behind"], [LEDGER, "cus_1", "{1}"]), ["using deliveries_"]),
        "links of an object": ((SQL["links_everywhere"], ["in_5"]), ["links_pkey"]),
    }
    for name, ((text, arguments), indexes) in wanted.items():
        found = await plan(crowded, text, arguments, mode)
        for index in indexes:
            assert index in found, f"{name}:\n{found}"
        assert "Seq Scan on events" not in found, f"{name}:\n{found}"
        assert "Seq Scan on deliveries" not in found, f"{name}:\n{found}"
        assert "Seq Scan on attempts" not in found, f"{name}:\n{found}"


def test_the_open_states_are_those_that_are_not_over() -> None:
    over = {DeliveryState.DONE, DeliveryState.SUPERSEDED, DeliveryState.SKIPPED, DeliveryState.DEAD}
    assert set(search.OPEN) == set(DeliveryState) - over
