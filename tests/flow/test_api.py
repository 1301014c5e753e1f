"""The JSON API as a program meets it. Every answer in this file is held against `hub/openapi.yaml`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Route

from hub import api
from hub.db import Database
from hub.mapping import FOLDER, load
from hub.model import DeliveryState, Disposition, EventKind
from hub.store import Accepted
from tests.conftest import Clock
from tests.filling import (
    CRM,
    LAKE,
    LEDGER,
    NOW,
    accept,
    claim,
    execute,
    link,
    new_event,
    register,
    routed,
    settle,
    settlement,
)

TOKEN = "correct-horse-battery-staple"
DESCRIPTION = yaml.safe_load((Path(api.__file__).parent / "openapi.yaml").read_text())
Json = Any


def template_of(path: str) -> str:
    """The path of the description that a request's path belongs to."""
    parts = path.strip("/").split("/")
    for template in DESCRIPTION["paths"]:
        names = template.strip("/").split("/")
        if len(names) == len(parts) and all(n.startswith("{") or n == p for n, p in zip(names, parts, strict=True)):
            return str(template)
    raise AssertionError(f"{path} is not described")


def hold_against_description(method: str, path: str, response: httpx.Response) -> None:
    """Fails if the status is not described for the operation, or the body does not fit its schema."""
    operation = DESCRIPTION["paths"][template_of(path)][method.lower()]
    described = operation["responses"].get(str(response.status_code))
    assert described is not None, f"{method} {path} answered {response.status_code}, which is not described"
    if "$ref" in described:
        described = DESCRIPTION["components"]["responses"][described["$ref"].rsplit("/", 1)[1]]
    schema = described["content"]["application/json"]["schema"] | {"components": DESCRIPTION["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    assert "date-time" in checker.checkers
    Draft202012Validator(schema, format_checker=checker).validate(response.json())
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"


class Client:
    """Asks the API, checks the answer against its description, and gives status and body."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **params: str | int) -> tuple[int, Json]:
        response = await self.http.get(api.PREFIX + path, params=params)
        hold_against_description("GET", path, response)
        return response.status_code, response.json()

    async def ok(self, path: str, **params: str | int) -> Json:
        status, body = await self.get(path, **params)
        assert status == 200, body
        return body

    async def post(self, path: str, body: Json = None, content: bytes | None = None) -> tuple[int, Json]:
        sent: dict[str, Any] = {"content": content} if body is None else {"json": body}
        response = await self.http.post(api.PREFIX + path, **sent)
        hold_against_description("POST", path, response)
        return response.status_code, response.json()


def http_client(db: Database, clock: Clock, token: str | None = TOKEN) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=api.routes(db, clock, TOKEN)))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers)


@pytest.fixture
async def client(db: Database, clock: Clock) -> AsyncIterator[Client]:
    async with http_client(db, clock) as http:
        yield Client(http)


VOIDED = "invoice.voided"


@pytest.fixture
async def filled(db: Database) -> Database:
    """Delivery 1 done with links, 2 dead, 3 held behind it; 4 waits in the lake, 5 is claimed; an event not ours."""
    for name, kind in ((LEDGER, "ledger"), (CRM, "state"), (LAKE, "log")):
        await register(db, name, kind)
    await accept(
        db, routed(new_event("evt_1"), LEDGER), *(routed(new_event(f"evt_{i}", type=VOIDED), LEDGER) for i in (2, 3))
    )
    (lane,) = claims = await claim(db)
    first, second, third = lane.deliveries
    await settle(
        db,
        [],
        settlement(first, DeliveryState.DONE, links=(link(), link("cus_1", "customer"))),
        settlement(second, DeliveryState.DEAD, "reject", failed=True),
    )
    await settle(
        db, claims, settlement(third, DeliveryState.HELD, "defer", held_by=second.id, note="held by delivery 2")
    )
    await accept(db, routed(new_event("evt_4", object_id="in_4"), LAKE))
    await accept(db, routed(new_event("evt_5", customer_id="cus_5", livemode=None, api_version=None), CRM))
    await claim(db, CRM, ledger=False)
    thin = new_event("evt_thin", kind=EventKind.THIN, type="v1.x", object_type=None, object_id=None, customer_id=None)
    await accept(db, Accepted(thin, Disposition.OTHER_ACCOUNT, "account acct_2 is not served here", ()))
    await execute(
        db, "INSERT INTO rejected_bodies (received_at, reason, body) VALUES ($1, 'not JSON', $2)", NOW, b"<html>" * 10
    )
    return db


def test_the_description_is_valid_openapi() -> None:
    validate(DESCRIPTION)


def test_the_description_has_every_route_and_every_route_is_described(db: Database, clock: Clock) -> None:
    built: set[tuple[str, str]] = set()
    for route in api.routes(db, clock, TOKEN):
        assert isinstance(route, Route)
        endpoint = route.endpoint
        assert isinstance(endpoint, api.Endpoint)
        path = route.path.removeprefix(api.PREFIX).replace(":any}", "}")
        built |= {(method, path) for method in endpoint.methods}
        open_to_all = DESCRIPTION["paths"].get(path, {}).get("get", {}).get("security") == []
        assert (endpoint.token is None) == open_to_all, path
    described = {(method.upper(), path) for path, item in DESCRIPTION["paths"].items() for method in item}
    assert built == described


async def test_the_described_parameters_are_taken_and_no_others(client: Client, filled: Database) -> None:
    examples = {"limit": "1", "after": (await client.ok("/events", limit=1))["next"], "disposition": "routed"}
    examples |= {"kind": "thin", "since": "2026-01-01", "until": "2026-01-01T00:00:00Z", "state": "dead,held"}
    asked = 0
    for path, item in DESCRIPTION["paths"].items():
        if "get" not in item:
            continue
        real = path.replace("{id}", "in_1" if "objects" in path else "evt_1" if "events" in path else "1")
        for parameter in item["get"].get("parameters", []):
            reference = parameter.get("$ref", "").rsplit("/", 1)[-1]
            described = DESCRIPTION["components"]["parameters"].get(reference, parameter)
            if described["in"] == "query":
                name = described["name"]
                assert (await client.get(real, **{name: examples.get(name, LEDGER)}))[0] == 200, (path, name)
                asked += 1
        status, body = await client.get(real, nonsense="1")
        assert status == 400
        assert body["error"]["code"] == "bad_request"
        assert "no parameter 'nonsense'" in body["error"]["message"]
    assert asked == 9 + 6 + 3 + 3 + 2


async def test_the_description_is_served_to_anyone(db: Database, clock: Clock) -> None:
    async with http_client(db, clock, token=None) as http:
        response = await http.get("/api/v1/openapi.json")
    assert response.status_code == 200
    assert response.json() == DESCRIPTION


NOT_THE_TOKEN = [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]


async def test_without_the_token_nothing_is_told(db: Database, clock: Clock) -> None:
    async with http_client(db, clock, token=None) as http:
        for given in NOT_THE_TOKEN:
            headers = {"authorization": given} if given is not None else {}
            for method, path in (("GET", "/events"), ("POST", "/deliveries/1/retry"), ("GET", "/counts")):
                response = await http.request(method, api.PREFIX + path, headers=headers)
                assert response.status_code == 401, given
                hold_against_description(method, path, response)
                assert response.json()["error"]["code"] == "unauthorized"
                invalid = ', error="invalid_token"' if given else ""
                assert response.headers["www-authenticate"] == f'Bearer realm="billing-hub"{invalid}'
            unknown = await http.get("/api/v1/nowhere", headers=headers)
            assert unknown.status_code == 401


async def test_the_schemes_case_does_not_matter(db: Database, clock: Clock) -> None:
    async with http_client(db, clock, token=None) as http:
        response = await http.get("/api/v1/counts", headers={"authorization": f"bearer {TOKEN}"})
    assert response.status_code == 200


def test_an_empty_token_is_refused_at_start(db: Database, clock: Clock) -> None:
    with pytest.raises(ValueError, match="HUB_API_TOKEN"):
        api.routes(db, clock, "")


async def test_wrong_paths_and_methods(client: Client) -> None:
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/deliveries/1/retry", 405, "method_not_allowed"),
        ("POST", "/events", 405, "method_not_allowed"),
        ("DELETE", "/deliveries/1", 405, "method_not_allowed"),
        ("POST", "/nowhere", 404, "not_found"),
    ):
        response = await client.http.request(method, api.PREFIX + path)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert set(response.json()["error"]) == {"code", "message"}
        if status == 405:
            assert response.headers["allow"] == ("POST" if path.endswith("retry") else "GET")


WRONG_PARAMETERS = [
    ("/events", "kind=fat", "kind is 'fat'; it is one of: snapshot, thin, read"),
    ("/events", "disposition=lost", "disposition is 'lost'; it is one of: routed, unmapped"),
    ("/events", "type=", "type must be 1 to 255 characters"),
    ("/events", "type=" + "x" * 256, "type must be 1 to 255 characters"),
    ("/events", "object=in_%00", "object must be"),
    ("/events", "type=a&type=b", "type is given more than once"),
    ("/events", "since=yesterday", "since is 'yesterday', not a time"),
    ("/events", "until=0001-01-01T00:00:00%2B14:00", "until is '0001-01-01T00:00:00+14:00', not a time"),
    ("/events", "limit=0", "limit is '0', not a whole number from 1 to 500"),
    ("/events", "limit=501", "limit is '501'"),
    ("/events", "limit=%D9%A1", "limit is"),
    ("/events", "after=17", "after is not a cursor"),
    ("/events", "after=djEuMA", "after is not a cursor"),
    ("/events", "after=%C3%A4", "after is not a cursor"),
    ("/deliveries", "state=dead,lost", "state is 'lost'; it is one of: waiting, claimed"),
    ("/deliveries", "state=dead,", "state is ''; it is one of"),
    ("/deliveries", "destination=netsiute", "destination is 'netsiute', which this hub has never had"),
    ("/dead-letters", "state=dead", "there is no parameter 'state'; there are: after, destination, limit"),
    ("/counts", "limit=1", "there is no parameter 'limit'; there are: none here"),
]


async def test_a_wrong_parameter_is_named(client: Client) -> None:
    for path, query, message in WRONG_PARAMETERS:
        response = await client.http.get(f"{api.PREFIX}{path}?{query}")
        hold_against_description("GET", path, response)
        assert response.status_code == 400, query
        assert message in response.json()["error"]["message"]


async def test_what_is_not_there(client: Client) -> None:
    for path in (
        "/events/evt_nowhere",
        "/deliveries/99",
        "/deliveries/0",
        "/deliveries/-1",
        "/deliveries/abc",
        "/deliveries/99999999999999999999",
        "/objects/in_nowhere",
        "/objects/a%00b",
    ):
        status, body = await client.get(path)
        assert (status, body["error"]["code"]) == (404, "not_found"), path


async def test_lists_go_on_where_they_ended(client: Client, db: Database) -> None:
    await accept(db, *(routed(new_event(f"evt_{i}"), LEDGER) for i in range(5)))
    for path, key in (("/events", "id"), ("/deliveries", "id")):
        seen, after, pages = [], None, 0
        while pages == 0 or after is not None:
            page = await client.ok(path, limit=2, **({"after": after} if after else {}))
            seen += [item[key] for item in page["items"]]
            after, pages = page["next"], pages + 1
        assert pages == 3
        assert seen == ([f"evt_{i}" for i in (4, 3, 2, 1, 0)] if path == "/events" else [5, 4, 3, 2, 1])


async def test_events(client: Client, filled: Database) -> None:
    page = await client.ok("/events", since="2026-09-21", kind="snapshot", customer="cus_1", object="in_1")
    assert [e["id"] for e in page["items"]] == ["evt_3", "evt_2", "evt_1"]
    assert page["next"] is None
    assert page["items"][0]["received_at"] == "2026-09-21T14:13:20Z"
    assert "body" not in page["items"][0]


async def test_an_events_body_is_what_was_received_to_the_last_digit(client: Client, db: Database) -> None:
    body = b'{"id":"evt_1","amount_decimal":1.10,"big":123456789012345678901234567890, "name":"M\\u00fcller"}'
    await accept(db, routed(new_event("evt_1", body=body), LEDGER))
    response = await client.http.get("/api/v1/events/evt_1")
    hold_against_description("GET", "/events/evt_1", response)
    assert b'"body":' + body in response.content
    assert [d["destination"] for d in response.json()["deliveries"]] == [LEDGER]
    assert datetime.fromisoformat(response.json()["created"]) == NOW - timedelta(seconds=60)


async def test_an_id_with_a_slash_is_found(client: Client, db: Database) -> None:
    await accept(db, routed(new_event("evt/1", object_id="in/1"), LEDGER))
    for path in ("/events/evt/1", "/events/evt%2F1", "/objects/in/1"):
        assert (await client.http.get(api.PREFIX + path)).status_code == 200


async def test_a_delivery(client: Client, filled: Database) -> None:
    done = await client.ok("/deliveries/1")
    assert (done["state"], done["event"]["id"], done["claims"]) == ("done", "evt_1", 1)
    assert [(a["outcome"], a["http_status"], a["request_id"]) for a in done["attempts"]] == [("receipt", 400, "req_1")]
    assert [(k["record"], k["vendor_id"]) for k in done["links"]] == [("invoice", "4711")]
    held = await client.ok("/deliveries/3")
    assert (held["state"], held["held_by"], held["superseded_by"]) == ("held", 2, None)
    claimed = await client.ok("/deliveries", state="claimed,unknown")
    assert [d["destination"] for d in claimed["items"]] == [CRM]
    assert claimed["items"][0]["lease_until"] == "2026-09-21T14:14:20Z"


async def test_dead_letters_come_with_cause_and_way_out(client: Client, filled: Database) -> None:
    page = await client.ok("/dead-letters", destination=LEDGER)
    (letter,) = page["items"]
    assert (letter["id"], letter["code"], letter["holds"], letter["event"]["id"]) == (2, "tax_code", 1, "evt_2")
    assert (letter["cause"], letter["fix"]) == ("tax code 7 is unknown", "add it to the lookup, then retry")
    assert (await client.ok("/dead-letters", destination=CRM))["items"] == []


async def test_the_story_of_an_object(client: Client, filled: Database) -> None:
    story = await client.ok("/objects/in_1")
    assert [e["id"] for e in story["events"]] == ["evt_5", "evt_3", "evt_2", "evt_1"]
    assert [(d["id"], d["state"], d["attempts_total"]) for d in story["deliveries"]] == [
        (5, "claimed", 0),
        (3, "held", 1),
        (2, "dead", 1),
        (1, "done", 1),
    ]
    assert [k["destination"] for k in story["links"]] == [LEDGER]


async def test_destinations_counts_and_rejected_bodies(client: Client, filled: Database, clock: Clock) -> None:
    clock.advance(90)
    found = {d["name"]: d for d in (await client.ok("/destinations"))["items"]}
    assert found[LEDGER]["open"] == {"waiting": 0, "claimed": 0, "unknown": 0, "held": 1, "dead": 1}
    assert (found[LEDGER]["oldest_open_seconds"], found[LEDGER]["next_due_at"]) == (90.0, None)
    assert found[LAKE]["next_due_at"] == "2026-09-21T14:13:20Z"
    counts = await client.ok("/counts")
    assert counts["events"]["total"] == 6
    assert counts["events"]["by_disposition"]["other_account"] == 1
    assert counts["deliveries"][LEDGER]["dead"] == 1
    rejected = await client.ok("/rejected-bodies")
    assert rejected == {
        "items": [{"id": 1, "received_at": "2026-09-21T14:13:20Z", "reason": "not JSON", "size": 60}],
        "next": None,
    }


async def test_an_empty_hub_answers_every_question(client: Client) -> None:
    for path in ("/events", "/deliveries", "/dead-letters", "/destinations", "/rejected-bodies"):
        assert (await client.ok(path))["items"] == []
    assert (await client.ok("/counts"))["events"]["total"] == 0


async def test_retry(client: Client, filled: Database) -> None:
    assert await client.post("/deliveries/2/retry") == (200, {"retried": 1, "released": 1, "note": None})
    assert [d["id"] for d in (await client.ok("/deliveries", state="waiting", destination=LEDGER))["items"]] == [3, 2]
    status, body = await client.post("/deliveries/2/retry")
    assert (status, body["error"]["code"]) == (409, "already_due")
    assert "someone retried it a moment ago" in body["error"]["message"]
    status, body = await client.post("/deliveries/1/retry", {})
    assert (status, body["error"]["code"]) == (409, "already_done")
    status, body = await client.post("/deliveries/99/retry")
    assert (status, body["error"]["code"]) == (404, "not_found")


async def test_retry_pressed_twice_at_once(client: Client, filled: Database) -> None:
    answers = await asyncio.gather(*(client.post("/deliveries/2/retry") for _ in range(4)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]


async def test_skip(client: Client, filled: Database) -> None:
    done = await client.post("/deliveries/2/skip", {"reason": " booked by hand "})
    assert done == (200, {"skipped": 1, "released": 1, "note": None})
    skipped = await client.ok("/deliveries/2")
    assert (skipped["state"], skipped["note"], skipped["settled_at"]) == (
        "skipped",
        "booked by hand",
        "2026-09-21T14:13:20Z",
    )
    assert (await client.ok("/deliveries/3"))["state"] == "waiting"
    status, body = await client.post("/deliveries/2/skip", {"reason": "again"})
    assert (status, body["error"]["code"]) == (409, "already_skipped")
    status, body = await client.post("/deliveries/5/skip", {"reason": "too late"})
    assert (status, body["error"]["code"]) == (409, "being_delivered")


async def test_link(db: Database, clock: Clock, filled: Database) -> None:
    transport = httpx.ASGITransport(Starlette(routes=api.routes(db, clock, TOKEN, load(FOLDER))))
    bearer = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=bearer) as http:
        client = Client(http)
        said = {"vendor_id": "902", "reason": " booked by hand "}
        for wrong, message in WRONG_LINKS:
            status, body = await client.post("/deliveries/2/link", wrong)
            assert (status, message in body["error"]["message"]) == (400, True), body
        status, body = await client.post("/deliveries/2/link", said | {"record": "invoice"})
        assert (status, body["error"]["code"]) == (409, "not_its_record")
        assert "makes creditMemo:void, not 'invoice'" in body["error"]["message"]
        status, body = await client.post("/deliveries/2/link", said)
        assert (status, body["released"]) == (200, 1)
        assert body["linked"] == {
            "object_id": "in_1", "record": "creditMemo:void", "key": "stripe_void_in_1", "vendor_id": "902",
        }  # fmt: skip
        shown = await client.ok("/deliveries/2")
        assert (shown["state"], shown["note"]) == (
            "done",
            "linked by an operator to creditMemo:void 902: booked by hand",
        )
        assert ("creditMemo:void", "902") in [(k["record"], k["vendor_id"]) for k in shown["links"]]
        assert (await client.ok("/deliveries/3"))["state"] == "waiting"
        status, body = await client.post("/deliveries/2/link", said)
        assert (status, body["error"]["code"]) == (409, "already_done")
        status, body = await client.post("/deliveries/2/link", said | {"vendor_id": "903", "instead_of": "902"})
        assert (status, body["linked"]["vendor_id"]) == (200, "903")
        status, body = await client.post("/deliveries/4/link", said)
        assert (status, body["error"]["code"]) == (409, "nothing_to_link")
        status, body = await client.post("/deliveries/99/link", said)
        assert (status, body["error"]["code"]) == (404, "not_found")


WRONG_LINKS: list[tuple[Json, str]] = [
    ({}, "vendor_id is missing or not a text"),
    ({"vendor_id": "1"}, "reason is missing"),
    ({"vendor_id": 1, "reason": "x"}, "vendor_id is missing or not a text"),
    ({"vendor_id": "1", "reason": "x", "record": 7}, "record is missing or not a text"),
    ({"vendor_id": "1 2", "reason": "x"}, "vendor_id has characters that are in no id"),
    ({"vendor_id": "1", "reason": "x", "force": True}, "there is no field 'force'"),
]


WRONG_REASONS = [
    (b"", 400, "reason is missing"),
    (b"{}", 400, "reason is missing"),
    (b'{"reason": 7}', 400, "reason is missing"),
    (b'{"reason": "  "}', 400, "reason is empty"),
    (b'{"reason": "' + b"x" * 501 + b'"}', 400, "reason has 501 characters; 500 is the most"),
    (b'{"reason": "x", "force": true}', 400, "there is no field 'force'; there are: reason"),
    (b'["reason"]', 400, "not a JSON object"),
    (b"reason=x", 400, "not JSON"),
    (b'{"reason": "' + b"x" * 17000 + b'"}', 413, "larger than 16384 bytes"),
]


@pytest.mark.parametrize("path", ["/deliveries/2/skip", "/destinations/netsuite/pause"])
async def test_a_reason_is_asked_for(client: Client, filled: Database, path: str) -> None:
    for content, status, message in WRONG_REASONS:
        answered, body = await client.post(path, content=content)
        assert answered == status, content[:60]
        assert message in body["error"]["message"]
    assert (await client.ok("/deliveries/2"))["state"] == "dead"


async def test_buttons_without_fields_take_none(client: Client, filled: Database) -> None:
    for path in ("/deliveries/2/retry", "/destinations/netsuite/resume"):
        status, body = await client.post(path, {"reason": "x"})
        assert (status, body["error"]["message"]) == (400, "there is no field 'reason'; there are: none here")


async def test_pause_and_resume(client: Client, filled: Database) -> None:
    paused = {"name": LEDGER, "paused": True, "paused_until": "until resumed", "reason": "closing the month"}
    assert await client.post("/destinations/netsuite/pause", {"reason": "closing the month"}) == (200, paused)
    shown = {d["name"]: d for d in (await client.ok("/destinations"))["items"]}[LEDGER]
    assert {k: shown[k] for k in paused} == paused
    assert shown["paused_by"] == "operator"
    assert (await client.post("/deliveries/2/retry"))[1]["note"].startswith("netsuite is paused (closing the month)")
    resumed = {"name": LEDGER, "paused": False, "paused_until": None, "reason": None}
    assert await client.post("/destinations/netsuite/resume") == (200, resumed)
    status, body = await client.post("/destinations/netsuite/resume")
    assert (status, body["error"]["code"]) == (409, "not_paused")
    status, body = await client.post("/destinations/nowhere/resume")
    assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_pause_that_has_an_end_shows_it(client: Client, filled: Database) -> None:
    await filled.fetch("pause_by_hub", CRM, NOW + timedelta(hours=1), "daily limit reached")
    shown = {d["name"]: d for d in (await client.ok("/destinations"))["items"]}[CRM]
    assert (shown["paused_until"], shown["paused_by"]) == ("2026-09-21T15:13:20Z", "hub")


async def test_bad_settings_cannot_be_resumed_away(client: Client, db: Database) -> None:
    await register(db, LEDGER, "ledger", "HUB_NETSUITE_ACCOUNT: is missing")
    status, body = await client.post("/destinations/netsuite/resume")
    assert (status, body["error"]["code"]) == (409, "paused_by_settings")
    assert "Fix the settings" in body["error"]["message"]


async def test_a_database_that_is_away_is_said_so(db: Database, client: Client) -> None:
    await db.close()
    for method, path in (("GET", "/events"), ("POST", "/deliveries/1/retry")):
        response = await client.http.request(method, api.PREFIX + path)
        hold_against_description(method, path, response)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
        assert response.headers["retry-after"] == "5"


async def test_a_question_that_is_too_large_is_given_up(client: Client, filled: Database) -> None:
    """What the time limit does to a statement, done here by hand: the limit itself is tested with the searches."""
    await execute(filled, "ALTER TABLE events RENAME TO many")
    await execute(filled, "CREATE VIEW events AS SELECT m.* FROM many m, LATERAL (SELECT pg_sleep(60 + m.seq)) s")
    asked = asyncio.create_task(client.get("/events", limit=1))
    while not asked.done():
        await filled.fetch_text(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'active' AND query LIKE '%FROM events e%'"
            " AND pid <> pg_backend_pid()"
        )
    status, body = await asked
    assert (status, body["error"]["code"]) == (503, "too_slow")


async def test_a_fault_of_our_own_has_the_shape_of_an_error(client: Client, filled: Database) -> None:
    await execute(filled, "ALTER TABLE events RENAME TO gone")
    status, body = await client.get("/events")
    assert (status, body["error"]["code"]) == (500, "internal")
    assert "gone" not in body["error"]["message"]


async def test_head_is_answered_like_get(client: Client, filled: Database) -> None:
    assert (await client.http.head("/api/v1/events")).status_code == 200
