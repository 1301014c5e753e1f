"""Bring the schema up to date. One at a time, under a lock; a lock that cannot be had is an error, never skipped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg

from hub.errors import HubError

LOCK = 0x48554221  # "HUB!"
HEAD = "0004"
"""The schema this code is written for. A test holds it against the newest file in `hub/migrations/versions`."""


class MigrationError(HubError):
    """The schema could not be brought up to date."""


async def current(dsn: str) -> str | None:
    """The schema's version, or None for an empty database."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        version: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return version
    finally:
        await connection.close()


async def migrate(dsn: str, *, lock_seconds: float = 30.0) -> str:
    """Run the missing steps and return the version reached. Raises `MigrationError` if the lock is not had in time."""
    from alembic import command  # Alembic and SQLAlchemy are 40 MB that only migrating needs
    from alembic.config import Config
    from sqlalchemy import Connection as SyncConnection
    from sqlalchemy import pool
    from sqlalchemy.ext.asyncio import create_async_engine

    guard = await asyncpg.connect(dsn, timeout=10)
    try:
        await _lock(guard, lock_seconds)

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")

        def upgrade(connection: SyncConnection) -> None:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

        engine = create_async_engine(
            "postgresql+asyncpg://", poolclass=pool.NullPool, async_creator=lambda: asyncpg.connect(dsn, timeout=10)
        )
        try:
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)
                await connection.commit()
        finally:
            await engine.dispose()
    finally:
        await guard.close()
    reached = await current(dsn)
    if reached != HEAD:
        raise MigrationError(
            f"the schema is at {reached}, this code needs {HEAD}: is another version of the hub newer?"
        )
    return reached


async def _lock(connection: asyncpg.Connection[asyncpg.Record], seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationError(
                f"another process has been migrating this database for {seconds:g} s; nothing was changed. "
                "Wait for it, or end its session in PostgreSQL, then run `hub migrate` again."
            )
        await asyncio.sleep(0.2)
