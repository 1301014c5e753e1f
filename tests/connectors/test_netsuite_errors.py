"""Every refusal of NetSuite, and every way a request can get lost, through the real library: what becomes of it."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.netsuite.destination import NetSuite
from connectors.netsuite.errors import RULES, Reply, judge, mask
from connectors.netsuite.sandbox_env import CERTIFICATE_ID, TBA
from connectors.netsuite.settings import NetSuiteSettings
from connectors.netsuite.wire import dumps
from hub.errors import Defer, Outcome, OutcomeError, Receipt, Reject, Retry, Unknown
from hub.model import Link, Record
from tests.connectors.netsuite_kit import Act, job, world

CUSTOMER = {"companyName": "Acme Ltd", "entityId": "cus_1", "subsidiary": {"id": "1"}}


def record(fields: Mapping[str, Any] = CUSTOMER, kind: str = "customer", **changes: Any) -> Record:
    given = {"action": "upsert", "object_id": "cus_1", "key": "stripe_cus_1", "digest": "d1", "mapping": "netsuite/x@1"}
    return Record(record=kind, fields=fields, **{**given, **changes})


async def send(destination: NetSuite, *records: Record) -> Outcome:
    return (await destination.send([job(*records)]))[0]


def answering(status: int, body: bytes, media: str = "application/vnd.oracle.resource+json; type=error") -> Act:
    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return act


def refusal(code: str, detail: str, status: int = 400, **pointers: str) -> bytes:
    details = [{"detail": detail, "o:errorCode": code, **pointers}]
    return json.dumps({"title": "Bad Request", "status": status, "o:errorDetails": details}).encode()


ERROR = "Error while accessing a resource. "
TABLE = [
    (401, "INVALID_LOGIN", "Invalid login attempt. For more details, see the log", Defer, "INVALID_LOGIN"),
    (403, "INSUFFICIENT_PERMISSION", "Permission Violation", Defer, "INSUFFICIENT_PERMISSION"),
    (429, "CONCURRENCY_LIMIT_EXCEEDED", "Concurrent request limit exceeded.", Defer, "CONCURRENCY_LIMIT"),
    (400, "SSS_REQUEST_LIMIT_EXCEEDED", "Request limit exceeded", Defer, "CONCURRENCY_LIMIT"),
    (400, "REQUEST_LIMIT_EXCEEDED", "Request limit exceeded", Defer, "CONCURRENCY_LIMIT"),
    (400, "USER_ERROR", ERROR + "Concurrent request limit exceeded", Defer, "CONCURRENCY_LIMIT"),
    (409, "RCRD_HAS_BEEN_CHANGED", "Record has been changed", Retry, "RECORD_CHANGED"),
    (424, "RCRD_HAS_BEEN_CHANGED", "Record has been changed", Retry, "RECORD_CHANGED"),
    (400, "USER_ERROR", ERROR + "Record has been changed", Retry, "RECORD_CHANGED"),
    (500, "UNEXPECTED_ERROR", "An unexpected error occurred. Error ID: jrgb1", Unknown, "HTTP_500"),
    (400, "USER_ERROR", ERROR + "An unexpected error has occurred.", Unknown, "UNEXPECTED_ERROR"),
    (
        400, "USER_ERROR",
        "The account is currently unavailable while we undergo our regularly scheduled maintenance.",
        Unknown, "UNAVAILABLE",
    ),
    (401, "INVALID_LOGIN_ATTEMPT", "Invalid login attempt.", Defer, "INVALID_LOGIN"),
    (400, "USER_ERROR", ERROR + "ConcurrentModificationException", Retry, "RECORD_CHANGED"),
    (400, "USER_ERROR", ERROR + "java.lang.NullPointerException", Unknown, "UNEXPECTED_ERROR"),
    (400, "USER_ERROR", "Search error occurred: Field 'foo' not found.", Reject, "BAD_REQUEST"),
    (502, "", "", Unknown, "HTTP_502"),
    (503, "", "", Unknown, "HTTP_503"),
    (504, "", "", Unknown, "HTTP_504"),
    (400, "USER_ERROR", ERROR + "This entity already exists.", Reject, "ALREADY_EXISTS"),
    (
        400, "USER_ERROR",
        ERROR + "The transaction date you specified is not within the date range of your accounting period.",
        Reject, "PERIOD_CLOSED",
    ),
    (400, "USER_ERROR", ERROR + "Please enter value(s) for: Company Name", Reject, "MISSING_FIELD"),
    (
        400, "USER_ERROR", "The field addr1 contained more than the maximum number ( 150 ) of characters allowed.",
        Reject, "TOO_LONG",
    ),
    (400, "USER_ERROR", ERROR + "The entity doesn't have access to the currency EUR.", Reject, "CURRENCY_NOT_ALLOWED"),
    (
        400, "INVALID_CONTENT",
        "Error while accessing resource: You have entered an Invalid Field Value 9999 for the following field: item",
        Reject, "INVALID_VALUE",
    ),
    (404, "NONEXISTENT_ID", "Record does not exist.", Reject, "NOT_FOUND"),
    (400, "INVALID_PARAMETER", "Invalid query parameter.", Reject, "BAD_REQUEST"),
    (400, "USER_ERROR", ERROR + "A script said no.", Reject, "USER_ERROR"),
    (418, "", "", Reject, "USER_ERROR"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "detail", "kind", "named"), TABLE)
async def test_refusals_of_a_write(status: int, code: str, detail: str, kind: type[Outcome], named: str) -> None:
    body = refusal(code, detail, status) if code else b""
    answer = answering(status, body)

    async def act(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        if scope["method"] == "PUT":
            await answer(scope, receive, send, app)
        else:
            await app(scope, receive, send)

    with world(act) as w:
        destination = w.destination()
        outcome = await send(destination, record())
        await destination.close()
        puts = len([call for call in w.tap.seen if call[0] == "PUT"])
    assert isinstance(outcome, kind), outcome
    assert named in (getattr(outcome, "code", "") or getattr(outcome, "reason", ""))
    assert puts == (2 if status == 401 else 1)
    if isinstance(outcome, Defer):
        assert outcome.pause
        assert outcome.limited == (named == "CONCURRENCY_LIMIT"), "only then do all processes call less"
        assert outcome.delay == 300 or 2 <= outcome.delay <= 6
    if isinstance(outcome, Reject):
        assert outcome.fix
        assert "stripe_cus_1" in outcome.cause


@pytest.mark.parametrize(
    ("status", "media"),
    [(200, "text/html"), (503, "text/html"), (404, "text/html"), (302, "text/html"), (400, "text/plain")],
)
async def test_a_page_instead_of_an_answer_is_unknown(status: int, media: str) -> None:
    with world(answering(status, b"<html>maintenance</html>", media)) as w:
        destination = w.destination()
        outcome = await send(destination, record())
        looked = await destination.find(job(record()))
        await destination.close()
    assert isinstance(outcome, Unknown)
    assert isinstance(looked, Retry)


async def test_a_success_without_a_record_id_is_unknown() -> None:
    with world(answering(204, b"")) as w:
        destination = w.destination()
        assert isinstance(await send(destination, record()), Unknown)
        await destination.close()


async def test_no_answer_in_time_is_unknown_for_a_write_and_a_retry_for_a_look() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with world(silent) as w:
        destination = w.destination(request_timeout=0.3)
        assert isinstance(await send(destination, record()), Unknown)
        assert isinstance(await destination.find(job(record())), Retry)
        await destination.close()


async def test_a_reply_that_trickles_does_not_hold_a_slot_for_ever() -> None:
    async def trickle(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with world(trickle) as w:
        destination = w.destination(request_timeout=0.3)
        assert isinstance(await send(destination, record()), Unknown)
        await destination.close()


async def test_nobody_there_is_a_retry_because_nothing_was_sent() -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with world() as w:
            for destination in (w.destination(base_url=address), w.token_destination(base_url=address)):
                assert isinstance(await send(destination, record()), Retry)
                assert isinstance(await destination.find(job(record())), Retry)
                await destination.close()


async def test_a_name_clash_is_told_from_our_own_earlier_attempt() -> None:
    with world() as w:
        destination = w.destination()
        other = record({**CUSTOMER, "companyName": "Other"}, key="stripe_cus_9", object_id="cus_9")
        assert isinstance(await send(destination, other), Receipt)
        clash = await send(destination, record())
        assert isinstance(clash, Reject)
        assert clash.code == "ALREADY_EXISTS"

        async def late(scope: Scope, receive: Receive, send: Send, app: ASGIApp) -> None:
            """The answer to a write that an earlier attempt has overtaken."""
            if scope["method"] == "PUT":
                await answering(400, refusal("USER_ERROR", ERROR + "This entity already exists."))(
                    scope, receive, send, app
                )
            else:
                await app(scope, receive, send)

        w.tap.act = late
        same = {**CUSTOMER, "companyName": "Other"}
        found = await send(destination, record(same, key="stripe_cus_9", object_id="cus_9"))
        assert isinstance(found, Receipt)
        different = await send(destination, record({**same, "phone": "1234567"}, key="stripe_cus_9", object_id="cus_9"))
        assert isinstance(different, Retry)
        await destination.close()
        assert found.links[0].vendor_id == w.sim.state()["customer"][0]["id"]


async def test_a_refused_parent_stops_what_depends_on_it() -> None:
    with world() as w:
        destination = w.destination()
        bad = record({"companyName": "A" * 84, "subsidiary": {"id": "1"}})
        outcome = await send(destination, bad, record({"payment": 1}, "customerPayment", key="stripe_inpay_1"))
        await destination.close()
        assert w.tap.calls("customerPayment") == []
    assert isinstance(outcome, Reject)
    assert outcome.code == "TOO_LONG"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"client_id": "somebody-else"}, "invalid_client"),
        ({"certificate_id": "no-such-certificate"}, "invalid_client"),
    ],
)
async def test_a_refused_certificate_pauses_everything_and_says_so(changes: dict[str, str], named: str) -> None:
    with world() as w:
        destination = w.destination(**changes)
        outcome = await send(destination, record())
        with pytest.raises(OutcomeError):
            await destination.ping()
        await destination.close()
    assert isinstance(outcome, Defer)
    assert (outcome.pause, outcome.delay) == (True, 300.0)
    assert named in outcome.reason


async def test_a_wrong_token_secret_pauses_everything() -> None:
    with world() as w:
        destination = w.destination(auth="token", **{**TBA, "token_secret": "wrong"})
        outcome = await send(destination, record())
        await destination.close()
    assert isinstance(outcome, Defer)
    assert outcome.reason.startswith("INVALID_LOGIN")


async def test_rsa_keys_sign_with_the_padding_netsuite_accepts() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with world(certificates={"rsa-certificate": public}) as w:
        destination = w.destination(certificate_id="rsa-certificate", private_key=private)
        assert "TSTDRV1234567" in await destination.ping()
        await destination.close()


async def test_what_the_vendor_says_is_shown_short_and_without_addresses() -> None:
    words = ERROR + "Refused for jane.doe+x@mail.example.org. " + "x" * 500
    reply = Reply(
        400, {"content-type": "application/json"}, refusal("USER_ERROR", words).decode(), "customer", "stripe_1"
    )
    outcome = judge(reply, writing=True, rng=random.Random(1))
    assert isinstance(outcome, Reject)
    assert "jane" not in outcome.cause
    assert "<e-mail>" in outcome.cause
    assert "jane" not in repr(outcome.answer)
    assert len(mask(words)) == 300


async def test_an_unknown_action_is_refused_before_anything_is_sent() -> None:
    with world() as w:
        destination = w.destination()
        outcome = await send(destination, record(action="commit"))
        await destination.close()
        assert w.tap.seen == []
    assert isinstance(outcome, Reject)
    assert outcome.code == "UNKNOWN_ACTION"


async def test_a_link_with_another_digest_is_written_again() -> None:
    link = Link("cus_1", "customer", "stripe_cus_1", "1", "older")
    with world() as w:
        destination = w.destination()
        assert isinstance(await send(destination, record(link=link)), Receipt)
        await destination.close()
        assert len(w.sim.state()["customer"]) == 1


def test_every_rule_says_who_does_what() -> None:
    for rule in RULES:
        assert rule.cause
        assert bool(rule.fix) == (rule.kind == "reject"), rule.code


def test_settings_name_everything_that_is_missing_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        NetSuiteSettings(certificate_id=CERTIFICATE_ID, private_key=SecretStr("not a key"))
    text = str(caught.value)
    for name in ("HUB_NETSUITE_ACCOUNT", "HUB_NETSUITE_CLIENT_ID", "HUB_NETSUITE_PRIVATE_KEY"):
        assert name in text
    assert "HUB_NETSUITE_CERTIFICATE_ID" not in text
    with pytest.raises(ValidationError, match="HUB_NETSUITE_TOKEN_SECRET"):
        NetSuiteSettings(account="1234567_sb1", auth="token")


def test_numbers_are_written_out_and_floats_refused() -> None:
    from decimal import Decimal

    assert (
        dumps({"a": [Decimal("10.50"), Decimal("1E+2"), -3, True, None, "ä\n"]})
        == '{"a":[10.50,100,-3,true,null,"ä\\n"]}'
    )
    with pytest.raises(TypeError):
        dumps({"a": 0.1})
    with pytest.raises(TypeError):
        dumps(Decimal("NaN"))
