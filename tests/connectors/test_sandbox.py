"""The sandbox's wrapper: every fault as a real HTTP client sees it, recording, strictness. The vendor is a counter."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from connectors.sandbox.app import create
from connectors.sandbox.background import Background
from tests.serving import served


class Counter:
    """A vendor with one resource; strict about the rest."""

    app: ASGIApp

    def __init__(self) -> None:
        self.count = 0
        self.advanced = 0.0
        self.emitted: list[Any] = []
        self.app = Starlette(routes=[Route("/v1/things", self._things, methods=["GET", "POST"])])

    async def _things(self, request: Request) -> Response:
        if request.method == "POST":
            await request.body()
            self.count += 1
        return JSONResponse({"count": self.count, "url": str(request.url), "base": str(request.base_url)})

    def reset(self) -> None:
        self.count, self.advanced = 0, 0.0
        self.emitted.clear()

    def state(self) -> dict[str, Any]:
        return {"things": [{"id": n} for n in range(self.count)]}

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        known = {"limit": (429, {"retry-after": "7"}, b'{"why":"limit"}'), "expired": (401, {}, b'{"why":"expired"}')}
        return known[kind]

    def emit(self, event_type: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        if event_type == "no.such":
            raise ValueError("unknown type no.such")
        if event_type == "bug":
            raise ZeroDivisionError("a bug of the simulator")
        self.emitted.append((event_type, overrides))
        return {"id": "evt_1", "type": event_type}

    def emit_event(self, event: dict[str, Any]) -> dict[str, Any]:
        self.emitted.append(event)
        return event

    def advance(self, seconds: int) -> None:
        self.advanced += seconds


@dataclass
class Box:
    """A sandbox being served."""

    url: str
    stripe: Counter
    http: httpx.Client

    def fault(self, kind: str, *, match: dict[str, Any] | None = None, times: int | None = 1, **action: Any) -> None:
        asked = {"vendor": "stripe", "match": match or {}, "action": {"kind": kind, **action}, "times": times}
        answer = self.side("POST", "faults", json=asked)
        assert answer.status_code == 201, answer.text

    def side(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, f"{self.url}/__sandbox/{path}", **more)

    def get(self) -> httpx.Response:
        return self.http.get(f"{self.url}/stripe/v1/things")

    def post(self) -> httpx.Response:
        return self.http.post(f"{self.url}/stripe/v1/things", json={"n": 1})

    def until(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not check():
            assert time.monotonic() < deadline, self.recorded()
            time.sleep(0.01)

    def recorded(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.side("GET", "requests", params={"vendor": "stripe"}).json()["requests"]
        return found


@pytest.fixture(scope="module")
def shared() -> Iterator[Box]:
    stripe = Counter()
    app = create(seed=7, clock=lambda: 1000.0, simulators={"stripe": stripe, "netsuite": Counter()})
    with served(app) as url, httpx.Client(timeout=10) as http:
        yield Box(url, stripe, http)


@pytest.fixture
def box(shared: Box) -> Box:
    shared.side("POST", "reset").raise_for_status()
    return shared


# --- passing through


def test_without_faults_the_vendor_answers_and_knows_its_address(box: Box) -> None:
    answer = box.post()
    assert answer.status_code == 200
    assert answer.json() == {"count": 1, "url": f"{box.url}/stripe/v1/things", "base": f"{box.url}/stripe/"}
    assert box.http.get(f"{box.url}/stripe/v2/other").status_code == 404  # the vendor's own 404
    assert box.http.get(f"{box.url}/stripex/v1/things").json()["error"] == "Not Found"  # ours


# --- every kind of fault


def test_latency(box: Box) -> None:
    box.fault("latency", delay_ms=150)
    began = time.monotonic()
    assert box.get().status_code == 200
    assert time.monotonic() - began >= 0.15
    assert box.recorded()[0]["duration"] >= 0.149  # timers round to a millisecond


def test_latency_adds_to_another_fault(box: Box) -> None:
    box.fault("latency", delay_ms=100)
    box.fault("status", status=500)
    began = time.monotonic()
    assert box.get().status_code == 500
    assert time.monotonic() - began >= 0.1
    assert box.recorded()[0]["faults"] == [fault["id"] for fault in box.side("GET", "faults").json()["faults"]]


def test_status_with_body_and_headers(box: Box) -> None:
    box.fault("status", status=409, body={"error": {"code": "x"}}, headers={"Retry-After": "3"})
    answer = box.post()
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (409, {"error": {"code": "x"}}, "3")
    assert answer.headers["content-type"] == "application/json"
    assert box.stripe.count == 0


@pytest.mark.parametrize(("kind", "status"), [("limit", 429), ("expired", 401)])
def test_refusals_are_the_vendors_own(box: Box, kind: str, status: int) -> None:
    box.fault(kind)
    answer = box.post()
    assert (answer.status_code, answer.json()) == (status, {"why": kind})
    assert answer.headers.get("retry-after") == ("7" if kind == "limit" else None)
    assert box.stripe.count == 0


def test_html(box: Box) -> None:
    box.fault("html", times=2)
    answer = box.post()
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.startswith("<!DOCTYPE html>")
    box.side("DELETE", "faults")
    box.fault("html", status=200, body="<p>login</p>")
    assert (box.post().status_code, box.stripe.count) == (200, 0)


def test_drop_closes_before_the_vendor_sees_it(box: Box) -> None:
    box.fault("drop")
    with pytest.raises(httpx.TransportError):
        box.post()
    assert box.stripe.count == 0
    (seen,) = box.recorded()
    assert (seen["status"], seen["applied"]) == (None, False)
    assert box.post().json()["count"] == 1


def test_lost_reply_is_applied_and_the_client_sees_the_connection_break(box: Box) -> None:
    box.fault("lost_reply")
    with pytest.raises(httpx.TransportError):
        box.post()
    assert box.stripe.count == 1
    (seen,) = box.recorded()
    assert (seen["status"], seen["applied"]) == (None, True)
    assert box.get().json()["count"] == 1


def test_lost_reply_breaks_other_client_libraries_too(box: Box) -> None:
    box.fault("lost_reply")
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{box.url}/stripe/v1/things", json={}, timeout=10)
    assert box.stripe.count == 1


@pytest.mark.parametrize(
    ("kind", "status", "type_"), [("lost_reply_html", 503, "text/html"), ("lost_reply_500", 500, "text/plain")]
)
def test_applied_but_answered_with_trouble(box: Box, kind: str, status: int, type_: str) -> None:
    box.fault(kind)
    answer = box.post()
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(type_)
    assert box.stripe.count == 1
    assert box.recorded()[0]["applied"] is True


def test_a_client_that_waits_to_send_its_body_is_asked_for_it_first(box: Box) -> None:
    """boto3 sends `Expect: 100-continue`. Answered at once it would keep its body, and the server take its next request
    on the connection for that body."""
    box.fault("status", status=500)
    head = "POST /stripe/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    host, port = box.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        for status in (b"500", b"200"):
            line.sendall(head.encode())
            assert line.recv(65536).startswith(b"HTTP/1.1 100 ")
            line.sendall(b"body")
            assert line.recv(65536).startswith(b"HTTP/1.1 " + status)
    assert box.stripe.count == 1


@pytest.mark.parametrize(("kind", "applied"), [("hold", 0), ("hold_reply", 1)])
def test_a_held_request_goes_on_once_the_faults_are_deleted(box: Box, kind: str, applied: int) -> None:
    box.fault(kind)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(box.post)
        box.until(lambda: [seen["held"] for seen in box.recorded()] == [True])
        assert (box.stripe.count, answer.done()) == (applied, False)
        box.side("DELETE", "faults")
        assert answer.result(10).json()["count"] == 1
    (seen,) = box.recorded()
    assert (seen["status"], seen["applied"], seen["held"], box.stripe.count) == (200, True, False, 1)


@pytest.mark.parametrize(("kind", "applied"), [("hold", 0), ("hold_reply", 1)])
def test_a_client_that_goes_away_while_it_is_held_changes_nothing_more(box: Box, kind: str, applied: int) -> None:
    box.fault(kind)
    with pytest.raises(httpx.ReadTimeout):
        box.http.post(f"{box.url}/stripe/v1/things", json={}, timeout=0.3)
    box.until(lambda: box.recorded()[0]["duration"] is not None)
    (seen,) = box.recorded()
    assert (seen["status"], seen["applied"] + 0, seen["held"], box.stripe.count) == (None, applied, False, applied)
    box.side("DELETE", "faults")
    assert box.post().json()["count"] == applied + 1


# --- which requests are hit


def test_nth_times_and_after(box: Box) -> None:
    box.fault("status", status=500, match={"nth": 2}, times=2)
    assert [box.get().status_code for _ in range(5)] == [200, 500, 500, 200, 200]
    (shown,) = box.side("GET", "faults").json()["faults"]
    assert (shown["matched"], shown["hits"]) == (5, 2)


def test_times_is_one_by_default_and_null_is_until_deleted(box: Box) -> None:
    box.side("POST", "faults", json={"vendor": "stripe", "action": {"kind": "status", "status": 500}})
    assert [box.get().status_code for _ in range(3)] == [500, 200, 200]
    box.fault("status", status=502, times=None)
    assert [box.get().status_code for _ in range(4)] == [502] * 4
    assert box.side("DELETE", "faults").json() == {"removed": 2}
    assert box.get().status_code == 200


def test_method_and_path(box: Box) -> None:
    box.fault("status", status=500, match={"method": "POST", "path_regex": "^/v1/thing"}, times=None)
    assert (box.get().status_code, box.post().status_code) == (200, 500)
    box.side("DELETE", "faults")
    box.fault("status", status=500, match={"path_regex": "^/stripe"}, times=None)  # the path is the vendor's own
    assert box.get().status_code == 200


def test_a_fault_is_for_one_vendor(box: Box) -> None:
    box.fault("status", status=500, times=None)
    assert box.http.get(f"{box.url}/netsuite/v1/things").status_code == 200


def test_the_oldest_fault_wins_and_the_next_takes_over(box: Box) -> None:
    box.fault("status", status=500)
    box.fault("status", status=502)
    assert [box.get().status_code for _ in range(3)] == [500, 502, 200]


def test_probability_is_seeded(box: Box) -> None:
    def run() -> list[int]:
        box.side("DELETE", "faults")
        box.fault("status", status=500, match={"probability": 0.3}, times=None)
        return [box.get().status_code for _ in range(60)]

    first = run()
    assert 6 <= first.count(500) <= 32  # 18 expected; 4 standard deviations
    assert run() == first


def test_probability_counts_only_hits_for_times(box: Box) -> None:
    box.fault("status", status=500, match={"probability": 0.5}, times=3)
    assert [box.get().status_code for _ in range(40)].count(500) == 3


# --- strictness of the side door

GOOD = {"vendor": "stripe", "action": {"kind": "drop"}}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([], "not a JSON object"),
        ({**GOOD, "extra": 1}, "extra"),
        ({**GOOD, "vendor": "paypal"}, "paypal"),
        ({"action": {"kind": "drop"}}, "vendor"),
        ({"vendor": "stripe"}, "action.kind"),
        ({**GOOD, "action": {"kind": "explode"}}, "explode"),
        ({**GOOD, "action": {"kind": "drop", "status": 500}}, "status"),
        ({**GOOD, "action": {"kind": "status"}}, "needs status"),
        ({**GOOD, "action": {"kind": "status", "status": 99}}, "action.status"),
        ({**GOOD, "action": {"kind": "status", "status": 500, "headers": {"a": 1}}}, "headers"),
        ({**GOOD, "action": {"kind": "latency"}}, "needs delay_ms"),
        ({**GOOD, "action": {"kind": "latency", "delay_ms": -1}}, "delay_ms"),
        ({**GOOD, "match": {"nth": 0}}, "nth"),
        ({**GOOD, "match": {"nth": True}}, "nth"),
        ({**GOOD, "match": {"probability": 0}}, "probability"),
        ({**GOOD, "match": {"method": "get"}}, "method"),
        ({**GOOD, "match": {"path_regex": "("}}, "regular expression"),
        ({**GOOD, "match": {"path": "/x"}}, "path"),
        ({**GOOD, "times": 0}, "times"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(box: Box, asked: Any, says: str) -> None:
    answer = box.side("POST", "faults", json=asked)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert box.side("GET", "faults").json() == {"faults": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("GET", "state/paypal", None, 404),
        ("PUT", "faults", None, 405),
        ("GET", "requests?vendor=paypal", None, 404),
        ("GET", "requests?limit=0", None, 400),
        ("GET", "requests?who=me", None, 400),
        ("POST", "faults", b"{", 400),
        ("POST", "reset", b'{"x": 1}', 400),
        ("POST", "stripe/advance", b'{"seconds": -1}', 400),
        ("POST", "stripe/advance", b'{"days": 1}', 400),
        ("POST", "stripe/emit", b'{"overrides": {}}', 400),
        ("POST", "stripe/emit", b'{"type": "x", "more": 1}', 400),
        ("POST", "stripe/emit", b'{"event": 1}', 400),
        ("POST", "stripe/emit", b'{"type": "no.such"}', 400),
    ],
)
def test_the_side_door_is_strict(box: Box, method: str, path: str, body: bytes | None, status: int) -> None:
    answer = box.side(method, path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_simulators_own_failure_is_shown(box: Box) -> None:
    answer = box.side("POST", "stripe/emit", json={"type": "bug"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "ZeroDivisionError: a bug of the simulator"}


def test_an_unknown_address_is_told_the_known_ones(box: Box) -> None:
    for path in ("/", "/paypal/v1", "/__sandbox/x"):
        answer = box.http.get(f"{box.url}{path}")
        assert answer.status_code == 404
        assert "/stripe/..." in answer.json()["known"]
        assert "POST /__sandbox/faults" in answer.json()["known"]


def test_the_index_lists_vendors_doors_and_kinds(box: Box) -> None:
    index = box.side("GET", "").json()
    assert index["vendors"] == {"stripe": "/stripe", "netsuite": "/netsuite"}
    assert "lost_reply" in index["fault_kinds"]
    assert "GET /__sandbox/state/{vendor}" in index["side_door"]
    assert index["seed"] == 7


# --- recording, state, reset


def test_requests_are_recorded_without_credentials(box: Box) -> None:
    headers = {"Authorization": "Bearer sk_test_secret", "Stripe-Signature": "t=1,v1=secret", "X-Plain": "kept"}
    box.http.get(f"{box.url}/stripe/v1/things?a=b", headers=headers)
    answer = box.side("GET", "requests", params={"vendor": "stripe"})
    assert "secret" not in answer.text
    (seen,) = answer.json()["requests"]
    assert (seen["vendor"], seen["method"], seen["path"], seen["query"]) == ("stripe", "GET", "/v1/things", "a=b")
    assert (seen["status"], seen["started"], seen["concurrency"]) == (200, 1000.0, 1)
    assert 0 < seen["duration"] < 5
    assert seen["headers"]["authorization"] == "Bearer ***"
    assert seen["headers"]["x-plain"] == "kept"


def test_counts_by_vendor(box: Box) -> None:
    box.fault("lost_reply")
    with pytest.raises(httpx.TransportError):
        box.post()
    box.get()
    box.http.get(f"{box.url}/stripe/nowhere")
    box.http.get(f"{box.url}/netsuite/v1/things")
    answer = box.side("GET", "requests", params={"limit": 1}).json()
    assert answer["vendors"]["stripe"] == {
        "requests": 3,
        "in_flight": 0,
        "high_water": 1,
        "methods": {"POST": 1, "GET": 2},
        "statuses": {"closed": 1, "200": 1, "404": 1},
    }
    assert answer["vendors"]["netsuite"]["requests"] == 1
    assert [seen["vendor"] for seen in answer["requests"]] == ["netsuite"]  # the last one
    box.side("DELETE", "requests")
    assert box.recorded() == []


async def test_the_high_water_mark_counts_requests_under_way_at_once(box: Box) -> None:
    box.fault("latency", delay_ms=300, times=None)
    async with httpx.AsyncClient(timeout=10) as http:
        await asyncio.gather(*(http.get(f"{box.url}/stripe/v1/things") for _ in range(4)))
    totals = box.side("GET", "requests").json()["vendors"]["stripe"]
    assert (totals["high_water"], totals["in_flight"]) == (4, 0)


def test_state_and_reset(box: Box) -> None:
    box.post()
    box.fault("drop", times=None, match={"nth": 100})
    assert box.side("GET", "state/stripe").json() == {"things": [{"id": 0}]}
    assert box.side("POST", "reset").json() == {"reset": ["netsuite", "stripe"]}
    assert box.side("GET", "state/stripe").json() == {"things": []}
    assert box.side("GET", "faults").json() == {"faults": []}
    assert box.recorded() == []


def test_emit_and_advance_reach_stripe(box: Box) -> None:
    answer = box.side("POST", "stripe/emit", json={"type": "invoice.paid", "overrides": {"total": 5}})
    assert answer.json() == {"emitted": {"id": "evt_1", "type": "invoice.paid"}}
    box.side("POST", "stripe/emit", json={"event": {"id": "evt_2"}})
    box.side("POST", "stripe/emit", json={"object": "event", "id": "evt_3"})
    box.side("POST", "stripe/emit", json={"object": "v2.core.event", "id": "evt_4"})
    assert box.stripe.emitted == [
        ("invoice.paid", {"total": 5}),
        {"id": "evt_2"},
        {"object": "event", "id": "evt_3"},
        {"object": "v2.core.event", "id": "evt_4"},
    ]
    assert box.side("POST", "stripe/advance", json={"seconds": 3600}).status_code == 200
    assert box.stripe.advanced == 3600


# --- what runs by itself


async def test_a_background_task_that_fails_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise OSError("no route")

    background = Background()
    async with background.running("webhooks", broken()):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert background.status == {"webhooks": "failed: OSError: no route"}
    assert "webhooks failed" in caplog.text


async def test_a_background_task_ends_with_its_block() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    background = Background()
    async with background.running("business", endless()):
        await asyncio.sleep(0)
        assert background.status == {"business": "running"}
    assert ended.is_set()
    assert background.status == {"business": "stopped"}
