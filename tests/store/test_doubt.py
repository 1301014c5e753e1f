"""What was confirmed last is not what the vendor holds, if something sent since may have landed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub import operate
from hub.db import Database
from hub.destination import Kind
from hub.errors import Outcome, Receipt, Unknown
from hub.model import Job
from tests.conftest import Clock
from tests.engine import Engine, build, customer, event, receipt

DAYS = 3 * 86_400


class Held:
    """A vendor of one record. Its replies can be lost."""

    def __init__(self) -> None:
        self.name: object = None
        self.silent = False

    def send(self, job: Job) -> Outcome:
        record = job.records[-1]
        if record.link is not None and record.link.digest == record.digest:
            return receipt(job)  # confirmed before: a connector may leave it out
        self.name = record.fields["name"]
        return Unknown("the reply was lost") if self.silent else receipt(job)

    def find(self, job: Job) -> Receipt | None:
        if self.silent:
            return None
        return receipt(job) if self.name == job.records[-1].fields["name"] else None


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture(params=["ledger", "state"])
def engine(db: Database, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest, held: Held) -> Engine:
    kind: Kind = request.param
    engine = build(db, clock, tmp_path, kind)
    engine.destination.answers, engine.destination.found = held.send, held.find
    return engine


async def told(engine: Engine, name: str, second: int) -> None:
    was = {"previous": {"name": "A" if name == "B" else "B"}}
    await engine.accept(event(f"evt_{second}", "customer.updated", customer(name=name), 1_789_000_000 + second, **was))


async def test_what_is_again_as_it_was_before_an_unknown_write_is_looked_for(
    engine: Engine, held: Held, clock: Clock
) -> None:
    await told(engine, "A", 1)
    await engine.drain()
    held.silent = True
    await told(engine, "B", 2)
    await engine.drain()
    held.silent = False
    await told(engine, "A", 3)
    await engine.drain()
    clock.advance(31)
    await engine.drain()
    assert {"done", "superseded"} >= set(await engine.states())
    assert held.name == "A"


async def test_also_if_the_unknown_write_was_given_up(engine: Engine, held: Held, clock: Clock) -> None:
    await told(engine, "A", 1)
    await engine.drain()
    held.silent = True
    await told(engine, "B", 2)
    for _ in range(2):
        await engine.drain()
        clock.advance(DAYS + 31)
    await engine.drain()
    assert await engine.states() == ["done", "dead"]
    held.silent = False
    if engine.destination.policy.kind == "ledger":  # it would hold what comes later; somebody decides
        dead = (await engine.rows("id"))[1]["id"]
        await engine.db.run(operate.skip, dead, "the name is wrong", datetime.fromtimestamp(engine.clock(), UTC))
    await told(engine, "A", 3)
    await engine.drain()
    assert (held.name, (await engine.states())[-1]) == ("A", "done")
