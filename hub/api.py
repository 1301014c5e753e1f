"""`/api/v1`: what happened, what waits for a person, and the buttons. Described for programs in `hub/openapi.yaml`.

Every answer is JSON; every error is `{"error": {"code", "message"}}`:

    400  a parameter or field is unknown or wrong; the message names it
    401  no token, or not ours
    404  there is no such thing
    405  the path does not have that method
    409  it cannot be done to this delivery or destination now; the message says what it is in
    413  a body larger than a reason can be
    500  a fault in the hub itself; the log has it
    503  the database is away, or the question too large for it

A reading changes nothing; a button is one transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import yaml
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub import auth, held, log, operate, parameters, reconcile, search
from hub.db import UNAVAILABLE, Database
from hub.errors import HubError
from hub.legible import is_text
from hub.mapping import Mappings
from hub.model import DeliveryState, Disposition, EventKind
from hub.operate import ConflictError, NotFoundError, ReasonError
from hub.parameters import ParameterError, Query
from hub.search import DeliveryFilter, EventFilter, Page

PREFIX = "/api/v1"
DESCRIPTION = Path(__file__).parent / "openapi.yaml"
PAGED = ("limit", "after")

Handler = Callable[[Request], Awaitable[Any]]

_log = log.get()


NO_MAPPINGS = Mappings({}, {})


def routes(db: Database, clock: Callable[[], float], token: str, mappings: Mappings = NO_MAPPINGS) -> list[Route]:
    """All routes of the API. `clock`: Unix seconds; `mappings`: which records can be linked. Raises `ValueError` for an
    empty token."""
    reads, buttons = _Reads(db, clock), _Buttons(db, clock, mappings)
    described = _described()

    async def openapi(request: Request) -> Any:
        Query(request, ())
        return orjson.Fragment(described)

    # Ids of events and objects are the source's: one with a slash or a line break in it must be found too.
    register_url_convertor("any", _Any())
    table: dict[str, dict[str, Handler]] = {
        "/events": {"GET": reads.events},
        "/events/{id:any}": {"GET": reads.event},
        "/deliveries": {"GET": reads.deliveries},
        "/deliveries/{id}": {"GET": reads.delivery},
        "/deliveries/{id}/retry": {"POST": buttons.retry},
        "/deliveries/{id}/skip": {"POST": buttons.skip},
        "/deliveries/{id}/link": {"POST": buttons.link},
        "/dead-letters": {"GET": reads.dead_letters},
        "/objects/{id:any}": {"GET": reads.object},
        "/destinations": {"GET": reads.destinations},
        "/destinations/{name}/pause": {"POST": buttons.pause},
        "/destinations/{name}/resume": {"POST": buttons.resume},
        "/counts": {"GET": reads.counts},
        "/reconciliations": {"GET": reads.reconciliations},
        "/rejected-bodies": {"GET": reads.rejected_bodies},
        "/tax/held": {"GET": reads.tax_held},
    }
    guard = auth.Token(token)
    return [
        Route(f"{PREFIX}/openapi.json", Endpoint({"GET": openapi}, None)),
        *(Route(PREFIX + path, Endpoint(methods, guard)) for path, methods in table.items()),
        Route(PREFIX + "/{rest:any}", Endpoint({}, guard)),
    ]


@cache
def _described() -> bytes:
    """The description as JSON."""
    return orjson.dumps(yaml.load(DESCRIPTION.read_bytes(), Loader=yaml.CSafeLoader))


class _Any(Convertor[str]):
    """Starlette's `path`, but for line breaks too: what no route takes would be answered in Starlette's own words."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _RefusedError(HubError):
    """A request that no handler gets to see."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


class Endpoint:
    """One path: checks the token and the method, runs the handler, and gives every error its one shape."""

    def __init__(self, methods: Mapping[str, Handler], token: auth.Token | None) -> None:
        self.methods, self.token = methods, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = _json(await self._handler(request)(request))
        except Exception as error:  # noqa: BLE001 - every kind becomes an answer; what nobody foresaw is logged whole
            response = _refusal(error)
        await response(scope, receive, send)

    def _handler(self, request: Request) -> Handler:
        """Who answers this. Raises `_RefusedError`: no token, no such path, no such method."""
        if self.token is not None:
            given = request.headers.get("authorization")
            if not self.token.is_in(given):
                challenge = auth.REFUSED if given else auth.CHALLENGE
                message = "that is not this hub's API token" if given else "send `Authorization: Bearer <API token>`"
                raise _RefusedError(401, "unauthorized", message, {"www-authenticate": challenge})
        if not self.methods:
            raise _RefusedError(404, "not_found", f"there is no such path here; see {PREFIX}/openapi.json", {})
        handler = self.methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(self.methods)
            raise _RefusedError(405, "method_not_allowed", f"this path takes {allowed}", {"allow": allowed})
        return handler


def _refusal(error: Exception) -> Response:
    """What an error is answered with."""
    match error:
        case _RefusedError():
            answer = (error.status, error.code, str(error), error.headers)
        case ParameterError():
            answer = (error.status, "too_large" if error.status == 413 else "bad_request", str(error), {})
        case ReasonError():
            answer = (400, "bad_request", str(error), {})
        case NotFoundError():
            answer = (404, "not_found", str(error), {})
        case ConflictError():
            answer = (409, error.code, str(error), {})
        case ClientDisconnect():
            answer = (400, "bad_request", "the body did not arrive whole", {})
        case asyncpg.exceptions.QueryCanceledError():
            message = "that is too much to look through; ask for less, e.g. by object or event"
            answer = (503, "too_slow", message, {})
        case _ if isinstance(error, UNAVAILABLE):
            _log.warning("api_without_database", error=type(error).__name__)
            message = f"the database is away ({type(error).__name__}); try again"
            answer = (503, "store_unavailable", message, {"retry-after": "5"})
        case _:
            _log.error("api_failed", error=type(error).__name__, exc_info=error)
            answer = (500, "internal", f"a fault in the hub ({type(error).__name__}); its log has the details", {})
    status, code, message, headers = answer
    return _json({"error": {"code": code, "message": message}}, status, headers)


class _Reads:
    """The questions."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db, self._clock = db, clock

    async def events(self, request: Request) -> Any:
        names = ("type", "object", "customer", "disposition", "kind", "since", "until")
        query = Query(request, names + PAGED)
        where = EventFilter(
            type=query.text("type"),
            object=query.text("object"),
            customer=query.text("customer"),
            disposition=query.one_of("disposition", Disposition),
            kind=query.one_of("kind", EventKind),
            since=query.moment("since"),
            until=query.moment("until"),
        )
        limit, after = query.limit(), query.after()
        return _paged(await self._db.run(search.reading, search.events, where, limit, after))

    async def event(self, request: Request) -> Any:
        Query(request, ())
        event_id = _path_text(request, "id")
        found = await self._db.run(search.reading, search.event, event_id)
        if found is None:
            raise NotFoundError(f"there is no event {event_id}")
        return found | {"body": None if found["body"] is None else _as_received(found["body"])}

    async def deliveries(self, request: Request) -> Any:
        query = Query(request, ("state", "destination", "object", "event", *PAGED))
        where = DeliveryFilter(
            states=query.some_of("state", DeliveryState),
            destination=await self._destination(query),
            object=query.text("object"),
            event=query.text("event"),
        )
        limit, after = query.limit(), query.after()
        return _paged(await self._db.run(search.reading, search.deliveries, where, limit, after))

    async def delivery(self, request: Request) -> Any:
        Query(request, ())
        delivery_id = _path_number(request)
        found = await self._db.run(search.reading, search.delivery, delivery_id)
        if found is None:
            raise NotFoundError(f"there is no delivery {delivery_id}")
        return found

    async def dead_letters(self, request: Request) -> Any:
        query = Query(request, ("destination", *PAGED))
        destination, limit, after = await self._destination(query), query.limit(), query.after()
        return _paged(await self._db.run(search.reading, search.dead_letters, destination, limit, after))

    async def object(self, request: Request) -> Any:
        Query(request, ())
        object_id = _path_text(request, "id")
        found = await self._db.run(search.reading, search.history, object_id)
        if found is None:
            raise NotFoundError(f"{object_id} was never seen: no event is about it, and no record was made for it")
        return found

    async def destinations(self, request: Request) -> Any:
        Query(request, ())
        now = _now(self._clock)
        return {"items": await self._db.run(search.reading, search.destinations, now)}

    async def counts(self, request: Request) -> Any:
        Query(request, ())
        return await self._db.run(search.reading, search.counts)

    async def reconciliations(self, request: Request) -> Any:
        query = Query(request, ("destination", *PAGED))
        destination, limit, after = await self._destination(query), query.limit(), query.after()
        return _paged(await self._db.run(search.reading, reconcile.kept, destination, limit, after))

    async def rejected_bodies(self, request: Request) -> Any:
        query = Query(request, PAGED)
        limit, after = query.limit(), query.after()
        return _paged(await self._db.run(search.reading, search.rejected_bodies, limit, after))

    async def tax_held(self, request: Request) -> Any:
        Query(request, ())
        return await self._db.run(search.reading, held.held, _now(self._clock))

    async def _destination(self, query: Query) -> str | None:
        """A mistyped name would otherwise look as if nothing were wrong there."""
        name = query.text("destination")
        if name is not None and not await self._db.run(search.reading, search.destination_is_known, name):
            raise ParameterError(
                f"destination is {name[:60]!r}, which this hub has never had; see {PREFIX}/destinations"
            )
        return name


