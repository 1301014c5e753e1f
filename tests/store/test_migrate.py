"""Migrating beside a running hub: which code runs on which schema, locks that are not had, steps that are cut short."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path

import asyncpg
import pytest

from hub import app, migrate
from hub.commands.prune import prune
from hub.config import Settings, VendorSettings
from hub.db import Embedded
from hub.errors import ConfigError
from hub.migrate import HEAD, MigrationError, Schema
from hub.migrations.steps import statements

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"
SINCE = "0004"
"""From here on the rules hold; the steps before were never migrated to beside a running hub."""


async def become(dsn: str, version: str, mark: str | None) -> None:
    """Make the database look as a later release would leave it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("UPDATE alembic_version SET version_num = $1", version)
        text = "NULL" if mark is None else "'{}'".format(mark.replace("'", "''"))
        await connection.execute(f"COMMENT ON TABLE alembic_version IS {text}")
    finally:
        await connection.close()


@pytest.fixture
async def own(postgres: Embedded, template: str) -> str:
    """A migrated database that is not used again: its schema is changed here."""
    admin = await asyncpg.connect(postgres.dsn)
    try:
        name = f"m_{id(admin)}_{len(template)}_{asyncio.get_running_loop().time():.6f}".replace(".", "_")
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    finally:
        await admin.close()
    return postgres.address(name)


def settings_for(dsn: str) -> tuple[Settings, VendorSettings]:
    """As a process reads them that starts on this database."""
    environment = {
        "HUB_STRIPE_API_KEY": "sk_test_x",
        "HUB_STRIPE_WEBHOOK_SECRETS": "whsec_test",
        "HUB_API_TOKEN": "t" * 24,
        "HUB_DATABASE_URL": dsn,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return app.read_settings(serving=True)


async def opened(dsn: str) -> str:
    """What a process says that starts on this database: nothing, or why it does not."""
    settings, stripe = settings_for(dsn)
    try:
        core = await app.open_core(settings, stripe, dsn, pool=1)
    except ConfigError as error:
        return "; ".join(error.problems)
    await core.db.close()
    return ""


async def test_a_newer_schema_that_fits_this_code_is_run_on_and_left_as_it_is(own: str) -> None:
    await become(own, "0099", f"oldest code: {HEAD}")
    assert await opened(own) == ""
    assert await migrate.migrate(own) == "0099"
    assert await migrate.current(own) == Schema("0099", HEAD)


@pytest.mark.parametrize("mark", ["oldest code: 0098", None, "somebody's own comment"])
async def test_a_newer_schema_that_does_not_fit_or_does_not_say_is_refused_with_the_way_out(
    own: str, mark: str | None
) -> None:
    await become(own, "0099", mark)
    said = await opened(own)
    assert "0099" in said
    assert "start the newer release" in said
    with pytest.raises(MigrationError, match="start the newer release"):
        await migrate.migrate(own)


async def test_nothing_is_pruned_from_a_schema_this_code_may_not_run_on(own: str) -> None:
    settings, _ = settings_for(own)
    await become(own, "0099", "oldest code: 0098")
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match="start the newer release"):
            await prune(settings, own, None, dry_run=dry_run)


async def test_an_older_schema_is_refused_until_it_is_migrated(own: str) -> None:
    await become(own, "0003", None)
    assert "run `hub migrate`" in await opened(own)
    assert await migrate.migrate(own) == HEAD
    assert await opened(own) == ""


async def test_an_empty_database_is_refused_and_migrated_from_the_first_step(postgres: Embedded) -> None:
    dsn = postgres.create_database()
    assert (await migrate.current(dsn)).problem() is not None
    assert await migrate.migrate(dsn) == HEAD
    assert (await migrate.current(dsn)).oldest_code == "0002"


async def test_a_table_that_is_held_fails_the_migration_loudly_and_names_who_holds_it(own: str) -> None:
    await become(own, "0003", None)
    holder = await asyncpg.connect(own, server_settings={"application_name": "somebody's report"})
    other = await asyncpg.connect(own)
    try:
        await other.execute("ALTER TABLE events DROP COLUMN body_removed_at CASCADE")
        async with holder.transaction():
            await holder.fetch("SELECT FROM events")
            migrating = asyncio.create_task(migrate.migrate(own, table_lock_seconds=0.2, pause=0.05))
            with pytest.raises(MigrationError, match=r"somebody's report\), idle in transaction") as raised:
                await asyncio.wait_for(migrating, 15)
            assert str(holder.get_server_pid()) in str(raised.value)
            assert await asyncio.wait_for(other.fetchval("SELECT count(*) FROM events"), 5) == 0
        assert (await migrate.current(own)).version == "0003"
        assert await migrate.migrate(own) == HEAD
    finally:
        await holder.close()
        await other.close()


