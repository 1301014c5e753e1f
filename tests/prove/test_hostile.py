"""Hostile input, at length: the quick forms are `tests/flow/test_hostile_*.py`, whose judges are used here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from hub.db import Embedded
from hub.guard import allow_files
from tests.conftest import Clock
from tests.flow import stack
from tests.flow.hostile import MARKS, Served, event, lines, serving, signed
from tests.flow.test_hostile_api import described, filled_hub, holds
from tests.flow.test_hostile_intake import REQUESTS, Header, Target, aimed_at, attack
from tests.flow.test_hostile_sockets import SLOW, all_at_once

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800)]

CONNECTIONS = 2000


async def test_two_thousand_connections_at_once_that_each_send_an_event_are_all_served(
    postgres: Embedded, template: str, tmp_path: Path
) -> None:
    assert allow_files(CONNECTIONS) == CONNECTIONS, "this machine's hard limit of open files is too low for the test"
    async with stack.database(postgres, template) as dsn, serving(dsn, tmp_path) as served:
        await all_at_once(served, CONNECTIONS)


async def test_four_thousand_slow_connections_do_not_keep_out_a_steady_stream_of_webhooks(
    postgres: Embedded, template: str, tmp_path: Path
) -> None:
    slow_ones = 4000
    assert allow_files(slow_ones) == slow_ones, "this machine's hard limit of open files is too low for the test"
    limits = {"HUB_MAX_CONNECTIONS": "3000", "HUB_HEAD_SECONDS": "5", "HUB_REQUEST_SECONDS": "5"}
    async with (
        stack.database(postgres, template) as dsn,
        serving(dsn, tmp_path, **limits) as served,
        contextlib.AsyncExitStack() as held,
    ):
        slow = [line for _ in range(40) for line in await held.enter_async_context(lines(served, slow_ones // 40))]
        ways = [said for way, said in SLOW.items() if way != "only_line_breaks"]  # those go on only if more are sent
        await asyncio.gather(*(line.say(ways[n % len(ways)]) for n, line in enumerate(slow)))
        for n in range(300):
            async with lines(served, 1) as (line,):
                await line.say(signed(event(f"evt_{n}")))
                assert (await line.answer())[0] == 200
        assert {f"evt_{n}" for n in range(300)} <= await served.stored()
        await asyncio.gather(*(line.closed() for line in slow))


@pytest.fixture
async def target(dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Target]:
    async with aimed_at(dsn, clock, monkeypatch) as found:
        yield found


@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(**REQUESTS)
async def test_five_thousand_made_up_requests_to_the_intake(
    target: Target,
    capfd: pytest.CaptureFixture[str],
    body: bytes,
    cut: Sequence[int],
    noise: list[Header],
    header: bytes | None,
) -> None:
    await attack(target, body, cut, noise, header)
    told = "".join(capfd.readouterr())
    assert [mark for mark in MARKS if mark in told] == []


many = described(200, coverage=True)


@pytest.fixture(scope="module")
def hub(postgres: Embedded, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with filled_hub(postgres, template, tmp_path_factory) as served:
        yield served


@many.parametrize()  # type: ignore[untyped-decorator]
def test_many_requests_made_up_from_the_description_and_each_of_its_bounds(case: Any, hub: Served) -> None:
    holds(case, hub)
