"""Stripe repeats an event for three days, and a person may resend one after that: never a second effect."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Clock
from tests.flow import stack
from tests.flow.stack import hub
from tests.prove.effects import Effects
from tests.prove.lives import Lives


async def test_what_comes_again_after_72_hours_and_a_restart_is_a_repeat_and_reaches_no_vendor(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects = Effects()
    clock = Clock(time.time())
    with stack.vendors(effects.watch) as town:
        lives = Lives(town)
        events = lives.one(thin=True)
        async with hub(dsn, town, clock, monkeypatch) as here:
            await here.deliver(events, repeat=False)
            await here.work()
            clock.advance(72 * 3600 + 1)
            await here.deliver(events, repeat=True)
            await here.work()
            before = await here.rows()
        asked = {vendor: len(town.requests(vendor)) for vendor in town.sandbox.simulators}
        lives.once(effects)
        clock.advance(30 * 86400)
        async with hub(dsn, town, clock, monkeypatch) as restarted:
            await restarted.deliver([*events, *reversed(events)], repeat=True)
            await restarted.work()
            assert await restarted.rows() == before
            assert set(await restarted.states()) <= {
                f"{name} {state}"
                for name in ("salesforce", "netsuite", "avalara", "s3_lake", "stripe")
                for state in ("done", "superseded")
            }
        assert {vendor: len(town.requests(vendor)) for vendor in town.sandbox.simulators} == asked
        lives.once(effects)
