"""The side door `/__sandbox/`: requests, faults, state, reset, and moving Stripe on. JSON in, JSON out, strict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.sandbox.faults import KINDS, FaultError, Faults
from connectors.sandbox.recorder import Recorder
from connectors.simulator import Simulator

MAX_BODY = 1 << 20
Handler = Callable[[Request], Awaitable[Response]]


class StripeDriver(Protocol):
    """What the Stripe simulator can do beyond `Simulator`."""

    def emit(self, event_type: str, overrides: dict[str, Any] | None = None) -> Any:
        """Make an event of this type about an object with these fields."""
        ...

    def emit_event(self, event: dict[str, Any]) -> Any:
        """Send this event as it is."""
        ...

    def advance(self, seconds: int) -> Any:
        """Move the simulator's clock, and everything that happens meanwhile."""
        ...


class Side:
    """The routes of the side door."""

    def __init__(
        self,
        simulators: Mapping[str, Simulator],
        recorder: Recorder,
        faults: Faults,
        about: Callable[[], dict[str, Any]],
    ) -> None:
        self._simulators, self._recorder, self._faults, self._about = simulators, recorder, faults, about
        self._on_reset: list[Callable[[], None]] = []

    def on_reset(self, act: Callable[[], None]) -> None:
        """Also do this at a reset."""
        self._on_reset.append(act)

    def routes(self) -> list[Route]:
        """For Starlette."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/__sandbox/", self.index),
            ("POST", "/__sandbox/reset", self.reset),
            ("GET", "/__sandbox/requests", self.requests),
            ("DELETE", "/__sandbox/requests", self.forget_requests),
            ("GET", "/__sandbox/faults", self.faults),
            ("POST", "/__sandbox/faults", self.add_fault),
            ("DELETE", "/__sandbox/faults", self.clear_faults),
            ("GET", "/__sandbox/state/{vendor}", self.state),
            ("POST", "/__sandbox/stripe/emit", self.emit),
            ("POST", "/__sandbox/stripe/advance", self.advance),
        ]
        by_path: dict[str, dict[str, Handler]] = {}
        for method, path, handler in table:
            by_path.setdefault(path, {})[method] = handler
        self.paths = [f"{method} {path}" for method, path, _ in table]
        return [Route(path, _by_method(methods), methods=list(methods)) for path, methods in by_path.items()]

    async def index(self, request: Request) -> Response:
        """What is here."""
        _query(request, ())
        vendors = {vendor: f"/{vendor}" for vendor in self._simulators}
        return answer({"vendors": vendors, "side_door": self.paths, "fault_kinds": list(KINDS), **self._about()})

    async def reset(self, request: Request) -> Response:
        """All vendors from the seed again; no requests, no faults."""
        _keys(await _object(request, empty=True), ())
        for simulator in self._simulators.values():
            simulator.reset()
        self._recorder.clear()
        self._faults.clear()
        for act in self._on_reset:
            act()
        return answer({"reset": sorted(self._simulators)})

    async def requests(self, request: Request) -> Response:
        """Counts of each vendor and the last requests; `?vendor=`, `?limit=` (default 1000)."""
        query = _query(request, ("vendor", "limit"))
        vendor = query.get("vendor")
        if vendor is not None:
            self._known(vendor)
        limit = query.get("limit", "1000")
        if not limit.isascii() or not limit.isdigit() or int(limit) == 0:
            raise HTTPException(400, f"limit is {limit!r}; it is a whole number from 1")
        return answer(self._recorder.shown(vendor, int(limit)))

    async def forget_requests(self, request: Request) -> Response:
        """Counts start again at nought."""
        _query(request, ())
        self._recorder.clear()
        return answer({"requests": 0})

    async def faults(self, request: Request) -> Response:
        """All faults with what they met and hit."""
        _query(request, ())
        return answer({"faults": self._faults.shown()})

    async def add_fault(self, request: Request) -> Response:
        """One fault; the answer has its id."""
        try:
            fault = self._faults.add(await _object(request))
        except FaultError as error:
            raise HTTPException(400, str(error)) from error
        return answer(fault.shown(), 201)

    async def clear_faults(self, request: Request) -> Response:
        """No more faults."""
        _query(request, ())
        return answer({"removed": self._faults.clear()})

    async def state(self, request: Request) -> Response:
        """All records of one vendor."""
        _query(request, ())
        vendor = request.path_params["vendor"]
        simulator = self._known(vendor)
        # S3 decodes Parquet for its answer, and so may take long; its state is not the event loop's. The others' is.
        found = await asyncio.to_thread(simulator.state) if vendor == "s3" else simulator.state()
        return answer(found)

    async def emit(self, request: Request) -> Response:
        """`{"type", "overrides"}`, `{"event": {...}}`, or an event itself."""
        body = await _object(request)
        stripe = self._stripe("emit")
        try:
            if body.get("object") in ("event", "v2.core.event"):
                sent = stripe.emit_event(body)
            elif "event" in body:
                _keys(body, ("event",))
                if not isinstance(body["event"], dict):
                    raise HTTPException(400, "event is not a JSON object")
                sent = stripe.emit_event(body["event"])
            else:
                _keys(body, ("type", "overrides"))
                overrides = body.get("overrides")
                if not isinstance(body.get("type"), str) or not isinstance(overrides, (dict, type(None))):
                    raise HTTPException(400, "an emit needs type (a string); overrides is a JSON object")
                sent = stripe.emit(body["type"], overrides)
        except (ValueError, KeyError, TypeError) as error:
            raise HTTPException(400, f"the Stripe simulator cannot emit that: {error}") from error
        return answer({"emitted": sent if isinstance(sent, (dict, list)) else None})

    async def advance(self, request: Request) -> Response:
        """`{"seconds": n}`: Stripe's clock moves, with everything that happens meanwhile."""
        body = await _object(request)
        _keys(body, ("seconds",))
        seconds = body.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= 10 * 366 * 86400:
            raise HTTPException(400, f"seconds is {seconds!r}; it is a whole number from 1 to ten years")
        self._stripe("advance").advance(seconds)
        return answer({"advanced": seconds})

    def _known(self, vendor: str) -> Simulator:
        if vendor not in self._simulators:
            raise HTTPException(404, f"no vendor {vendor!r}; known: {', '.join(self._simulators)}")
        return self._simulators[vendor]

    def _stripe(self, verb: str) -> StripeDriver:
        stripe: Any = self._known("stripe")
        if not hasattr(stripe, verb):
            raise HTTPException(501, f"this Stripe simulator cannot {verb}")
        driver: StripeDriver = stripe
        return driver


def answer(content: Any, status: int = 200) -> Response:
    """JSON; Decimals and times as text."""
    return Response(orjson.dumps(content, default=str), status, media_type="application/json")


def _by_method(methods: Mapping[str, Handler]) -> Handler:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return endpoint


def _query(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    _keys(dict(request.query_params), known)
    return dict(request.query_params)


def _keys(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise HTTPException(400, f"unknown: {', '.join(unknown)}; known: {', '.join(known) or 'nothing'}")


async def _object(request: Request, *, empty: bool = False) -> dict[str, Any]:
    _query(request, ())
    body = await request.body()
    if len(body) > MAX_BODY:
        raise HTTPException(413, f"the body has {len(body)} bytes; at most {MAX_BODY}")
    if empty and not body:
        return {}
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return decoded
