"""What a connection may cost: uvicorn's HTTP/1.1 protocol, with an end to everything a client can leave unfinished.

uvicorn itself takes heads of any size, waits for their end without limit, queues any number of pipelined requests and
keeps as many connections as there are file descriptors. Here, for every connection:

    head         its size, the number of its headers and the length of its address are limited: 431, 414
    slow         a head, the rest of a request, and the reading of an answer have a time: 408, or it is closed
    large        more bytes than any request needs, a body in thousands of tiny chunks, an endless trailer: 400, closed
    pipelined    so many requests may wait for the answer to the one before, more closes the connection
    full         the connection that has waited longest for its client makes room for a new one; only if all are at
                 work the new one gets 503. So connections that are only held open cannot keep a webhook out

A request pays for this with some assignments and comparisons: nothing is scheduled for it, times are looked at
twice a second for all connections together (`Guard.sweep`).
"""

from __future__ import annotations

import math
import resource
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub import log

PIECE = 16 * 1024
"""Bytes given to the parser at once: bounds what one read from the network can make of itself before it is judged."""
FEW_CHUNKS, LEAST_CHUNK = 1000, 64
"""A body in more chunks than this is refused if they are smaller than this many bytes on average: each costs a call."""
SPARE_FILES = 256
"""File descriptors beside those of connections: the database, logs, what libraries open."""
LINGER = 2.0
"""Seconds in which what a client still sends is thrown away after it was turned away: closed at once, the connection
would be reset, and the client would not see the answer."""
CANDIDATES = 64
"""Connections found at once that could make room: looking through all of them for each new one would be work an
attacker could order."""

_log = log.get()
_ANNOUNCE_A_BODY = (b"content-length", b"transfer-encoding")
_NOWHERE: deque[tuple[bytes, bytes]] = deque(maxlen=0)
"""Where trailers go: they come after the request was handed on, and nobody reads them."""


NOTHING, HEAD, BODY, PATIENCE, LEAVE = range(5)
"""What the client of a connection owes us next. Nothing: all is answered, another request may come. Patience: its
request is complete, it is our turn. Leave: it was turned away, and reads why. Plain numbers: looking up an
enumeration's members would cost more than all that is done with them.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed. Sizes in bytes, times in seconds; None: no limit."""

    connections: int = 4096
    head_bytes: int = 16 * 1024
    """Request line and headers together; a head that arrives in pieces may be one piece larger before it is noticed."""
    headers: int = 100
    address_bytes: int = 8 * 1024
    message_bytes: int | None = None
    """A whole request as it comes over the wire, framing included."""
    pipelined: int = 100
    head_seconds: float = 10.0
    """From the connection, or the first byte of a further request, to the end of the head."""
    request_seconds: float = 30.0
    """From the end of the head to the end of the body; also for how long an answer may wait to be read."""


