"""A person says that the vendor has the record already: linked once, in one transaction, never over another link."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub import operate
from hub.db import Database
from hub.destination import Kind, Policy
from hub.errors import Reject, Unknown
from hub.model import ADOPT, ADOPTED, LINKED
from hub.operate import ConflictError, Existing, Linked, ReasonError
from tests.conftest import Clock
from tests.engine import Engine, build, customer, dead_with_two_behind, event, invoice
from tests.filling import execute, one

SECOND_MAPPING = """
version: 1
record: Paper
on: [invoice.sent]
object: invoice
key: concat('paper_', invoice.id)
fields: {total: invoice.total}
"""
THIRD_MAPPING = SECOND_MAPPING.replace("Paper", "Copy").replace("paper_", "copy_")
BY_NEED = """
version: 1
record: Note
on: [invoice.overdue]
object: invoice
needs: {customer: {object: customer, id: invoice.customer}}
key: concat('note_', customer.id)
fields: {total: invoice.total}
"""


@pytest.fixture
def engine(db: Database, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest) -> Engine:
    kind: Kind = getattr(request, "param", "ledger")
    (tmp_path / "vendor").mkdir()
    for name, text in (("paper", SECOND_MAPPING), ("copy", THIRD_MAPPING), ("note", BY_NEED)):
        (tmp_path / "vendor" / f"{name}.yaml").write_text(text)
    policy = Policy(kind, batch=3, slots=4, lease=60, unknown_wait=30, budget=20)
    return build(db, clock, tmp_path, kind, policy=policy)


def now(engine: Engine) -> datetime:
    return datetime.fromtimestamp(engine.clock(), UTC)


async def link(engine: Engine, id_: int, vendor_id: str = "647", **more: Any) -> Linked:
    existing = Existing(vendor_id, more.pop("reason", "booked by hand"), **more)
    return await engine.db.run(operate.link, id_, existing, engine.mappings, now(engine))


async def refusal(engine: Engine, id_: int, vendor_id: str = "647", **more: Any) -> tuple[str, str]:
    with pytest.raises(ConflictError) as caught:
        await link(engine, id_, vendor_id, **more)
    return caught.value.code, str(caught.value)


async def links(db: Database) -> list[tuple[str, ...]]:
    rows = await db.fetch_text("SELECT object_id, record, key, vendor_id, digest, mapping FROM links ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def test_linking_settles_writes_the_link_and_releases_what_was_held_in_order(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    done = await link(engine, 2, reason=" booked by hand in May ")
    assert (done.object_id, done.record, done.key, done.vendor_id, done.released) == ("in_1", "Doc", "k_in_1", "647", 2)
    assert done.note == "nothing was written to Doc 647: it stays as it is until something later of in_1 is delivered"
    rows = await engine.rows()
    two = rows[1]
    assert (two["state"], two["settled_at"], two["code"], two["cause"], two["fix"]) == (
        "done", now(engine), None, None, None,
    )  # fmt: skip
    assert two["note"] == "linked by an operator to Doc 647: booked by hand in May"
    assert [(r["state"], r["note"]) for r in rows[2:4]] == [
        ("waiting", "released: delivery 2 was linked to Doc 647")
    ] * 2
    assert ("in_1", "Doc", "k_in_1", "647", LINKED, "vendor/doc@1") in await links(engine.db)
    assert engine.destination.sent == [], "linking calls nobody"

    await engine.drain()
    attempts = await engine.db.fetch_text("SELECT delivery_id FROM attempts ORDER BY id")
    assert [a["delivery_id"] for a in attempts] == [3, 4]
    assert await engine.states() == ["done"] * 5


async def test_what_comes_later_finds_the_linked_record_before_it_writes_to_it_and_only_once(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    await link(engine, 2)
    await engine.drain()
    first = engine.destination.sent[0][0]
    assert [(r.action, r.record, r.key, dict(r.fields), r.digest) for r in first.records][:1] == [
        (ADOPT, "Doc", "k_in_1", {}, ADOPTED)
    ]
    assert [r.link.vendor_id for r in first.records if r.link] == ["647", "647"]
    assert [r.action for r in first.records] == [ADOPT, "upsert"]
    await engine.accept(event("evt_9", "invoice.updated", invoice("paid", total=9), 1_789_000_030))
    await engine.drain()
    assert [r.action for r in engine.destination.sent[-1][0].records] == ["upsert"], "it has our key by now"


async def test_a_linked_parent_is_adopted_as_it_is_and_its_own_parents_are_seen_to(engine: Engine) -> None:
    """The customer was booked by hand; the invoice's job gives it our key and does not write over it."""
    engine.destination.answers = lambda job: Reject("exists", "somebody has it", "see")
    await engine.accept(event("evt_c", "customer.created", customer()))
    await engine.drain()
    await link(engine, 1, "C-7")
    engine.destination.answers = lambda job: None
    engine.destination.sent.clear()
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    await engine.drain()
    ((job,),) = engine.destination.sent
    assert [(r.action, r.record, r.key, dict(r.fields)) for r in job.records] == [
        (ADOPT, "Account", "k_cus_1", {}),
        ("upsert", "Doc", "k_in_1", {"status": "open", "total": 1000, "customer": "cus_1"}),
    ]


