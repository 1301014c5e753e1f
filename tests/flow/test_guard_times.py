"""Connections that nobody has any more use for end by themselves: on a real server, whose clock is moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from hub.commands.processes import Server, server
from hub.guard import LINGER, Guard, Limits
from tests.conftest import Clock

KEPT = 75.0
"""Seconds that `hub.commands.processes` keeps a connection which is not in use."""
LARGE = 32 * 2**20
"""Bytes that no system takes off our hands while nobody reads them."""


@dataclass
class Guarded:
    """A server that is looked after when the test says so."""

    server: Server
    guard: Guard
    clock: Clock
    port: int
    asked: list[str]
    """Paths of the requests that reached the application."""

    async def connections_after(self, seconds: float) -> int:
        """How many are left, so much later."""
        self.clock.advance(seconds)
        self.guard.sweep(self.server.server_state.connections)
        for _ in range(5):
            await asyncio.sleep(0.01)
        return len(self.server.server_state.connections)


@contextlib.asynccontextmanager
async def guarded() -> AsyncIterator[Guarded]:
    clock = Clock()
    guard = Guard(Limits(), clock=clock)
    asked: list[str] = []

    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        """`/large` gets so much that it does not fit into any buffer on the way."""
        assert scope["type"] == "http", "no lifespan here"
        asked.append(scope["path"])
        body = b"x" * (LARGE if scope["path"] == "/large" else 2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        at = server(answers, "127.0.0.1", 0, shutdown=1, guard=guard)
        running = asyncio.create_task(at.serve([listening]))
        while not at.started:  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.01)
        try:
            yield Guarded(at, guard, clock, listening.getsockname()[1], asked)
        finally:
            at.should_exit = True
            await running


async def test_a_connection_that_is_not_used_any_more_is_closed() -> None:
    async with guarded() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        assert (await reader.readuntil(b"xx")).startswith(b"HTTP/1.1 200")
        assert await place.connections_after(KEPT - 1) == 1
        assert await place.connections_after(2) == 0
        assert await reader.read() == b""
        writer.close()


async def test_who_was_turned_away_can_read_why_and_is_then_let_go_even_if_it_stays() -> None:
    async with guarded() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(b"no HTTP\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 400")
        assert await place.connections_after(LINGER - 0.5) == 1
        assert await place.connections_after(1) == 0
        writer.close()


async def test_what_comes_after_it_was_turned_away_is_no_request_any_more() -> None:
    async with guarded() as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost:")
        connections: Any = place.server.server_state.connections
        while not any(c._size for c in connections):  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.01)
        assert await place.connections_after(Limits().head_seconds + 1) == 1
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 408")
        writer.write(b" hub\r\n\r\n")
        assert await place.connections_after(LINGER - 0.5) == 1
        assert place.asked == []
        writer.close()


async def test_a_last_answer_that_nobody_fetches_is_thrown_away() -> None:
    async with guarded() as place:
        with socket.socket() as deaf:
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", place.port))
            connections: Any = place.server.server_state.connections
            deaf.send(b"GET /large HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            while not any(c.transport.is_closing() for c in connections):  # noqa: ASYNC110 - a server tells nobody
                await asyncio.sleep(0.01)
            seconds = Limits().head_seconds
            assert await place.connections_after(1) == 1
            assert await place.connections_after(seconds - 1) == 1
            assert await place.connections_after(2) == 0
