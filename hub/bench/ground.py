"""What a benchmark stands on: a durable PostgreSQL of its own, the real commands as children, its own settings."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from hub.commands import common
from hub.db import Embedded
from hub.errors import HubError
from hub.migrate import migrate

Say = Callable[[str], None]
"""Shows what is being done now."""

STOP_SECONDS = 25.0
ROOT = Path(__file__).resolve().parents[2]


class BenchError(HubError):
    """A benchmark that could not be carried out, or whose own checks say that it measured something else."""


def silent(_text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder and a migrated database in it. Both go when the benchmark ends."""

    folder: Path
    dsn: str
    fdatasync_ms: float
    """What one durable write costs on this disk, median. Close to 0: a disk that promises what it does not keep."""


@asynccontextmanager
async def ground(say: Say = silent) -> AsyncIterator[Ground]:
    """A fresh PostgreSQL in a temporary folder, durable as in production. Raises `BenchError` if it is not."""
    say("starting a PostgreSQL of its own ...")
    folder = Path(tempfile.mkdtemp(prefix="hub-bench-"))
    try:
        embedded = await asyncio.to_thread(Embedded, folder / "postgres")
        try:
            dsn = embedded.create_database()
            await migrate(dsn)
            await _must_be_durable(dsn)
            yield Ground(folder, dsn, await asyncio.to_thread(_fdatasync_ms, folder))
        finally:
            await asyncio.to_thread(embedded.stop)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


async def _must_be_durable(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        found = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit")}
    finally:
        await connection.close()
    if set(found.values()) != {"on"}:
        raise BenchError(f"this PostgreSQL is not durable ({found}): its figures would mean nothing")


def _fdatasync_ms(folder: Path) -> float:
    path = folder / "fdatasync"
    taken = []
    with path.open("wb") as file:
        for _ in range(50):
            file.write(b"\0" * 8192)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return round(sorted(taken)[len(taken) // 2] * 1000, 3)


async def fetch(dsn: str, text: str, *args: Any) -> list[dict[str, Any]]:
    """Rows of one statement on a connection of its own: what the checks read."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return [dict(row) for row in await connection.fetch(text, *args)]
    finally:
        await connection.close()


def environment(own: dict[str, str]) -> dict[str, str]:
    """The environment of a child: the caller's without its hub, so that no real account or database is touched."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    path = os.pathsep.join(p for p in (str(ROOT), rest.get("PYTHONPATH")) if p)
    return rest | {"PYTHONPATH": path} | own


@asynccontextmanager
async def child(
    name: str, *command: str, env: dict[str, str], folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m <command>` until the block ends. It runs in `folder` (no `hub.toml` of the caller's) and logs there.

    Raises `BenchError` with the end of its log if it ended by itself.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=out,
            cwd=folder,
            env=environment({common.WITH_PARENT: str(os.getpid()), **env}),
            start_new_session=True,
        )
    try:
        yield process
        if process.returncode is not None:
            raise BenchError(f"{name} ended by itself with code {process.returncode}: {end_of(log)}")
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def ready(url: str, process: asyncio.subprocess.Process, log: Path, *, seconds: float = 60) -> None:
    """Wait until a GET of `url` is answered 200. Raises `BenchError` if the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while not await common.answers(url):
        if process.returncode is not None or time.monotonic() > deadline:
            raise BenchError(f"{url} did not answer: {end_of(log)}")
        await asyncio.sleep(0.1)


async def ask(*command: str, env: dict[str, str], folder: Path, seconds: float) -> dict[str, Any]:
    """`python -m <command>` to its end, at most `seconds`; the JSON object it printed.

    Raises `BenchError` with the end of its standard error if it failed or printed something else.
    """
    log = folder / f"{command[0]}.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env=environment(env),
        )
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            raise BenchError(f"{' '.join(command[:2])} did not end within {seconds:g} s: {end_of(log)}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        raise BenchError(f"{' '.join(command[:2])} ended with code {process.returncode}: {end_of(log)}")
    try:
        found = orjson.loads(printed)
    except orjson.JSONDecodeError as error:
        raise BenchError(f"{' '.join(command[:2])} printed no JSON: {printed[:200]!r}") from error
    if not isinstance(found, dict):
        raise BenchError(f"{' '.join(command[:2])} printed a JSON {type(found).__name__}, not an object")
    return found


def end_of(log: Path) -> str:
    """The last words in a log file."""
    return log.read_text(errors="replace")[-2000:].strip() or "(it wrote no log)"


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed (nearest rank). `values` must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
