"""`POST /webhooks/stripe`: verify, accept, answer. The 2xx goes out only after the event is durable.

    400  not signed by Stripe, too old, or from the future: counted, nothing stored
    400  signed, but not an event: the raw body is kept for a person
    408  the body did not arrive in time
    413  larger than the limit
    503  the database is away, or too many large bodies are on their way: Stripe will send it again
    200  everything else, also repeats, unknown types, other accounts and old API versions

Concurrent requests share transactions (`hub.grouping`): an fsync costs more than everything else here together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from hub import envelope, log, signature, store
from hub.db import SQL, UNAVAILABLE, Connection, Database
from hub.errors import EnvelopeError, SignatureError
from hub.grouping import Grouper
from hub.metrics import Metrics
from hub.routing import Router
from hub.store import Accepted

MOST_IN_A_GROUP = 32
"""Small, so that two groups are on their way: while PostgreSQL writes one, the next is read and checked. In a group of
all that wait, each would wait for the other (`hub/DESIGN.md`, "Where the time goes").
"""
SMALL = 64 * 1024
RETRY_SOON = ((b"retry-after", b"5"),)

_log = log.get()


Header: TypeAlias = tuple[bytes, bytes]


class Answer(NamedTuple):
    """What goes back."""

    status: int
    headers: list[Header]
    body: bytes


def answer(status: int, content: dict[str, Any], *headers: Header) -> Answer:
    """A JSON answer."""
    body = orjson.dumps(content)
    length = (b"content-length", str(len(body)).encode())
    return Answer(status, [(b"content-type", b"application/json"), length, *headers], body)


ACCEPTED = answer(200, {"received": True, "repeat": False})
REPEAT = answer(200, {"received": True, "repeat": True})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost us."""

    body_bytes: int = 2**20
    large_bytes: int = 128 * 2**20
    """Of all large bodies together that are being received. A body up to `SMALL` is not counted: who sends slow large
    ones cannot keep out an ordinary event, which has a few KB.
    """
    body_seconds: float = 10.0
    """A client slower than this at sending its body is cut off."""
    store_seconds: float = 8.0
    """A group that takes longer than this to commit is answered 503: Stripe's own patience ends not much later."""


