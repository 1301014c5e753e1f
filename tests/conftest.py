"""What every test may ask for: a PostgreSQL server for the session, a fresh migrated database for the test, a clock.

The server is one for all parallel test processes; each test gets its own database, copied from a migrated template.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

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


@pytest.fixture
async def dsn(postgres: Embedded, template: str) -> AsyncIterator[str]:
    """Address of a fresh, migrated database."""
    name = f"t_{os.urandom(6).hex()}"
    admin = await asyncpg.connect(postgres.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield postgres.address(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """A pool on a fresh, migrated database."""
    database = await Database.connect(dsn, size=6)
    yield database
    await database.close()
