"""Whatever is sent to the webhook endpoint: 2xx means stored byte for byte, anything else is a 4xx that leaves a trace.

The whole web application over a real database. What should happen is worked out here, by Python's own JSON reader and a
signature of the vendor's side, not by the code under test. A person and the secrets are in every request; they must be
nowhere but in the stored body.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from connectors.stripe.simulator.webhooks import signature
from hub import app, metrics
from hub.app import Core
from hub.db import Database
from hub.intake import Intake, Limits
from hub.routing import Router
from tests.conftest import Clock
from tests.flow.hostile import EMAIL, MARKS, PERSON, SECRET, TOKEN, environment, event

MOST = 8192
"""Bytes of a body here."""
Header = tuple[bytes, bytes]


@dataclass
class Target:
    """The application, and what was stored by it so far."""

    web: ASGIApp
    core: Core
    clock: Clock
    stored: dict[str, bytes] = field(default_factory=dict)

    async def post(self, headers: Sequence[Header], parts: Sequence[bytes]) -> tuple[int, bytes]:
        """A request as a server hands it on; the answer's status and body."""
        waiting = [{"type": "http.request", "body": p, "more_body": True} for p in parts]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        return await self.ask("POST", app.WEBHOOKS, headers, waiting)

    async def metrics(self) -> str:
        return (await self.ask("GET", "/metrics"))[1].decode()

    async def counted(self) -> dict[str, float]:
        """`hub_received_total` by result."""
        found = re.findall(r'^hub_received_total\{result="(\w+)"\} (\S+)$', await self.metrics(), re.MULTILINE)
        return {result: float(count) for result, count in found}

    async def rows(self, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.core.db.fetch_text(text, *arguments)]

    async def ask(
        self, method: str, path: str, headers: Sequence[Header] = (), waiting: list[Any] | None = None
    ) -> tuple[int, bytes]:
        """Any request: its answer's status and body."""
        waiting = [{"type": "http.request"}] if waiting is None else waiting
        said: list[Message] = []

        async def receive() -> Message:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
            "root_path": "", "query_string": b"", "headers": list(headers), "scheme": "http",
            "client": ("127.0.0.1", 1), "server": ("hub", 80),
        }  # fmt: skip
        await self.web(scope, receive, send)
        return said[0]["status"], b"".join(m.get("body", b"") for m in said[1:])


@contextlib.asynccontextmanager
async def aimed_at(dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Target]:
    """The web application with nothing stored yet."""
    changes = {"HUB_MAX_BODY_BYTES": str(MOST), "HUB_LOG_LEVEL": "debug"}
    for name, value in environment(dsn, **changes).items():
        monkeypatch.setenv(name, value)
    given_settings, stripe = app.read_settings(serving=True)
    core = replace(await app.open_core(given_settings, stripe, dsn), clock=clock)
    yield Target(app.web(core, stripe), core, clock)
    await core.db.close()


@pytest.fixture
async def target(dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Target]:
    async with aimed_at(dsn, clock, monkeypatch) as found:
        yield found


# What is sent --------------------------------------------------------------------------------------------------------

