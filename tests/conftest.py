"""What every test may ask for: a PostgreSQL server for the session, a fresh migrated database for the test, a clock.

The server is one for all parallel test processes; each test gets a database to itself, copied from a migrated template
or emptied after the last test.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
import structlog

from hub.db import Database, Embedded
from hub.migrate import migrate

TEMPLATE = "hub_template"


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Embedded]:
    """The session's server. Parallel workers share it: the folder is named after the run that started them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"hub-tests-{run}"
    server = Embedded(folder / "pg", scratch=True)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: Embedded) -> str:
    """The name of a migrated database that tests copy."""
    return asyncio.run(_template(postgres))


async def _template(postgres: Embedded) -> str:
    admin = await asyncpg.connect(postgres.dsn)
    try:
        await admin.execute("SELECT pg_advisory_lock(4711)")
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
            dsn = postgres.create_database(f"{TEMPLATE}_new")
            await migrate(dsn)
            await admin.execute(f"ALTER DATABASE {TEMPLATE}_new RENAME TO {TEMPLATE}")
    finally:
        await admin.close()
    return TEMPLATE


@dataclass
class Spare:
    """Databases of this process that a test has given back, empty again: faster than a new copy each."""

    names: list[str] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    """What a migrated schema has, seen in the first copy."""


@pytest.fixture(scope="session")
def spare() -> Spare:
    return Spare()


@pytest.fixture
async def dsn(postgres: Embedded, template: str, spare: Spare) -> AsyncIterator[str]:
    """Address of an empty, migrated database that nobody else uses."""
    admin = await asyncpg.connect(postgres.dsn)
    try:
        if spare.names:
            name = spare.names.pop()
        else:
            name = f"t_{os.urandom(6).hex()}"
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
            spare.relations = spare.relations or await _relations(postgres.address(name))
        yield postgres.address(name)
        await admin.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await admin.close()
    if await _emptied(postgres.address(name)) == spare.relations:
        spare.names.append(name)


async def _relations(address: str) -> list[str]:
    connection = await asyncpg.connect(address)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname"
        )
        return [row["relname"] for row in rows]
    finally:
        await connection.close()


async def _emptied(address: str) -> list[str]:
    """Empty all tables; returns what the schema has now, for a test may have changed it."""
    connection = await asyncpg.connect(address)
    try:
        tables = await connection.fetchval(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables "
            "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        )
        await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
    finally:
        await connection.close()
    return await _relations(address)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """A pool on a fresh, migrated database."""
    database = await Database.connect(dsn, size=6)
    yield database
    await database.close()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that is run within a test sets up the log of its process: of all tests after it, which read theirs
    elsewhere.
    """
    structured, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**structured)
    root.handlers[:] = handlers
    root.setLevel(level)