class _Buttons:
    """The verbs. Each is logged with what it moved; the reason is kept with the delivery or destination."""

    def __init__(self, db: Database, clock: Callable[[], float], mappings: Mappings) -> None:
        self._db, self._clock, self._mappings = db, clock, mappings

    async def retry(self, request: Request) -> Any:
        Query(request, ())
        await parameters.fields(request, ())
        delivery_id = _path_number(request)
        done = await self._db.run(operate.retry, delivery_id, _now(self._clock))
        _log.info("retried", delivery=delivery_id, deliveries=done.deliveries, released=done.released)
        return {"retried": done.deliveries, "released": done.released, "note": done.note}

    async def skip(self, request: Request) -> Any:
        Query(request, ())
        reason = await _reason(request)
        delivery_id = _path_number(request)
        done = await self._db.run(operate.skip, delivery_id, reason, _now(self._clock))
        _log.info("skipped", delivery=delivery_id, deliveries=done.deliveries, released=done.released)
        return {"skipped": done.deliveries, "released": done.released, "note": done.note}

    async def link(self, request: Request) -> Any:
        Query(request, ())
        given = await parameters.texts(request, required=("vendor_id", "reason"), optional=("record", "instead_of"))
        delivery_id = _path_number(request)
        existing = operate.Existing(given["vendor_id"], given["reason"], given.get("record"), given.get("instead_of"))
        done = await self._db.run(operate.link, delivery_id, existing, self._mappings, _now(self._clock))
        _log.info("linked", delivery=delivery_id, record=done.record, key=done.key, released=done.released)
        what = {"object_id": done.object_id, "record": done.record, "key": done.key, "vendor_id": done.vendor_id}
        return {"linked": what, "released": done.released, "note": done.note}

    async def pause(self, request: Request) -> Any:
        Query(request, ())
        reason = await _reason(request)
        name, now = _path_text(request, "name"), _now(self._clock)
        await self._db.run(operate.pause, name, reason, now)
        _log.info("paused", destination=name)
        return {"name": name, "paused": True, "paused_until": search.UNTIL_RESUMED, "reason": reason.strip()}

    async def resume(self, request: Request) -> Any:
        Query(request, ())
        await parameters.fields(request, ())
        name, now = _path_text(request, "name"), _now(self._clock)
        await self._db.run(operate.resume, name, now)
        _log.info("resumed", destination=name)
        return {"name": name, "paused": False, "paused_until": None, "reason": None}


async def _reason(request: Request) -> str:
    return (await parameters.texts(request, required=("reason",)))["reason"]


def _path_number(request: Request) -> int:
    text = str(request.path_params["id"])
    number = parameters.whole_number(text)
    if number is None:
        raise NotFoundError(f"there is no delivery {text[:60]}: its id is a number")
    return number


def _path_text(request: Request, name: str) -> str:
    text = str(request.path_params[name])
    if not text or len(text) > parameters.LONGEST or not is_text(text):
        raise NotFoundError(f"that is not {name} of anything")
    return text


def _as_received(body: bytes) -> orjson.Fragment | None:
    """The very bytes, not a reading of them: no number loses a digit. None if they are no JSON."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return orjson.Fragment(body)


def _paged(page: Page) -> dict[str, Any]:
    return asdict(page) | {"next": parameters.cursor(page.next)}


def _now(clock: Callable[[], float]) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_UTC_Z)
    # Events carry names and addresses: no proxy or browser keeps them.
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, "application/json")