_odd: st.SearchStrategy[Any] = st.sampled_from([
    None, True, -1, 10**30, -(10**30), 1e308, 0.1, "", "\x00", "a\x00b", "\ud800", "x" * 300, "x" * 5000, [], {}, [[]],
    {"id": "in_1"}, {"id": "a\x00"}, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", 253_402_300_800,
    -62_135_596_800,
])  # fmt: skip
_json = st.recursive(
    _odd | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_object = st.fixed_dictionaries(
    {"customer_name": st.just(PERSON), "customer_email": st.just(EMAIL)},
    optional=dict.fromkeys(("id", "object", "status", "customer", "deleted"), _json),
)
_event = st.fixed_dictionaries(
    {
        "id": _json | st.text(min_size=1, max_size=255),
        "type": st.sampled_from(["invoice.paid", "customer.deleted"]) | _json,
    },
    optional={
        "data": _json | st.fixed_dictionaries({"object": _object | _json}),
        "object": st.sampled_from(["event", "v2.core.event"]) | _json,
        "related_object": _json,
        # Not among the names under which a log line knows an event; and so none of them may get there.
        **dict.fromkeys(("created", "account", "context", "api_version", "livemode"), _json | st.just(PERSON)),
    },
)


def _written(value: Any, *, ascii_only: bool) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


BODIES = st.one_of(
    st.binary(max_size=60),
    st.builds(_written, _event | _json, ascii_only=st.booleans()),
    st.integers(1, 4000).map(lambda n: b'{"id":"evt_deep","type":"x","data":' + b"[" * n + b"]" * n + b"}"),
    st.builds(lambda size: event("evt_large", more="x" * size), st.integers(MOST - 400, MOST + 400)),
    st.just(b'{"id":"evt_twice","id":"evt_twice_2","type":"a","type":"b"}'),
)  # fmt: skip
SIGNATURES = st.one_of(
    st.binary(max_size=80),
    st.from_regex(r"(t=[0-9]{0,15}|v1=[0-9a-f]{0,70}|v0=x|,|=){0,6}", fullmatch=True).map(str.encode),
    st.just(b"t=1790000000" + b",v1=" * 5000),
    st.just(f"t=1790000000,v1={SECRET}".encode()),
)
NOISE = st.lists(
    st.tuples(
        st.sampled_from([b"content-length", b"stripe-signature", b"content-type", b"cookie", b"expect", b"x-y"]),
        st.binary(max_size=30) | st.sampled_from([b"-1", b"0", b"9" * 5000, b"1e9", EMAIL.encode(), b"gzip"]),
    ),
    max_size=4,
)  # fmt: skip


def _no_json(name: str) -> None:
    raise ValueError(name)


def is_event(body: bytes) -> bool | None:
    """Whether it must be taken as an event, must not be, or (None) may be either: readers of JSON differ there."""
    try:
        text = body.decode()
        found = json.loads(text, parse_constant=_no_json)
    except ValueError:
        return False
    except RecursionError:
        return None
    if not isinstance(found, dict):
        return False
    names = [found.get("id"), found.get("type")]
    if not all(isinstance(n, str) and 0 < len(n) <= 255 and "\x00" not in n for n in names):
        return False
    deep = re.search(rb"[\[{]{200}", body) is not None
    lone = re.search(r"\\u[dD][89a-fA-F]", text) is not None
    return None if deep or lone else True


async def judge(target: Target, status: int, answer: bytes, body: bytes, is_signed: bool) -> None:
    """Is the answer right, and is what it says what was done?"""
    assert status in (200, 400, 413), answer
    if not is_signed:
        # Refused for its signature or its size, and nothing of it is kept; unless chance signed it, which it did not.
        assert status != 200
        assert b"rejected body" not in answer
    elif len(body) > MOST:
        assert (status, json.loads(answer)["error"]["code"]) == (413, "too_large")
    elif status == 200:
        assert is_event(body) in (True, None)
        id_ = "evt_deep" if b'"evt_deep"' in body else json.loads(body)["id"]
        if not json.loads(answer)["repeat"]:
            assert id_ not in target.stored
            target.stored[id_] = body
        ((kept, _),) = await target.rows("SELECT body, created FROM events WHERE id = $1", id_)  # all can be read
        assert kept == target.stored[id_]
    else:
        assert is_event(body) in (False, None), answer
        assert json.loads(answer)["error"]["code"] == "not_an_event"
        assert await target.rows("SELECT body FROM rejected_bodies ORDER BY id DESC LIMIT 1") == [(body,)]


# Tests ---------------------------------------------------------------------------------------------------------------


async def attack(target: Target, body: bytes, cut: Sequence[int], noise: list[Header], header: bytes | None) -> None:
    """One request, with a right signature if `header` is None, and what came of it."""
    right = signature(body, SECRET, int(target.clock())).encode()
    before = await target.counted()
    # Of several headers of a name the last one counts, so the right signature goes there.
    lines = [*noise, (b"authorization", f"Bearer {TOKEN}".encode())]
    lines += [(b"stripe-signature", right if header is None else header)]
    lines = [line for line in lines if header is None or line != (b"content-length", b"")]
    places = sorted({min(c, len(body)) for c in cut})
    parts = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    declared = [value for name, value in lines if name == b"content-length"]
    status, answer = await target.post(lines, parts)
    lied = bool(declared) and declared[-1].isdigit() and int(declared[-1][:18]) > MOST
    if lied:
        assert status == 413, "it says that it is too large, so it is not read"
    else:
        await judge(target, status, answer, body, header is None)
    after = await target.counted()
    changed = {result: count - before.get(result, 0) for result, count in after.items() if count != before.get(result)}
    assert sum(changed.values()) == 1, "every request is counted once"
    assert [mark for mark in MARKS if mark.encode() in answer] == []


REQUESTS: dict[str, Any] = {
    "body": BODIES,
    "cut": st.lists(st.integers(0, MOST), max_size=4),
    "noise": NOISE,
    "header": st.none() | st.none() | SIGNATURES,
}


@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
@given(**REQUESTS)
@example(body=event("evt_first"), cut=[1], noise=[(b"content-length", b"9" * 5000)], header=None)
@example(body=event("evt_nul", data={"object": {"id": "a\x00", "object": "\x00"}}), cut=[], noise=[], header=None)
@example(body=event("evt_nuls", account="\x00", api_version="\x00"), cut=[], noise=[], header=None)
@example(body=event("evt_half")[:-1] + rb',"name":"\ud800"}', cut=[], noise=[], header=None)
@example(body=event("evt_min", created="0001-01-01T00:00:00+23:59"), cut=[], noise=[], header=None)
@example(body=event("evt_max", created="9999-12-31T23:59:59-23:59"), cut=[], noise=[], header=None)
async def test_whatever_is_sent_is_stored_as_it_came_or_refused_with_a_trace_and_told_to_nobody(
    target: Target,
    capfd: pytest.CaptureFixture[str],
    body: bytes,
    cut: list[int],
    noise: list[Header],
    header: bytes | None,
) -> None:
    await attack(target, body, cut, noise, header)
    told = "".join(capfd.readouterr())
    assert "received" in told or "refused" in told, "nothing was captured"
    shown = told + await target.metrics()
    assert [mark for mark in MARKS if mark in shown] == []


async def test_questions_that_hang_do_not_take_the_connections_that_events_need(target: Target, dsn: str) -> None:
    """People ask for a table that somebody has locked, more often than there are connections; events do not need it."""
    token = [(b"authorization", f"Bearer {TOKEN}".encode())]
    rival = await asyncpg.connect(dsn)
    try:
        async with rival.transaction():
            await rival.execute("LOCK TABLE rejected_bodies IN ACCESS EXCLUSIVE MODE")
            asked = [asyncio.create_task(target.ask("GET", "/api/v1/rejected-bodies", token)) for _ in range(20)]
            async with asyncio.timeout(5):  # a question gives up after ten
                blocked = "SELECT FROM pg_locks WHERE NOT granted"
                while len(await rival.fetch(blocked)) < app.API_CONNECTIONS:  # noqa: ASYNC110 - of PostgreSQL's doing
                    await asyncio.sleep(0.01)
                body = event("evt_meanwhile")
                header = (b"stripe-signature", signature(body, SECRET, int(target.clock())).encode())
                assert (await target.post([header], [body]))[0] == 200
                assert (await target.ask("GET", "/readyz"))[0] == 200
        assert {status for status, _ in await asyncio.gather(*asked)} == {200}
    finally:
        await rival.close()


async def test_large_bodies_on_their_way_are_limited_together_and_small_ones_are_not(
    db: Database, clock: Clock
) -> None:
    """Four senders stop in the middle of 100 KB; there is room for three of them."""
    router = Router(kinds={}, types={}, accounts=frozenset(), livemode=False)
    limits = Limits(body_bytes=200_000, large_bytes=350_000)
    intake = Intake(db, router, [SECRET.encode()], clock, metrics.create(), limits)
    going_on = asyncio.Event()

    async def send(body: bytes, stops: bool) -> tuple[int, bytes]:
        parts = [body[:10], body[10:-10], body[-10:]]

        async def receive() -> Message:
            if len(parts) == 1 and stops:
                await going_on.wait()
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        said: list[Message] = []

        async def answer(message: Message) -> None:
            said.append(message)

        headers = [(b"stripe-signature", signature(body, SECRET, int(clock())).encode())]
        await intake({"headers": headers}, receive, answer)
        return said[0]["status"], said[1]["body"]

    def large(name: str) -> bytes:
        return event(name, more="x" * 100_000)

    slow = [asyncio.create_task(send(large(f"evt_{n}"), stops=True)) for n in range(4)]
    await asyncio.sleep(0)
    (refused,), waiting = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
    status, body = refused.result()
    assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
    assert len(waiting) == 3
    assert (await send(event("evt_small"), stops=False))[0] == 200
    assert (await send(large("evt_no"), stops=False))[0] == 503
    going_on.set()
    assert [(await one)[0] for one in waiting] == [200] * 3
    assert (await send(large("evt_yes"), stops=False))[0] == 200, "there is room again"
