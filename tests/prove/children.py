"""`hub <command>` as processes that can be killed, forked by `mother`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds until something that should happen is said not to."""


@dataclass
class Forked:
    """One of them."""

    mother: Mother
    pid: int
    log: Path
    code: int | None = None

    def ended(self) -> bool:
        if self.code is None:
            self.code = self.mother.ask({"child": self.pid, "flags": os.WNOHANG})
        return self.code is not None

    async def kill(self) -> None:
        """`kill -9`, if that is not done already."""
        if self.code != -signal.SIGKILL:
            await self.kill_now()

    async def kill_now(self) -> None:
        """`kill -9`. It must have been alive."""
        assert not self.ended(), f"ended by itself with {self.code}: {self.told()}"
        os.kill(self.pid, signal.SIGKILL)
        self.code = self.mother.ask({"child": self.pid, "flags": 0})
        assert self.code == -signal.SIGKILL

    async def end(self) -> int:
        """SIGTERM, and its exit code once it has ended."""
        assert not self.ended(), f"ended by itself with {self.code}: {self.told()}"
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while not self.ended():
            assert time.monotonic() < deadline, f"does not end: {self.told()}"
            await asyncio.sleep(0.02)
        assert self.code is not None
        return self.code

    async def until(self, what: str, check: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until `check` holds, while the process lives."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = check()
            if seen is True or (not isinstance(seen, bool) and await seen):
                return
            assert not self.ended(), f"ended with {self.code} while waiting for {what}: {self.told()}"
            assert time.monotonic() < deadline, f"{what} was not seen: {self.told()}"
            await asyncio.sleep(0.02)

    def told(self) -> str:
        return self.log.read_text()[-3000:]


class Mother:
    """Starts them. One order at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        # The tests' own folder last: a PYTHONPATH that was given may name another copy of the hub.
        path = ":".join([p for p in (clean.get("PYTHONPATH"),) if p] + [str(ROOT)])
        self._env = clean | {"PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.mother"],
            env=self._env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._ready = False

    def start(self, *argv: str, env: Mapping[str, str]) -> Forked:
        """`hub <argv>` with these settings and no others."""
        log = self._folder / f"{self._started}-{argv[0]}.log"
        self._started += 1
        log.touch()
        order = {"argv": argv, "env": {**self._env, **env, "COLUMNS": "200"}, "log": str(log), "cwd": str(self._folder)}
        return Forked(self, self.ask(order), log)

    def ask(self, order: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self._ready:
            assert orjson.loads(self.process.stdout.readline()) == "ready"
            self._ready = True
        self.process.stdin.write(orjson.dumps(order).decode() + "\n")
        self.process.stdin.flush()
        return orjson.loads(self.process.stdout.readline())


@contextlib.contextmanager
def mother(folder: Path) -> Iterator[Mother]:
    """While the block runs; her children end with it."""
    here = Mother(folder)
    try:
        yield here
    finally:
        with here.process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE)