async def test_the_same_link_again_is_no_news_and_another_one_is_refused(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    await link(engine, 2)
    code, said = await refusal(engine, 2, "648")
    assert (code, "linked by an operator to Doc 647: booked by hand" in said) == ("already_done", True)
    code, said = await refusal(engine, 3, "648")
    assert code == "already_linked"
    assert "in_1 is linked to Doc 647, which a person said before" in said
    assert (await link(engine, 3)).vendor_id == "647"
    assert (await engine.states())[1:4] == ["done", "done", "waiting"]


async def test_a_link_the_hub_made_is_never_replaced(engine: Engine) -> None:
    await engine.accept(event("evt_c", "customer.created", customer()))
    await engine.drain()
    before = await links(engine.db)
    engine.destination.answers = lambda job: Reject("bad", "no", "see")
    await engine.accept(event("evt_u", "customer.updated", customer(name="New"), 1_789_000_010))
    await engine.drain()
    for more in ({}, {"instead_of": "v-k_cus_1"}):
        code, said = await refusal(engine, 2, "648", **more)
        assert (code, "which has our key k_cus_1" in said) == ("already_linked", True)
    assert await links(engine.db) == before
    assert await engine.states() == ["done", "dead"]


async def test_a_mistake_is_corrected_by_naming_it_and_only_while_nothing_has_used_it(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    assert (await refusal(engine, 2, "648", instead_of="647"))[0] == "not_linked"
    await link(engine, 2, "646")
    assert (await refusal(engine, 2, "648", instead_of="645"))[0] == "already_linked"
    settled = (await engine.rows())[1]["settled_at"]
    done = await link(engine, 2, "647", instead_of="646", reason="a typing error")
    assert (done.vendor_id, done.released) == ("647", 0)
    row = (await engine.rows())[1]
    assert (row["state"], row["settled_at"]) == ("done", settled)
    assert row["note"] == "linked by an operator to Doc 647 instead of 646: a typing error"
    await engine.drain()
    assert (await refusal(engine, 2, "640", instead_of="647"))[0] == "already_linked"


async def test_of_two_who_link_at_once_one_wins_and_the_others_are_told(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    answers = await asyncio.gather(*(link(engine, 2, str(640 + i)) for i in range(4)), return_exceptions=True)
    (winner,) = [a for a in answers if isinstance(a, Linked)]
    refused = [a for a in answers if isinstance(a, ConflictError)]
    assert [a.code for a in refused] == ["already_done"] * 3
    assert f"linked by an operator to Doc {winner.vendor_id}" in str(refused[0])
    row = await one(engine.db, "SELECT vendor_id FROM links WHERE object_id = 'in_1'")
    assert row["vendor_id"] == winner.vendor_id


@pytest.mark.parametrize("other", ["retry", "skip"])
async def test_of_a_link_and_another_button_at_once_one_wins(engine: Engine, other: str) -> None:
    await dead_with_two_behind(engine)
    more: tuple[Any, ...] = ("not wanted", now(engine)) if other == "skip" else (now(engine),)
    verb = operate.skip if other == "skip" else operate.retry
    answers = await asyncio.gather(
        link(engine, 2), engine.db.run(verb, 2, *more), link(engine, 2), return_exceptions=True
    )
    won = [a for a in answers if not isinstance(a, BaseException)]
    state = (await engine.states())[1]
    if other == "skip":
        assert len(won) == 1
        assert state == ("done" if isinstance(won[0], Linked) else "skipped")
    else:  # what was retried is open again, so a link that comes after it still holds; the reverse is refused
        assert [type(a).__name__ for a in answers if a in won].count("Linked") == 1
        assert state == "done"
    assert (await one(engine.db, "SELECT count(*) AS n FROM links WHERE object_id = 'in_1'"))["n"] == (state == "done")


async def test_what_may_still_land_is_not_linked_before_it_is_known(engine: Engine, clock: Clock) -> None:
    engine.destination.answers = lambda job: Unknown("no reply") if job.event.id == "evt_1" else None
    await engine.accept(
        event("evt_c", "customer.created", customer(), 1_788_999_000),
        event("evt_1", "invoice.finalized", invoice("open")),
        event("evt_2", "invoice.updated", invoice("open", total=7), 1_789_000_010),
    )
    await engine.drain()
    assert await engine.states() == ["done", "unknown", "waiting"]
    for id_ in (2, 3):
        code, said = await refusal(engine, id_)
        assert (code, "what became of delivery 2 is not known yet" in said) == ("outcome_unknown", True)
    assert len(await links(engine.db)) == 1
    clock.advance(31)
    assert (await link(engine, 2)).key == "k_in_1", "the vendor has surely given up, and a person has looked"


async def test_nothing_is_linked_while_another_delivery_of_the_object_is_under_way(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    await execute(engine.db, "UPDATE deliveries SET state = 'claimed', held_by = NULL, lease_until = $1 WHERE id = 3",
                  now(engine) + timedelta(seconds=60))  # fmt: skip
    code, said = await refusal(engine, 2)
    assert (code, "delivery 3 is being delivered right now" in said) == ("being_delivered", True)


async def test_a_record_this_delivery_does_not_make_is_refused_and_the_right_ones_are_named(engine: Engine) -> None:
    await dead_with_two_behind(engine)
    code, said = await refusal(engine, 2, record="Account")
    assert (code, "makes Doc, not 'Account'" in said) == ("not_its_record", True)
    engine.destination.answers = lambda job: Reject("bad", "no", "see")
    await engine.accept(event("evt_s", "invoice.sent", invoice("open", "in_3")))
    await engine.accept(event("evt_o", "invoice.overdue", invoice("open", "in_4")))
    await engine.drain()
    assert (await engine.states())[5:] == ["dead", "dead"]
    code, said = await refusal(engine, 6)
    assert (code, "makes Copy, Paper: say which" in said) == ("which_record", True)
    done = await link(engine, 6, record="Paper")
    assert done.key == "paper_in_3"
    assert "would also have made Copy, which nobody makes now" in done.note
    code, said = await refusal(engine, 7)
    assert (code, "cannot be told from the event alone" in said) == ("key_unknown", True)


@pytest.mark.parametrize("engine", ["log"], indirect=True)
async def test_the_lake_has_no_records_to_link(engine: Engine) -> None:
    engine.destination.batch_answer = lambda batch: Reject("no_bucket", "the bucket is gone", "make it anew")
    await engine.accept(*(event(f"evt_{i}", "payout.paid", {"id": f"po_{i}", "object": "payout"}) for i in range(3)))
    await engine.drain()
    assert await engine.states() == ["dead"] * 3
    assert (await refusal(engine, 1))[0] == "nothing_to_link"


@pytest.mark.parametrize("engine", ["state"], indirect=True)
async def test_at_a_state_destination_the_next_snapshot_goes_to_the_linked_record(engine: Engine) -> None:
    engine.destination.answers = lambda job: Reject("bad", "no", "see") if job.records[-1].record == "Doc" else None
    await engine.accept(event("evt_1", "invoice.finalized", invoice("open")))
    engine.source.objects["cus_1"] = customer()
    await engine.drain()
    assert await engine.states() == ["dead"]
    await link(engine, 1)
    engine.destination.answers = lambda job: None
    await engine.accept(event("evt_2", "invoice.paid", invoice("paid"), 1_789_000_010))
    await engine.drain()
    assert await engine.states() == ["done", "done"]
    assert [r.action for r in engine.destination.sent[-1][0].records if r.record == "Doc"] == [ADOPT, "upsert"]


@pytest.mark.parametrize("vendor_id", ["", "  ", "x" * 256, "6 47", "6\n47", "a\x00b", "\ud800"])
async def test_an_id_must_be_one_word_of_text(engine: Engine, vendor_id: str) -> None:
    await dead_with_two_behind(engine)
    with pytest.raises(ReasonError, match="vendor_id"):
        await link(engine, 2, vendor_id)
    with pytest.raises(ReasonError, match="instead_of"):
        await link(engine, 2, instead_of=vendor_id)
    with pytest.raises(ReasonError, match="reason"):
        await link(engine, 2, reason=" ")
    assert (await engine.states())[1] == "dead"
