"""`POST /webhooks/stripe`: verify, accept, answer. The 2xx goes out only after the event is durable.

    400  not signed by Stripe, too old, or from the future: counted, nothing stored
    400  signed, but not an event: the raw body is kept for a person
    413  larger than the limit
    503  the database is away: Stripe will send it again
    200  everything else, also repeats, unknown types, other accounts and old API versions

Concurrent requests share transactions (`hub.grouping`): an fsync costs more than everything else here together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from hub import envelope, log, signature, store
from hub.db import SQL, UNAVAILABLE, Connection, Database
from hub.errors import EnvelopeError, SignatureError
from hub.grouping import Grouper
from hub.metrics import Metrics
from hub.routing import Router
from hub.store import Accepted

MOST_IN_A_GROUP = 256
RETRY_SOON = {"retry-after": "5"}

_log = log.get()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost us."""

    body_bytes: int = 2**20
    body_seconds: float = 10.0
    """A client slower than this at sending its body is cut off."""
    store_seconds: float = 8.0
    """Longer than this without a durable commit is answered 503: Stripe's own patience ends not much later."""


class Intake:
    """The webhook endpoint and the group commit behind it."""

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
        self._grouper: Grouper[Accepted, int | None] = Grouper(self._write, most=MOST_IN_A_GROUP)

    async def receive(self, request: Request) -> Response:  # noqa: PLR0911 - one return per answer in the list above
        """The endpoint."""
        started = self._clock()
        try:
            body = await asyncio.wait_for(self._body(request), self._limits.body_seconds)
        except TimeoutError:
            return self._refuse(408, "slow_body", f"the body did not arrive within {self._limits.body_seconds:g} s")
        except ClientDisconnect:
            return self._refuse(400, "disconnected", "the client went away before the body was complete")
        if body is None:
            return self._refuse(413, "too_large", f"the body is larger than {self._limits.body_bytes} bytes")
        try:
            signature.verify(body, request.headers.get("stripe-signature"), self._secrets, started)
        except SignatureError as error:
            return self._refuse(400, error.reason, str(error))
        received_at = datetime.fromtimestamp(started, UTC)
        try:
            event = envelope.read(body, received_at)
        except EnvelopeError as error:
            return await self._keep(body, str(error), received_at)
        accepted = self._router.decide(event, received_at)
        try:
            seq = await asyncio.wait_for(self._grouper.put(accepted), self._limits.store_seconds)
        except UNAVAILABLE as error:
            return self._unavailable(error)
        self._count("repeat" if seq is None else "accepted")
        self._seconds.observe(self._clock() - started)
        _log.info(
            "received",
            id=event.id,
            type=event.type,
            object=event.object_id,
            repeat=seq is None,
            disposition=accepted.disposition.value,
            to=[r.destination for r in accepted.routes],
        )
        return JSONResponse({"received": True, "repeat": seq is None})

    async def _body(self, request: Request) -> bytes | None:
        """The whole body, or None once it is larger than allowed: it is never read to the end then."""
        most = self._limits.body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            return None
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                return None
            parts.append(part)
        return b"".join(parts)

    async def _write(self, group: Sequence[Accepted]) -> list[int | None]:
        """One transaction for a group. An id twice in it was stored once: the first is new, the second a repeat."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        fresh = await self._db.run(store.accept, group, now)
        return [fresh.pop(item.event.id, None) for item in group]

    async def _keep(self, body: bytes, reason: str, received_at: datetime) -> Response:
        try:
            kept = await self._db.run(_keep_rejected, received_at, reason, body)
        except UNAVAILABLE as error:
            return self._unavailable(error)
        return self._refuse(400, "not_an_event", f"{reason}; the body is kept as rejected body {kept}")

    def _unavailable(self, error: BaseException) -> Response:
        return self._refuse(
            503, "store_unavailable", f"the event store is away ({type(error).__name__}); send it again", RETRY_SOON
        )

    def _refuse(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> Response:
        self._count(reason)
        _log.warning("refused", status=status, reason=reason)
        return JSONResponse({"error": {"code": reason, "message": message}}, status_code=status, headers=headers)

    def _count(self, result: str) -> None:
        child = self._results.get(result)
        if child is None:
            child = self._results[result] = self._metrics.received.labels(result)
        child.inc()


async def _keep_rejected(connection: Connection[Any], received_at: datetime, reason: str, body: bytes) -> int:
    kept: int = await connection.fetchval(SQL["keep_rejected"], received_at, reason, body)
    return kept
