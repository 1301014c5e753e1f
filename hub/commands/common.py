"""What several commands share: the database's address, children of a supervisor, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from hub import log
from hub.config import Settings, VendorSettings
from hub.db import UNAVAILABLE, Embedded
from hub.errors import ConfigError, HubError, OutcomeError
from hub.patience import Patience

if TYPE_CHECKING:
    from hub.app import Core

T = TypeVar("T")
_log = log.get()

WITH_PARENT = "HUB_CHILD_OF"
"""Set for children of `hub up` and `hub demo`: they stop when the pipe from their parent closes, however it ends."""


def database(settings: Settings) -> tuple[str, Embedded | None]:
    """The configured database, or the embedded one that `hub up` used last (started if need be; yours to stop)."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value(), None
    folder = data_dir(settings)
    embedded = Embedded(folder / "postgres")
    in_use = folder / IN_USE
    return embedded.address(in_use.read_text() if in_use.exists() else OWN), embedded


def sandbox_database(embedded: Embedded, folder: Path) -> str:
    """A fresh database for a run with the sandbox, in place of the last one's: the sandbox's vendors forget everything
    when they end, and a hub that remembered would not tell them again. The hub's own database is not touched.
    """
    embedded.drop_databases("sandbox_")
    name = f"sandbox_{secrets.token_hex(4)}"
    (folder / IN_USE).write_text(name)
    return embedded.create_database(name)


def own_database(embedded: Embedded, folder: Path) -> str:
    """The database whose data are kept between runs."""
    (folder / IN_USE).unlink(missing_ok=True)
    return embedded.address(OWN)


def data_dir(settings: Settings) -> Path:
    """The folder for the embedded database and local secrets."""
    folder = settings.data_dir.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def local_secret(folder: Path, name: str) -> str:
    """A random secret kept in a file that only its owner can read; made on first use."""
    path = folder / name
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(24))
    except FileExistsError:
        pass
    return path.read_text().strip()


def free_port() -> int:
    """A port that is free now on loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def require_port(host: str, port: int, setting: str) -> None:
    """Raises `ConfigError` if a port is taken, before anything is started."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ConfigError(
                [f"{setting}: {host}:{port} cannot be listened on ({error.strerror}); choose another port"]
            ) from error


def on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT, and when our parent is gone if we are a supervised child."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if os.environ.get(WITH_PARENT):
        loop.add_reader(sys.stdin.fileno(), _parent_gone, loop, stop)


def _parent_gone(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stop()


OWN = "postgres"
"""Database of the embedded server that holds a hub's own data."""
IN_USE = "database-in-use"
"""File in the data folder that names the database if it is another one."""


class Child:
    """A process of ours: `hub <command>` with its own environment, in its own session so that Ctrl-C is ours to pass
    on.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.process, self.name = process, name

    @classmethod
    async def start(cls, name: str, *arguments: str, env: dict[str, str], log: Path | None = None) -> Child:
        """Start `python -m hub.cli <arguments>`. Its log goes to the file, or to our standard error."""
        with open(log, "ab") if log else os.fdopen(os.dup(2), "wb") as out:  # noqa: ASYNC230 - opening only
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "hub.cli",
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=out,
                env={**os.environ, **env, WITH_PARENT: str(os.getpid())},
                start_new_session=True,
            )
        return cls(process, name)

    async def stop(self, limit: float) -> int:
        """SIGTERM, then SIGKILL after `limit` seconds. Returns the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), limit)
            except TimeoutError:
                self.process.kill()
        return await self.process.wait()


async def until(check: Callable[[], Awaitable[bool]], *, seconds: float, what: str, child: Child | None = None) -> None:
    """Wait until `check` holds. Raises `TimeoutError` naming `what`, or `RuntimeError` if the child ends first."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await check():
        if child is not None and child.process.returncode is not None:
            raise RuntimeError(f"{child.name} ended with code {child.process.returncode} while waiting for {what}")
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        await asyncio.sleep(0.05)


START_SECONDS = 60.0
"""How long a process that starts waits for its database: it may be restarting, and then nobody has to start us anew."""


async def once_there(start: Callable[[], Awaitable[T]], seconds: float = START_SECONDS, *, every: float = 1.0) -> T:
    """`start()`, again while the database is away. Raises `RuntimeError` once that has lasted `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await start()
        except UNAVAILABLE as error:
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(
                    f"the database could not be reached for {seconds:g} s ({type(error).__name__}: {error}): "
                    "is it running, and is HUB_DATABASE_URL right?"
                ) from error
            _log.warning("start_waits_for_database", error=type(error).__name__)
            await asyncio.sleep(every)


def why(error: OutcomeError, otherwise: str) -> str:
    """What stopped a command at a vendor, and what to do: the outcome's own fix, or `otherwise`."""
    outcome = error.outcome
    cause = getattr(outcome, "cause", None) or getattr(outcome, "reason", None) or type(outcome).__name__
    return f"{cause}. {getattr(outcome, 'fix', otherwise)}"


@contextlib.asynccontextmanager
async def core_for(
    settings: Settings, stripe: VendorSettings, dsn: str, *, stopped: str, otherwise: str
) -> AsyncIterator[Core]:
    """A hub's parts, for a command that reads vendors. What a vendor refuses becomes a `HubError`: `stopped`, and why.

    `otherwise`: what to do when the outcome itself does not say (see `why`).
    """
    from hub import app  # not at the top: every command of `hub` imports this file

    log.configure(settings.log_level)
    core = await app.open_core(settings, stripe, dsn, pool=2)
    try:
        yield core
    except OutcomeError as error:
        raise HubError(f"{stopped}: {why(error, otherwise)}") from error
    finally:
        await core.db.close()


def dim(console: Console, text: str) -> None:
    """How far a command has got."""
    console.print(text, style="dim", markup=False, soft_wrap=True)


def patience(console: Console) -> Patience:
    """Waits for a vendor, and says so."""

    def waits(seconds: float, reason: str) -> None:
        console.print(f"waits {seconds:.0f} s: {reason}", style="yellow", markup=False, soft_wrap=True)

    return Patience(tell=waits)


async def answers(url: str) -> bool:
    """Whether a GET of a loopback URL is answered 200."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


def run(main: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`asyncio.run` on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main(*args, **kwargs))
