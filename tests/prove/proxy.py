"""A proxy in front of PostgreSQL that holds a statement still: a process can be killed exactly there.

It passes on what client and server say, message by message, and knows the statements by their text. A `Hold` waits for
one statement of `hub/sql` and stops the connection at one of three places:

    before       the server has not got the statement yet
    uncommitted  every statement of its transaction is carried out; the COMMIT is not passed on
    unheard      it is committed; the server's answer is not passed on

Nothing in the hub knows of it: a process is only given another address.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from hub.db import SQL

Place = Literal["before", "uncommitted", "unheard"]
SSL_REQUEST = 80877103
WENT = (asyncio.IncompleteReadError, ConnectionError)


@dataclass
class Hold:
    """Waits for a statement. `about`: texts that must be among its parameters, e.g. a destination, an object's id."""

    statement: str
    place: Place
    about: tuple[str, ...] = ()
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    taken: bool = False

    def meets(self, sql: str, parameters: bytes) -> bool:
        if self.taken or sql != SQL[self.statement]:
            return False
        return all(struct.pack("!i", len(one)) + one.encode() in parameters for one in self.about)

    def go_on(self) -> None:
        """Let the statement pass after all."""
        self.over.set()


@dataclass
class Proxy:
    """See the module. `async with proxied(dsn) as proxy`: whoever is to be held connects to `proxy.dsn`."""

    dsn: str
    holds: list[Hold] = field(default_factory=list)
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    def hold(self, statement: str, place: Place, *about: str) -> Hold:
        self.holds.append(Hold(statement, place, about))
        return self.holds[-1]

    async def cut(self) -> None:
        """Close every connection, forget every hold: what the dead had not been passed on never is."""
        self.holds.clear()
        connections = list(self.connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def take(self, sql: str, parameters: bytes) -> Hold | None:
        """The hold that this statement runs into, if any; each stops one statement."""
        for hold in self.holds:
            if hold.meets(sql, parameters):
                hold.taken = True
                return hold
        return None


@contextlib.asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[Proxy]:
    """`dsn`: of a server on a Unix socket, as the embedded one is."""
    parts = urlsplit(dsn)
    socket = parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432"
    proxy = Proxy("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy.connections.add(task)
        try:
            await _Session(proxy).run(reader, writer, socket)
        except asyncio.CancelledError:
            pass  # cut: streams would log it as an error of theirs
        finally:
            writer.close()  # also if it is cut while it still connects
            proxy.connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.dsn = f"postgresql://postgres:@127.0.0.1:{port}{parts.path}?sslmode=disable"
    try:
        yield proxy
    finally:
        server.close()
        await asyncio.sleep(0)  # whoever has just come is among the connections after this
        await proxy.cut()


class _Session:
    """One connection."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._texts: dict[bytes, str] = {}
        self._in_transaction = False
        self._at_commit: Hold | None = None
        self._deaf: Hold | None = None
        """What the server says from now on is not passed on."""

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, socket: str) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(socket)
        try:
            pumps = [
                asyncio.create_task(self._to_server(reader, writer, up_writer)),
                asyncio.create_task(self._to_client(up_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            up_writer.close()

    async def _to_server(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(*WENT):
            while True:
                size = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!i", size)[0] - 4)
                if struct.unpack("!i", body[:4])[0] != SSL_REQUEST:
                    break
                writer.write(b"N")
            server.write(size + body)
            while True:
                kind, message, body = await _message(reader)
                await self._ask(kind, body)
                server.write(message)
                await server.drain()

    async def _ask(self, kind: bytes, body: bytes) -> None:
        """A message of the client, before it is passed on."""
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._texts[name] = text.decode()
        elif kind == b"B":
            _, name, parameters = body.split(b"\0", 2)
            hold = self._proxy.take(self._texts.get(name, ""), parameters)
            if hold is None:
                return
            if hold.place == "before":
                await self._stand(hold)
            elif self._in_transaction:
                self._at_commit = hold
            else:
                assert hold.place == "unheard", "a statement by itself is committed with its execution"
                self._deaf = hold
        elif kind == b"Q" and body.startswith(b"COMMIT") and self._at_commit is not None:
            if self._at_commit.place == "uncommitted":
                await self._stand(self._at_commit)
            else:
                self._deaf = self._at_commit

    async def _stand(self, hold: Hold) -> None:
        hold.reached.set()
        await hold.over.wait()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*WENT):
            while True:
                kind, message, body = await _message(reader)
                if kind == b"Z":
                    self._in_transaction = body == b"T"
                if self._deaf is None:
                    writer.write(message)
                    await writer.drain()
                elif kind == b"Z" and body == b"I":
                    self._deaf.reached.set()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """Kind, the whole message, its content."""
    head = await reader.readexactly(5)
    body = await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
    return head[:1], head + body, body
