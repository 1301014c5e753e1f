"""Serve an ASGI application on a free loopback port, over real HTTP, for the length of a `with` block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    """Ends as soon as it is asked to and has answered what is under way; uvicorn looks every tenth of a second, which
    hundreds of servers of a test run add up to minutes.
    """

    async def main_loop(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        while not self._over.is_set():
            await self.on_tick(0)  # the Date header of the answers
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._over.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.005)

    def end(self) -> None:
        """To be called from another thread, once it has started."""
        self._loop.call_soon_threadsafe(self._over.set)


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Yields the base address, e.g. `http://127.0.0.1:40123`. The server runs in a thread with its own event loop."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False)
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError("the test server did not start")
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.end()
        thread.join(10)
        sock.close()
