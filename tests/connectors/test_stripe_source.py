"""Reading Stripe through stripe-python over real HTTP, against a small strict stand-in that answers what it is told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import stripe
from pydantic import SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.stripe.client import PINNED_VERSION, supported
from connectors.stripe.destination import create
from connectors.stripe.settings import StripeSettings
from connectors.stripe.source import StripeSource
from connectors.stripe.source import create as source_of
from hub.destination import Limit
from hub.errors import Defer, OutcomeError, Receipt, Reject, Retry
from hub.model import Event, EventKind, Job
from tests.serving import served

NOW = datetime(2026, 11, 20, 12, 0, 5, tzinfo=UTC)
KEY = "rk_test_standin"


def error(status: int, code: str | None = None, type_: str = "invalid_request_error", **headers: str) -> Any:
    inner = {"type": type_, "message": "No such thing: person@example.com", **({"code": code} if code else {})}
    return status, headers, json.dumps({"error": inner})


@dataclass
class StandIn:
    """Answers by path; several answers to one path are given in turn, the last one for ever."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def put(self, path: str, *answers: Any) -> None:
        self.answers[path] = list(answers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.seen.append(f"{request.method} {path}")
        self.headers.append(dict(request.headers))
        status, headers, body = self._answer(request, path)
        response = Response(body, status, {"request-id": "req_1", "content-type": "application/json", **headers})
        await response(scope, receive, send)

    def _answer(self, request: Request, path: str) -> Any:
        if request.method != "GET" or request.headers["stripe-version"] != PINNED_VERSION:
            return error(400, "strict")
        if request.headers["authorization"] != f"Bearer {KEY}" or "x-stripe-client-telemetry" in request.headers:
            return error(401)
        if path not in self.answers:
            return error(404)
        found = self.answers[path]
        given = found.pop(0) if len(found) > 1 else found[0]
        return given if isinstance(given, tuple) else (200, {}, given if isinstance(given, str) else json.dumps(given))


def settings(url: str, **changes: Any) -> StripeSettings:
    given = {"api_key": KEY, "webhook_secrets": "whsec_x", "api_base": url, "rate": 100.0, "retries": 0, **changes}
    return StripeSettings(**given)


@contextlib.asynccontextmanager
async def reading(stand_in: StandIn, *, limit: Limit | None = None, **changes: Any) -> AsyncIterator[StripeSource]:
    with served(stand_in) as url:
        source = source_of(settings(url, **changes), limit)
        try:
            yield source
        finally:
            await source.close()


async def outcome_of(stand_in: StandIn, **changes: Any) -> Any:
    async with reading(stand_in, **changes) as source:
        with pytest.raises(OutcomeError) as caught:
            await source.read("customer", "cus_1")
    assert "person@example.com" not in repr(caught.value.outcome)
    return caught.value.outcome


# --- reading


@pytest.mark.parametrize(
    ("object_type", "path"),
    [
        ("customer", "/v1/customers/x_1"),
        ("product", "/v1/products/x_1"),
        ("price", "/v1/prices/x_1"),
        ("subscription", "/v1/subscriptions/x_1"),
        ("invoice", "/v1/invoices/x_1"),
        ("credit_note", "/v1/credit_notes/x_1"),
        ("invoice_payment", "/v1/invoice_payments/x_1"),
        ("payment_intent", "/v1/payment_intents/x_1"),
        ("charge", "/v1/charges/x_1"),
        ("refund", "/v1/refunds/x_1"),
        ("event", "/v1/events/x_1"),
        ("billing.meter", "/v1/billing/meters/x_1"),
    ],
)
async def test_reads_each_type_where_it_is_kept(object_type: str, path: str) -> None:
    stand_in = StandIn()
    stand_in.put(path, {"id": "x_1", "object": object_type})
    async with reading(stand_in) as source:
        assert await source.read(object_type, "x_1") == {"id": "x_1", "object": object_type}
    assert stand_in.seen == [f"GET {path}"]


async def test_numbers_come_as_integers_and_decimals_and_text_stays_text() -> None:
    stand_in = StandIn()
    stand_in.put(
        "/v1/prices/p", '{"id":"p","unit_amount":12345678901234567,"unit_amount_decimal":"0.10","percentage":8.10}'
    )
    async with reading(stand_in) as source:
        read = await source.read("price", "p")
    assert read == {
        "id": "p",
        "unit_amount": 12345678901234567,
        "unit_amount_decimal": "0.10",
        "percentage": Decimal("8.10"),
    }
    assert [type(value) for value in read.values()] == [str, int, str, Decimal]
    assert type(read) is dict


async def test_follows_the_lines_of_an_invoice_to_their_end() -> None:
    stand_in = StandIn()
    first = {"object": "list", "has_more": True, "data": [{"id": "il_1"}], "url": "/v1/invoices/in_1/lines"}
    stand_in.put("/v1/invoices/in_1", {"id": "in_1", "object": "invoice", "lines": first})
    stand_in.put("/v1/invoices/in_1/lines?limit=100", {"has_more": True, "data": [{"id": "il_1"}, {"id": "il_2"}]})
    stand_in.put("/v1/invoices/in_1/lines?limit=100&starting_after=il_2", {"has_more": False, "data": [{"id": "il_3"}]})
    async with reading(stand_in) as source:
        read = await source.read("invoice", "in_1")
        assert await source.list_lines("in_1") == [{"id": "il_1"}, {"id": "il_2"}, {"id": "il_3"}]
    assert read is not None
    assert read["lines"] == {**first, "data": [{"id": "il_1"}, {"id": "il_2"}, {"id": "il_3"}], "has_more": False}


async def test_a_subscription_with_more_items_than_one_page() -> None:
    stand_in = StandIn()
    stand_in.put("/v1/subscriptions/sub_1", {"id": "sub_1", "items": {"has_more": True, "data": []}})
    stand_in.put("/v1/subscription_items?limit=100&subscription=sub_1", {"has_more": False, "data": [{"id": "si_1"}]})
    async with reading(stand_in) as source:
        read = await source.read("subscription", "sub_1")
    assert read is not None
    assert read["items"] == {"has_more": False, "data": [{"id": "si_1"}]}


async def test_a_list_that_never_ends_is_trouble_not_a_loop() -> None:
    stand_in = StandIn()
    stand_in.put("/v1/invoices/in_1/lines?limit=100", {"has_more": True, "data": []})
    async with reading(stand_in) as source:
        with pytest.raises(OutcomeError) as caught:
            await source.list_lines("in_1")
    assert isinstance(caught.value.outcome, Retry)


async def test_deleted_and_missing_objects_differ() -> None:
    stand_in = StandIn()
    stand_in.put("/v1/customers/cus_gone", {"id": "cus_gone", "object": "customer", "deleted": True})
    stand_in.put("/v1/customers/cus_never", error(404, "resource_missing"))
    async with reading(stand_in) as source:
        assert await source.read("customer", "cus_gone") == {"id": "cus_gone", "object": "customer", "deleted": True}
        assert await source.read("customer", "cus_never") is None


async def test_an_id_cannot_leave_its_folder() -> None:
    stand_in = StandIn()
    async with reading(stand_in) as source:
        with pytest.raises(OutcomeError):
            await source.read("customer", "../balance?x=1")
    assert stand_in.headers
    assert all("balance?" not in path for path in stand_in.seen)


async def test_an_unknown_type_is_refused_without_a_call() -> None:
    stand_in = StandIn()
    async with reading(stand_in) as source:
        with pytest.raises(OutcomeError) as caught:
            await source.read("unicorn", "u_1")
    assert isinstance(caught.value.outcome, Reject)
    assert stand_in.seen == []


# --- trouble


async def test_a_limit_defers_by_retry_after_and_tells_the_shared_limit() -> None:
    stand_in, limit = StandIn(), Counted()
    limited = {"retry-after": "40", "stripe-rate-limited-reason": "endpoint-rate"}
    stand_in.put(
        "/v1/customers/cus_1", (429, limited, '{"error":{"type":"invalid_request_error","code":"rate_limit"}}')
    )
    async with reading(stand_in, limit=limit) as source:
        with pytest.raises(OutcomeError) as caught:
            await source.read("customer", "cus_1")
    outcome = caught.value.outcome
    assert isinstance(outcome, Defer)
    assert (outcome.pause, outcome.delay, limit.cuts) == (False, 40.0, [40.0])


async def test_a_lock_timeout_is_no_limit_of_ours() -> None:
    stand_in = StandIn()
    stand_in.put("/v1/customers/cus_1", error(429, "lock_timeout"))
    assert isinstance(await outcome_of(stand_in), Retry)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_bad_key_pauses(status: int) -> None:
    stand_in = StandIn()
    stand_in.put("/v1/customers/cus_1", error(status))
    outcome = await outcome_of(stand_in)
    assert isinstance(outcome, Defer)
    assert outcome.pause
    assert outcome.delay >= 60
    assert outcome.answer.request_id == "req_1"


@pytest.mark.parametrize(
    "answer",
    [
        error(500, None, "api_error"),
        error(409, "idempotency_key_in_use"),
        (503, {"content-type": "text/html"}, "<html>down, person@example.com</html>"),
        (200, {"content-type": "text/html"}, "<html>captive portal</html>"),
    ],
)
async def test_trouble_is_tried_again(answer: Any) -> None:
    stand_in = StandIn()
    stand_in.put("/v1/customers/cus_1", answer)
    assert isinstance(await outcome_of(stand_in), Retry)


async def test_an_unknown_address_is_not_a_missing_object() -> None:
    assert isinstance(await outcome_of(StandIn()), Reject)


async def test_nobody_listening_is_tried_again() -> None:
    source = StripeSource(settings("http://127.0.0.1:1"))
    with pytest.raises(OutcomeError) as caught:
        await source.read("customer", "cus_1")
    await source.close()
    assert isinstance(caught.value.outcome, Retry)


async def test_the_library_repeats_a_failed_read_as_often_as_the_setting_says() -> None:
    stand_in = StandIn()
    stand_in.put("/v1/customers/cus_1", error(500, None, "api_error"), {"id": "cus_1"})
    async with reading(stand_in, retries=1) as source:
        assert await source.read("customer", "cus_1") == {"id": "cus_1"}
    assert len(stand_in.seen) == 2


@dataclass
class Counted:
    """A limit that remembers; `closed` turns every call away."""

    turns: int = 0
    cuts: list[float] = field(default_factory=list)
    closed: bool = False

    async def turn(self) -> None:
        self.turns += 1
        if self.closed:
            raise OutcomeError(Defer("too many are waiting", 12.0))

    async def cut(self, hold: float = 0.0) -> None:
        self.cuts.append(hold)


async def test_every_read_takes_its_turn_at_the_shared_limit_and_none_is_made_without() -> None:
    stand_in, limit = StandIn(), Counted()
    stand_in.put("/v1/customers/cus_1", {"id": "cus_1"})
    async with reading(stand_in, limit=limit) as source:
        await source.read("customer", "cus_1")
        limit.closed = True
        with pytest.raises(OutcomeError):
            await source.read("customer", "cus_1")
    assert (limit.turns, len(stand_in.seen)) == (2, 1)


async def test_a_rate_limit_slows_all_readers_down_and_a_lock_timeout_does_not() -> None:
    stand_in, limit = StandIn(), Counted()
    too_fast = error(429, "rate_limit", **{"retry-after": "7"})
    stand_in.put("/v1/customers/cus_1", error(429, "lock_timeout"), too_fast)
    async with reading(stand_in, limit=limit) as source:
        for wanted in (Retry, Defer):
            with pytest.raises(OutcomeError) as caught:
                await source.read("customer", "cus_1")
            assert isinstance(caught.value.outcome, wanted)
    assert limit.cuts == [7.0]


# --- thin notifications


def thin(id_: str, type_: str, related: dict[str, str] | None, context: str | None = None) -> Job:
    body = {
        "id": id_,
        "object": "v2.core.event",
        "type": type_,
        "livemode": False,
        "created": "2026-11-20T12:00:00.250Z",
        "related_object": related,
        "context": context,
    }
    return Job(
        1,
        Event(
            id=id_,
            kind=EventKind.THIN,
            type=type_,
            body=json.dumps(body).encode(),
            created=datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC),
            received_at=NOW,
            account=context,
            livemode=False,
            seq=1,
        ),
    )