class Intake:
    """The webhook endpoint, a plain ASGI application, and the group commit behind it.

    It speaks ASGI itself: request and response objects, and a task for each time limit, cost more than verifying,
    reading and storing an event.
    """

    def __init__(
        self,
        db: Database,
        router: Router,
        secrets: Sequence[bytes],
        clock: Callable[[], float],
        metrics: Metrics,
        limits: Limits = Limits(),
    ) -> None:
        if not secrets:
            raise ValueError("the intake needs at least one webhook signing secret")
        self._db, self._router, self._secrets = db, router, tuple(secrets)
        self._clock, self._limits = clock, limits
        self._seconds = metrics.ack_seconds
        self._results: dict[str, Any] = {}
        self._metrics = metrics
        self._large = 0
        """Bytes of large bodies that are being received."""
        self._grouper: Grouper[Accepted, int | None] = Grouper(
            self._write,
            most=MOST_IN_A_GROUP,
            # A second waits for the first at the row of the lake's lane, but has done most of its work by then; and
            # where the disk is slow, two are on their way to it.
            lanes=2,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint."""
        try:
            answer = await self._answer(dict(scope["headers"]), receive)
        except ClientDisconnect:
            self._count("disconnected")
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, headers: dict[bytes, bytes], receive: Receive) -> Answer:
        started = self._clock()
        deadline = _Deadline(self._limits.body_seconds)
        try:
            body = await self._body(headers, receive)
        except asyncio.CancelledError:
            if not deadline.passed():
                raise
            return self._refuse(408, "slow_body", f"the body did not arrive within {self._limits.body_seconds:g} s")
        finally:
            deadline.met()
        if isinstance(body, Answer):
            return body
        try:
            signed = headers.get(b"stripe-signature", b"").decode("latin-1")
            signature.verify(body, signed, self._secrets, started)
        except SignatureError as error:
            return self._refuse(400, error.reason, str(error))
        received_at = datetime.fromtimestamp(started, UTC)
        try:
            event = envelope.read(body, received_at)
        except EnvelopeError as error:
            return await self._keep(body, str(error), received_at)
        accepted = self._router.decide(event, received_at)
        try:
            seq = await self._grouper.put(accepted)
        except UNAVAILABLE as error:
            return self._unavailable(error)
        repeat = seq is None
        self._count("repeat" if repeat else "accepted")
        self._seconds.observe(self._clock() - started)
        _log.info(
            "received",
            id=event.id,
            type=event.type,
            object=event.object_id,
            repeat=repeat,
            disposition=accepted.disposition,
            to=[r.destination for r in accepted.routes],
        )
        return REPEAT if repeat else ACCEPTED

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | Answer:
        """The whole body, or a refusal once it is larger than allowed: it is never read to the end then."""
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self._limits.body_bytes):
            return self._too_large()
        part, more = await _part(receive)
        if len(part) > self._limits.body_bytes:
            return self._too_large()
        return await self._rest(bytearray(part), receive) if more else part

    async def _rest(self, body: bytearray, receive: Receive) -> bytes | Answer:
        """A body that comes in parts, in one piece of memory however small they are."""
        counted, more = 0, True
        try:
            while more:
                part, more = await _part(receive)
                body += part
                if len(body) > self._limits.body_bytes:
                    return self._too_large()
                if len(body) > SMALL:
                    self._large += len(body) - counted
                    counted = len(body)
                    if self._large > self._limits.large_bytes:
                        return self._refuse(
                            503, "busy", "too many large bodies are on their way; send it again", RETRY_SOON
                        )
            return bytes(body)
        finally:
            self._large -= counted

    def _too_large(self) -> Answer:
        return self._refuse(413, "too_large", f"the body is larger than {self._limits.body_bytes} bytes")

    async def _write(self, group: Sequence[Accepted]) -> list[int | None]:
        """One transaction for a group. An id twice in it was stored once: the first is new, the second a repeat."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        async with asyncio.timeout(self._limits.store_seconds):
            fresh = await self._db.run_one(store.accept, group, now)
        return [fresh.pop(item.event.id, None) for item in group]

    async def _keep(self, body: bytes, reason: str, received_at: datetime) -> Answer:
        try:
            kept = await self._db.run(_keep_rejected, received_at, reason, body)
        except UNAVAILABLE as error:
            return self._unavailable(error)
        return self._refuse(400, "not_an_event", f"{reason}; the body is kept as rejected body {kept}")

    def _unavailable(self, error: BaseException) -> Answer:
        return self._refuse(
            503, "store_unavailable", f"the event store is away ({type(error).__name__}); send it again", RETRY_SOON
        )

    def _refuse(self, status: int, reason: str, message: str, headers: Sequence[Header] = ()) -> Answer:
        self._count(reason)
        _log.warning("refused", status=status, reason=reason)
        return answer(status, {"error": {"code": reason, "message": message}}, *headers)

    def _count(self, result: str) -> None:
        child = self._results.get(result)
        if child is None:
            child = self._results[result] = self._metrics.received.labels(result)
        child.inc()


class _Deadline:
    """What `asyncio.timeout` does, for the one place where its cost shows: a single timer, cancelled when met."""

    __slots__ = ("_passed", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._passed = False
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    def _pass(self) -> None:
        self._passed = True
        if self._task is not None:
            self._task.cancel()

    def passed(self) -> bool:
        """Whether the cancellation that was just caught is ours; if so it is taken back."""
        if self._passed and self._task is not None:
            return self._task.uncancel() == 0
        return False

    def met(self) -> None:
        """In time."""
        self._timer.cancel()


async def _part(receive: Receive) -> tuple[bytes, bool]:
    """The next part of a body, and whether more is to come. Raises `ClientDisconnect`."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _keep_rejected(connection: Connection[Any], received_at: datetime, reason: str, body: bytes) -> int:
    kept: int = await connection.fetchval(SQL["keep_rejected"], received_at, reason, body)
    return kept
