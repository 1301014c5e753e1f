"""Group commit: many callers' items become one call. What makes one fsync serve many webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Grouper(Generic[Item, Result]):
    """`await grouper.put(item)` returns this item's result once the group it went with has been written.

    While `lanes` groups are being written the next one collects, so the group size follows the load: one item when it
    is quiet, hundreds when it is not. An error fails exactly the items of that group, for each caller to judge.
    """

    def __init__(
        self, write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, most: int, lanes: int = 2
    ) -> None:
        self._write = write
        self._most = most
        self._free = lanes
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, item: Item) -> Result:
        """The result for `item`. Raises what `write` raised for its group."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # let every request that is already readable join this group
                group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                if group:
                    await self._write_group(group)
        finally:
            self._free += 1

    async def _write_group(self, group: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._write([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - handed to every caller of the group, none is lost
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