async def test_a_table_that_is_let_go_of_after_the_first_try_is_migrated_at_the_next(own: str) -> None:
    await become(own, "0003", None)
    holder, other = await asyncpg.connect(own), await asyncpg.connect(own)
    try:
        await other.execute("ALTER TABLE events DROP COLUMN body_removed_at CASCADE")
        async with holder.transaction():
            await holder.fetch("SELECT FROM events")
            migrating = asyncio.create_task(migrate.migrate(own, table_lock_seconds=0.2, pause=0.3))
            while not await other.fetchval(WAITS):  # noqa: ASYNC110 - of PostgreSQL's doing
                await asyncio.sleep(0.01)
            while await other.fetchval(WAITS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await asyncio.wait_for(migrating, 15) == HEAD
    finally:
        await holder.close()
        await other.close()


WAITS = """SELECT count(*) > 0 FROM pg_locks
WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


async def test_a_second_migration_waits_its_turn_and_says_so(own: str) -> None:
    first = await asyncpg.connect(own)
    try:
        await first.execute("SELECT pg_advisory_lock($1)", migrate.LOCK)
        with pytest.raises(MigrationError, match="another process has been migrating"):
            await migrate.migrate(own, lock_seconds=0.1)
    finally:
        await first.close()
    assert await migrate.migrate(own) == HEAD


async def test_an_index_that_was_left_half_built_is_built_anew(own: str) -> None:
    connection = await asyncpg.connect(own)
    try:
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'events_customer'::regclass"
        )
        await become(own, "0003", None)
        assert await migrate.migrate(own) == HEAD
        valid = "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid = 'events_customer'::regclass"
        assert await connection.fetchval(valid) is True
    finally:
        await connection.close()


async def test_building_an_index_does_not_stop_intake(own: str) -> None:
    """A transaction that is open keeps the index from being finished, for as long as it likes; writing goes on."""
    writer, holder = await asyncpg.connect(own), await asyncpg.connect(own)
    try:
        await writer.execute("DROP INDEX events_customer")
        await become(own, "0003", None)
        async with holder.transaction():
            await holder.execute("INSERT INTO lanes (destination, key) VALUES ('x', 'y')")
            await holder.execute(INSERT.format("evt_held"))
            migrating = asyncio.create_task(migrate.migrate(own))
            for _ in range(100):
                if await writer.fetchval("SELECT count(*) FROM pg_index WHERE NOT indisvalid"):
                    break
                await asyncio.sleep(0.05)
            await asyncio.wait_for(writer.execute(INSERT.format("evt_meanwhile")), 2)
            assert not migrating.done()
        assert await asyncio.wait_for(migrating, 20) == HEAD
    finally:
        await writer.close()
        await holder.close()


INSERT = """INSERT INTO events (id, kind, type, rank, created, received_at, disposition, body)
VALUES ('{}', 'snapshot', 'x', 0, now(), now(), 'unmapped', '')"""


# The rules for a step, as far as they can be read off it.


def later() -> list[Path]:
    return [p for p in sorted(VERSIONS.glob("v*.py")) if p.name[1:5] >= SINCE]


def test_every_step_says_which_code_may_run_on_it() -> None:
    for path in later():
        step = importlib.import_module(f"hub.migrations.versions.{path.stem}")
        assert step.oldest_code < step.revision == path.name[1:5], "the release before runs on while processes change"


def test_what_runs_outside_of_a_transaction_may_run_again() -> None:
    again = re.compile(
        r"CREATE (UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS |DROP INDEX CONCURRENTLY IF EXISTS |CREATE OR REPLACE "
        r"|CREATE (TABLE|STATISTICS) IF NOT EXISTS |ALTER TABLE \w+\s+ADD COLUMN IF NOT EXISTS |REVOKE |GRANT |COMMENT "
    )
    for path in later():
        if "outside(__file__)" in path.read_text():
            for statement in statements(path.with_suffix(".sql").read_text()):
                assert again.match(statement), statement[:80]


def test_no_step_takes_away_what_running_code_uses_or_locks_a_table_to_build_an_index() -> None:
    for path in later():
        found = statements(path.with_suffix(".sql").read_text())
        made = {m[1] for s in found if (m := re.match(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", s))}
        for statement in found:
            bare = re.sub(r"\$\$.*\$\$", "", statement, flags=re.DOTALL)
            assert not re.search(r"DROP (TABLE|COLUMN)|RENAME|ALTER COLUMN|SET NOT NULL", bare), bare[:80]
            on = re.match(r"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?.*? ON (\w+)", bare, re.DOTALL)
            assert on is None or on[1] or on[2] in made, bare[:80]


def test_statements_end_where_they_end() -> None:
    text = "-- one; two\nSELECT 1;\nCREATE FUNCTION f() AS $$\nBEGIN\n  x;\n  y;\nEND $$;\n\nSELECT 2;\n"
    assert statements(text) == ["SELECT 1", "CREATE FUNCTION f() AS $$\nBEGIN\n  x;\n  y;\nEND $$", "SELECT 2"]
