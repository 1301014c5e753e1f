"""A process that starts waits for its database, for a while, and then says what is wrong."""

from __future__ import annotations

import asyncpg
import pytest

from hub.commands.common import once_there


async def test_a_database_that_is_restarting_is_waited_for() -> None:
    away: list[Exception] = [ConnectionRefusedError(), asyncpg.exceptions.CannotConnectNowError("starting up")]

    async def start() -> str:
        if away:
            raise away.pop()
        return "started"

    assert await once_there(start, every=0) == "started"
    assert away == []


async def test_one_that_stays_away_is_named_with_the_way_out() -> None:
    async def start() -> None:
        raise ConnectionRefusedError("nobody listens")

    with pytest.raises(RuntimeError, match=r"nobody listens.*HUB_DATABASE_URL"):
        await once_there(start, seconds=0, every=0)


async def test_what_waiting_does_not_mend_is_not_waited_for() -> None:
    asked = 0

    async def start() -> None:
        nonlocal asked
        asked += 1
        raise asyncpg.InvalidPasswordError("wrong password")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await once_there(start, every=0)
    assert asked == 1
