"""How many requests may be under way at NetSuite at once."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Limit:
    """`async with limit:` around every request. One process's own; over all of them `Policy.concurrency` holds, which
    counts in the database."""

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)

    async def __aenter__(self) -> None:
        await self._free.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.release()
