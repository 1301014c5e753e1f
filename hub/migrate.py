"""Bring the schema up to date. One at a time, under a lock; a lock that cannot be had is an error, never skipped.

Web and workers keep running meanwhile, on the code of the release before: a step only adds, and says which code is the
oldest that may run on what it leaves (`hub/README.md`, "The schema"). No step waits for long behind traffic, because
traffic would wait behind it: `LOCK_SECONDS` for each lock, a few times, then `MigrationError` names who holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from hub.errors import HubError

LOCK = 0x48554221  # "HUB!"
HEAD = "0005"
"""The schema this code is written for. A test holds it against the newest file in `hub/migrations/versions`."""
LOCK_SECONDS = 2.0
"""Longest wait for the lock of a table: whoever comes meanwhile queues behind, and a webhook is given 8 s."""
TRIES = 5
PAUSE = 2.0
"""Seconds between two tries: what queued behind the last one gets through."""

_MARK = "oldest code: "


class MigrationError(HubError):
    """The schema could not be brought up to date."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database has: its version (None: it is empty), and the oldest code that may run on it (None: its own)."""

    version: str | None
    oldest_code: str | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether it is of a later release than this code."""
        return self.version is not None and self.version > HEAD

    def problem(self) -> str | None:
        """Why this code cannot run on it, and what to do; None if it can."""
        if self.version == HEAD:
            return None
        if not self.is_ahead:
            return f"the database schema is at {self.version}, this hub needs {HEAD}: run `hub migrate`"
        if self.oldest_code is not None and self.oldest_code <= HEAD:
            return None
        needs = f"the code of {self.oldest_code} or newer" if self.oldest_code else "its own code"
        return (
            f"the database schema is at {self.version}, which needs {needs}, and this hub is of {HEAD}: start the "
            "newer release (nothing was changed). To stay on this one, restore a backup from before the migration: "
            "there are no steps down."
        )


async def current(dsn: str) -> Schema:
    """The schema there is. Raises one of `hub.db.UNAVAILABLE`."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return Schema(None)
        row = await connection.fetchrow(
            "SELECT version_num, obj_description('alembic_version'::regclass, 'pg_class') AS mark FROM alembic_version"
        )
    finally:
        await connection.close()
    if row is None:  # the table comes before the first step: one that failed leaves it
        return Schema(None)
    mark = str(row["mark"] or "")
    return Schema(str(row["version_num"]), mark.removeprefix(_MARK) if mark.startswith(_MARK) else None)


async def migrate(
    dsn: str, *, lock_seconds: float = 30.0, table_lock_seconds: float = LOCK_SECONDS, pause: float = PAUSE
) -> str:
    """Run the missing steps and return the version reached; one of a later release that this code may run on is left as
    it is. Raises `MigrationError` if a lock is not had in time: steps that were done stay done.
    """
    guard = await asyncpg.connect(dsn, timeout=10)
    try:
        await _lock(guard, lock_seconds)
        found = await current(dsn)
        if found.is_ahead:
            if (problem := found.problem()) is not None:
                raise MigrationError(problem)
            assert found.version is not None
            return found.version
        for left in range(TRIES - 1, -1, -1):
            async with _watched(guard, dsn, table_lock_seconds) as (connection, holders):
                try:
                    await _upgrade(connection)
                    break
                except asyncpg.LockNotAvailableError as error:
                    if not left:
                        raise MigrationError(_held(holders, error, table_lock_seconds)) from error
            await asyncio.sleep(pause)
    finally:
        await guard.close()
    reached = (await current(dsn)).version
    if reached != HEAD:
        raise MigrationError(f"the steps ended at {reached}, not at {HEAD}: is this installation whole?")
    return HEAD


async def _upgrade(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    from alembic import command  # Alembic and SQLAlchemy are 40 MB that only migrating needs
    from alembic.config import Config
    from sqlalchemy import Connection as SyncConnection
    from sqlalchemy import pool
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")

    def upgrade(sync: SyncConnection) -> None:
        config.attributes["connection"] = sync
        command.upgrade(config, "head")

    async def ours() -> Any:
        return connection

    engine = create_async_engine("postgresql+asyncpg://", poolclass=pool.NullPool, async_creator=ours)
    try:
        async with engine.connect() as alembics:
            await alembics.run_sync(upgrade)
            await alembics.commit()
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        raise (cause or error) from error
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def _watched(
    guard: asyncpg.Connection[asyncpg.Record], dsn: str, seconds: float
) -> AsyncIterator[tuple[asyncpg.Connection[asyncpg.Record], list[str]]]:
    """A connection whose waits for locks are limited, and who they were last for: after the wait nobody can tell."""
    limit = {"lock_timeout": f"{int(seconds * 1000)}ms"}
    connection = await asyncpg.connect(dsn, timeout=10, server_settings=limit)
    pid = connection.get_server_pid()
    holders: list[str] = []

    over = asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            rows = await guard.fetch(
                "SELECT pid, usename, application_name, state, extract(epoch FROM now() - xact_start)::int AS seconds "
                "FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1)) ORDER BY xact_start",
                pid,
            )
            if rows:
                holders[:] = [_holder(row) for row in rows]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), min(0.1, seconds / 5))

    watching = asyncio.create_task(watch())
    try:
        yield connection, holders
    finally:
        over.set()
        await connection.close()
        await watching


def _holder(row: asyncpg.Record) -> str:
    """Who, without the statement: it may hold what is nobody's business here."""
    name = f" ({row['application_name']})" if row["application_name"] else ""
    return f"process {row['pid']} of {row['usename']}{name}, {row['state']}, in a transaction for {row['seconds']} s"


def _held(holders: list[str], error: Exception, seconds: float) -> str:
    who = "; ".join(holders) or "somebody who has let go of it since"
    return (
        f"a lock was not had within {seconds:g} s, {TRIES} times ({error}). It is held by: {who}. What this step did "
        "was undone, and nobody waits for it. End that transaction (`SELECT pg_terminate_backend(<process>)`), or wait "
        "for it, then run `hub migrate` again."
    )


async def _lock(connection: asyncpg.Connection[asyncpg.Record], seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationError(
                f"another process has been migrating this database for {seconds:g} s; nothing was changed. "
                "Wait for it, or end its session in PostgreSQL, then run `hub migrate` again."
            )
        await asyncio.sleep(0.2)