INVOICE = {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"}


async def fetched(stand_in: StandIn, job: Job) -> Any:
    with served(stand_in) as url:
        destination = create(settings(url), now=lambda: NOW)
        try:
            (outcome,) = await destination.send([job])
            assert await destination.find(job) is None
        finally:
            await destination.close()
    return outcome


async def test_a_thin_notification_becomes_a_snapshot_event() -> None:
    stand_in = StandIn()
    stand_in.put("/v2/core/events/evt_t1", {"id": "evt_t1", "related_object": INVOICE, "data": {}})
    raw = '{"id":"in_1","object":"invoice","status":"paid","customer":"cus_1","total":1000,"rate":8.10}'
    stand_in.put("/v1/invoices/in_1", raw)
    outcome = await fetched(stand_in, thin("evt_t1", "v1.invoice.paid", INVOICE))
    assert isinstance(outcome, Receipt)
    (event,) = outcome.follow_ups
    assert (event.id, event.kind, event.type) == ("evt_t1:fetched", EventKind.SNAPSHOT, "invoice.paid")
    assert (event.object_type, event.object_id, event.customer_id, event.rank) == ("invoice", "in_1", "cus_1", 3)
    whole_seconds = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert (event.created, event.received_at) == (whole_seconds, NOW), "its snapshot twin has no fraction either"
    assert (event.api_version, event.livemode) == (PINNED_VERSION, False)
    assert raw.encode() in event.body  # as Stripe wrote it
    assert json.loads(event.body) == {
        "id": "evt_t1:fetched",
        "object": "event",
        "type": "invoice.paid",
        "created": 1795176000,  # 2026-11-20T12:00:00Z
        "api_version": PINNED_VERSION,
        "livemode": False,
        "request": None,
        "data": {"object": {**json.loads(raw)}},
    }


async def test_a_related_object_that_is_gone_is_a_deleted_one() -> None:
    stand_in = StandIn()
    related = {"id": "cus_1", "type": "customer", "url": "/v1/customers/cus_1"}
    stand_in.put("/v2/core/events/evt_t2", {"id": "evt_t2", "related_object": related})
    stand_in.put("/v1/customers/cus_1", error(404, "resource_missing"))
    outcome = await fetched(stand_in, thin("evt_t2", "v1.customer.updated", related))
    (event,) = outcome.follow_ups
    assert json.loads(event.body)["data"]["object"] == {"id": "cus_1", "object": "customer", "deleted": True}
    assert (event.object_id, event.customer_id) == ("cus_1", "cus_1")


async def test_a_notification_without_an_object_hands_on_its_data() -> None:
    stand_in = StandIn()
    data = {"developer_message_summary": "3 events had no meter", "reason": {"error_count": 3}, "ratio": 0.50}
    stand_in.put("/v2/core/events/evt_t3", {"id": "evt_t3", "related_object": None, "data": data})
    outcome = await fetched(stand_in, thin("evt_t3", "v1.billing.meter.no_meter_found", None))
    (event,) = outcome.follow_ups
    assert event.type == "billing.meter.no_meter_found"
    assert json.loads(event.body)["data"] == {"object": data}
    assert event.object_id is None


async def test_what_an_event_says_beyond_its_object_is_kept() -> None:
    stand_in = StandIn()
    meter = {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"}
    stand_in.put("/v2/core/events/evt_t4", {"id": "evt_t4", "related_object": meter, "data": {"error_count": 2}})
    stand_in.put("/v1/billing/meters/mtr_1", {"id": "mtr_1", "object": "billing.meter"})
    outcome = await fetched(stand_in, thin("evt_t4", "v1.billing.meter.error_report_triggered", meter, "acct_9"))
    (event,) = outcome.follow_ups
    body = json.loads(event.body)
    assert body["data"] == {"object": {"id": "mtr_1", "object": "billing.meter"}, "event_data": {"error_count": 2}}
    assert (body["account"], body["context"], event.account) == ("acct_9", "acct_9", "acct_9")
    assert [headers["stripe-context"] for headers in stand_in.headers] == ["acct_9", "acct_9"]


async def test_an_event_stripe_has_forgotten() -> None:
    stand_in = StandIn()
    stand_in.put("/v2/core/events/evt_old", error(404, "not_found"))
    stand_in.put("/v1/invoices/in_1", {"id": "in_1", "object": "invoice", "status": "draft"})
    with_object = await fetched(stand_in, thin("evt_old", "v1.invoice.created", INVOICE))
    assert isinstance(with_object, Receipt)
    assert with_object.follow_ups[0].object_id == "in_1"
    assert with_object.note is not None
    without = await fetched(stand_in, thin("evt_old", "v1.billing.meter.no_meter_found", None))
    assert isinstance(without, Reject)
    assert without.code == "event_gone"


@pytest.mark.parametrize(
    "url", ["@evil.example/v1/x", "https://evil.example/v1/x", "/v1/../x", "/v1/x?expand=y", "/v3/x"]
)
async def test_our_key_goes_nowhere_but_to_plain_api_paths(url: str) -> None:
    stand_in = StandIn()
    related = {"id": "x", "type": "invoice", "url": url}
    stand_in.put("/v2/core/events/evt_bad", {"id": "evt_bad", "related_object": related})
    outcome = await fetched(stand_in, thin("evt_bad", "v1.invoice.paid", related))
    assert isinstance(outcome, Reject)
    assert outcome.code == "odd_related_url"
    assert stand_in.seen == ["GET /v2/core/events/evt_bad"]


async def test_trouble_while_fetching_is_the_outcome() -> None:
    stand_in = StandIn()
    stand_in.put("/v2/core/events/evt_t5", error(429, "rate_limit"))
    assert isinstance(await fetched(stand_in, thin("evt_t5", "v1.invoice.paid", INVOICE)), Defer)


async def test_ping_names_mode_version_and_newest_event() -> None:
    stand_in = StandIn()
    stand_in.put("/v1/events?limit=1", {"data": [{"id": "evt_77"}]}, {"data": []}, error(401))
    with served(stand_in) as url:
        destination = create(settings(url))
        assert await destination.ping() == f"test mode, API {PINNED_VERSION}, newest event evt_77"
        assert await destination.ping() == f"test mode, API {PINNED_VERSION}, no events yet"
        with pytest.raises(OutcomeError):
            await destination.ping()
        await destination.close()


# --- versions and settings


@pytest.mark.parametrize(
    ("version", "mapped"),
    [
        ("2025-03-31.basil", True),
        ("2026-10-28.endive", True),
        ("2027-01-01.next", True),
        ("2025-02-24.acacia", False),
        ("2020-08-27", False),
        (None, False),
    ],
)
def test_supported_versions(version: str | None, mapped: bool) -> None:
    assert supported(version) is mapped


def test_the_pinned_version_is_the_librarys_and_is_supported() -> None:
    assert stripe.api_version == PINNED_VERSION
    assert supported(PINNED_VERSION)


def test_settings_read_lists_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_STRIPE_API_KEY", "sk_live_1")
    monkeypatch.setenv("HUB_STRIPE_LIVEMODE", "true")
    monkeypatch.setenv("HUB_STRIPE_WEBHOOK_SECRETS", "whsec_a, whsec_b,")
    monkeypatch.setenv("HUB_STRIPE_ACCOUNT", "acct_1,acct_2")
    read = StripeSettings()
    assert [secret.get_secret_value() for secret in read.webhook_secrets] == ["whsec_a", "whsec_b"]
    assert read.account == read.accounts == ("acct_1", "acct_2")
    assert "sk_live_1" not in repr(read)


def test_settings_report_all_problems_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        StripeSettings(account=("cus_1",))
    text = str(caught.value)
    for problem in (
        "HUB_STRIPE_API_KEY is missing",
        "HUB_STRIPE_WEBHOOK_SECRETS is missing",
        "HUB_STRIPE_ACCOUNT has cus_1",
    ):
        assert problem in text


@pytest.mark.parametrize(("key", "livemode"), [("sk_live_1", False), ("rk_test_1", True), ("pk_test_1", False)])
def test_a_key_of_the_other_mode_or_kind_is_refused(key: str, livemode: bool) -> None:
    with pytest.raises(ValidationError, match="HUB_STRIPE_API_KEY"):
        StripeSettings(api_key=SecretStr(key), webhook_secrets=(SecretStr("whsec_1"),), livemode=livemode)


def test_a_secret_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        StripeSettings(api_key=SecretStr("sk_test_1"), webhook_secrets=(SecretStr("topsecret"),))
    assert "do not start with whsec_" in str(caught.value)
    assert "topsecret" not in str(caught.value)
