"""What runs by itself while the sandbox is up: sending webhooks, made-up business."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

_log = logging.getLogger(__name__)


class Background:
    """Named tasks and how they are. A task that ends in an error is logged and shown on the index page."""

    def __init__(self) -> None:
        self.status: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def running(self, name: str, work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
        """Runs `work` for the length of the block, then cancels it."""
        task = asyncio.create_task(work, name=name)
        self.status[name] = "running"
        task.add_done_callback(self._ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=10)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        name = task.get_name()
        if task.cancelled():
            self.status[name] = "stopped"
            return
        error = task.exception()
        self.status[name] = "ended" if error is None else f"failed: {type(error).__name__}: {error}"
        if error is not None:
            _log.error("sandbox: %s failed", name, exc_info=error)