class Guard:
    """What all connections of a server share. `refused(reason)` is called for each that is turned away."""

    def __init__(
        self,
        limits: Limits = Limits(),
        refused: Callable[[str], None] = lambda _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self._refused, self._clock = limits, refused, clock
        self.now = clock()
        """As of the last sweep: reading it is cheaper than asking the system, and exact enough."""
        self._reasons: Counter[str] = Counter()
        self._oldest: list[tuple[float, GuardedProtocol]] = []

    def protocol(self) -> type[GuardedProtocol]:
        """The class that uvicorn makes an instance of for each connection."""
        return type("Guarded", (GuardedProtocol,), {"guard": self})

    def count(self, reason: str) -> None:
        """One more was turned away."""
        self._refused(reason)
        self._reasons[reason] += 1

    def sweep(self, connections: Collection[Any]) -> None:
        """Close what has had its time; call it about twice a second. One log line for all that was turned away."""
        self.now = self._clock()
        for connection in list(connections):
            connection.look(self.now)
        if self._reasons:
            _log.warning("turned_away", **self._reasons)
            self._reasons.clear()

    def make_room(self, connections: Collection[Any], new: GuardedProtocol) -> bool:
        """Close the connection that has waited longest for its client. False if there is none but the new one."""
        for again in (True, False):
            while self._oldest:
                since, found = self._oldest.pop()
                if found.since == since and found.owes != PATIENCE and not found.transport.is_closing():
                    found.refuse(503, "full")
                    return True
            if again:
                waiting = (c for c in connections if c.owes != PATIENCE and c is not new)
                found_now = sorted(((c.since, c) for c in waiting if not c.transport.is_closing()), key=lambda p: p[0])
                self._oldest = found_now[:CANDIDATES][::-1]
        return False


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    guard: Guard

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owes = HEAD
        self.since = self.guard.now
        """When it began to owe that."""
        self._size = 0
        """Bytes of the current request so far; up to one piece too many, which may belong to the one before."""
        self._piece = 0
        self._chunks = 0
        self._why = (400, "malformed")
        """What to say if the parser stops."""
        self._deaf = False
        self._unread_since: float | None = None
        self._closing_since: float | None = None
        limits = self.guard.limits
        # A head is judged exactly when it is complete, a request as a whole with a piece of tolerance.
        self._surely_too_large = limits.head_bytes + PIECE

    # From the network -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """A connection more: is there room?"""
        super().connection_made(transport)
        if len(self.connections) > self.guard.limits.connections and not self.guard.make_room(self.connections, self):
            self.refuse(503, "full")

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, in pieces, and each of them judged."""
        if self._deaf:
            return
        if self.owes == NOTHING:
            self._begin(HEAD)
        if len(data) <= PIECE:
            self._feed(data)
            return
        for start in range(0, len(data), PIECE):
            if not self._feed(data[start : start + PIECE]):
                return

    def _feed(self, piece: bytes) -> bool:
        """Parse it; whether more may follow."""
        self._piece = len(piece)
        self._size += self._piece
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            self.refuse(*self._why)
        except httptools.HttpParserUpgrade:
            # The request is answered as what it is, in HTTP/1.1, and what follows is not read.
            self._deaf = True
            self.cycle.keep_alive = False
        else:
            if self._size > self._surely_too_large:
                self._judge_size()
        return not (self._deaf or self.transport.is_closing())

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        super().pause_writing()
        self._unread_since = self.guard.now

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._unread_since = None

    # From the parser --------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins; with pipelining in the middle of a piece."""
        super().on_message_begin()
        if self.owes != HEAD:
            self._begin(HEAD)
        self._size = self._piece
        self._chunks = 0

    def on_headers_complete(self) -> None:
        """The head is there. What is wrong with it is raised, which stops the parser."""
        limits = self.guard.limits
        if len(self.headers) > limits.headers or (self._size > limits.head_bytes and self._head() > limits.head_bytes):
            self._stop(431, "head_too_large")
        if len(self.url) > limits.address_bytes:
            self._stop(414, "address_too_long")
        if len(self.pipeline) >= limits.pipelined:
            self._stop(400, "pipelined")
        if self.parser.should_upgrade() and any(name in _ANNOUNCE_A_BODY for name, _ in self.headers):
            self._stop(400, "upgrade")  # the parser would leave the body out
        super().on_headers_complete()
        self.headers = _NOWHERE  # type: ignore[assignment]  # all that is done with it is append
        self._begin(BODY)

    def on_chunk_header(self) -> None:
        """A chunk begins: only in bodies that come so."""
        self._chunks += 1
        if self._chunks > FEW_CHUNKS and self._size < self._chunks * LEAST_CHUNK:
            self._stop(400, "tiny_chunks")

    def on_message_complete(self) -> None:
        """The request is complete; its answer may even have been given already."""
        super().on_message_complete()
        self._begin(NOTHING if self.cycle.response_complete else PATIENCE)

    def on_response_complete(self) -> None:
        """Answered. As uvicorn's, without its timer for the time until the next request, which `look` sees to: that
        saves about what everything else here costs. What is left of a body that nobody wanted still has its time.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.owes == PATIENCE:
            self._begin(NOTHING)

    # Judging ----------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Has this connection had its time?"""
        limits, waited = self.guard.limits, now - self.since
        if self.transport.is_closing():
            # An answer that is not fetched keeps even a closed connection open.
            self._closing_since = self._closing_since or now
            if now - self._closing_since > limits.head_seconds:
                self.transport.abort()
        elif self._unread_since is not None and now - self._unread_since > limits.request_seconds:
            self.guard.count("slow_reader")
            self.transport.abort()
        elif self.owes == HEAD and waited > limits.head_seconds:
            self.refuse(408, "slow_head")
        elif self.owes == BODY and waited > limits.request_seconds:
            self.refuse(408, "slow_request")
        elif waited > {NOTHING: self.timeout_keep_alive, LEAVE: LINGER}.get(self.owes, math.inf):
            self.transport.close()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        if self.owes == LEAVE:
            self.transport.close()

    def refuse(self, status: int, reason: str) -> None:
        """Turn it away: with an answer where one is due, and then no more is read. Answers of earlier requests that are
        still being worked on are given first.
        """
        self.guard.count(reason)
        self._deaf = True
        cycle: Any = self.cycle  # None before the first request
        waits = cycle is not None and not cycle.response_complete
        if self.owes == BODY and waits and not self.pipeline and not cycle.response_started:
            cycle.disconnected = True  # for the application: it has nobody to answer any more
            cycle.message_event.set()
            self._answer(status, reason)
        elif self.owes == HEAD and not waits:
            self._answer(status, reason)
        elif self.owes == HEAD:
            cycle.keep_alive = False
        else:
            self.transport.close()
        if reason == "full":
            self.transport.close()  # its place is needed now

    def _answer(self, status: int, reason: str) -> None:
        body = b'{"error":{"code":"%b","message":"%b"}}' % (reason.encode(), HTTPStatus(status).phrase.encode())
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self.transport.write_eof()
        self.flow.resume_reading()
        self._begin(LEAVE)

    def _begin(self, owes: int) -> None:
        self.owes, self.since = owes, self.guard.now

    def _stop(self, status: int, reason: str) -> None:
        self._why = (status, reason)
        raise httptools.HttpParserError(reason)

    def _head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _judge_size(self) -> None:
        most = self.guard.limits.message_bytes
        if self.owes == HEAD:
            self.refuse(431, "head_too_large")
        elif self.owes == BODY and most is not None and self._size > most:
            self.refuse(413, "request_too_large")


def allow_files(connections: int) -> int:
    """Raise this process's limit of open files to what so many connections need. Returns how many connections there may
    be: fewer where the system's hard limit is lower. `ulimit -Hn` shows that.
    """
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = max(16, soft - SPARE_FILES)
    _log.warning("fewer_connections", wanted=connections, allowed=allowed, open_files=soft)
    return allowed
