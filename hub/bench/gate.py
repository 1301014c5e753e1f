"""A door in front of one vendor that can be shut: what a network does that no simulator can, refusing and hanging."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

from hub.commands import common

Mode = Literal["open", "down", "hanging"]


class Gate:
    """Passes connections on to a port of this machine.

    open      what comes is passed on, both ways
    down      nobody listens: connections are refused
    hanging   connections are taken and requests are read, and nothing is ever answered

    A change of mode cuts all connections there are.
    """

    def __init__(self, to_port: int) -> None:
        self.port = common.free_port()
        self._to, self._mode = to_port, "open"
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def set(self, mode: Mode) -> None:
        """From now on."""
        await self.close()
        self._mode = mode
        if mode != "down":
            self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Nobody listens; everything is cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            # A cut connection is what this is for.
            with contextlib.suppress(OSError):
                if self._mode == "hanging":
                    while await reader.read(65536):
                        pass
                else:
                    await self._relay(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", self._to)
        self._open.add(there)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, there))
                group.create_task(_pass_on(back, writer))
        finally:
            self._open.discard(there)
            there.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the one side ends; then the other is told so."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
