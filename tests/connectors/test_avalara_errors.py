"""Every class of AvaTax error, as an answer over HTTP to the real library, and what the hub makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from connectors.avalara.destination import Avalara
from connectors.avalara.sandbox_env import environment
from connectors.avalara.settings import AvalaraSettings
from hub.config import read
from hub.errors import ConfigError, Defer, Outcome, Reject, Retry, Unknown
from tests.connectors.avalara_kit import World, commit, job, line, record, settings, void
from tests.serving import served


class Script:
    """Answers every call with the same status, headers and body."""

    status, body, headers = 200, b"{}", {"x-correlation-id": "corr-1"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture(scope="module")
def script() -> Iterator[tuple[Script, str]]:
    app = Script()
    with served(app) as url:
        yield app, url


async def outcome_of(
    scripted: tuple[Script, str], status: int, error: Any, *, read: bool = False, headers: dict[str, str] | None = None
) -> Outcome | None:
    app, url = scripted
    app.status, app.headers = status, {"x-correlation-id": "corr-1", **(headers or {})}
    app.body = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
    destination = Avalara(settings(url))
    if read:
        return await destination.find(job(void(), attempt=2))
    (outcome,) = await destination.send([job(void())])
    return outcome


def error(code: str, number: int | None = None, **detail: Any) -> dict[str, Any]:
    one = {"code": code, "number": number, "message": "It is wrong.", "severity": "Error", **detail}
    return {"code": code, "message": "It is wrong.", "target": "Unknown", "details": [one]}


CASES: list[tuple[int, Any, type]] = [
    (429, error("RequestLimitExceeded", 1715), Defer),
    (429, b"slow down", Defer),
    (400, error("ConcurrentRequestLimitExceeded", 1716), Defer),
    (400, error("RateLimitExceededError", 1723), Defer),
    (400, error("RateLimitExceeded", 4011), Defer),
    (500, error("UnhandledException", 50), Unknown),
    (500, error("ServerUnreachable", 500), Unknown),
    (400, error("TimeoutRequested", 316), Unknown),
    (400, error("ServiceNotReady", 1718), Unknown),
    (503, b"<html>Service unavailable</html>", Unknown),
    (504, b"", Unknown),
    (200, b"<html>Welcome to the proxy</html>", Unknown),
    (200, b"[]", Unknown),
    (401, error("AuthenticationException"), Defer),
    (401, error("AuthenticationIncomplete"), Defer),
    (403, error("AuthorizationException", 31), Defer),
    (403, error("PermissionRequired", 49), Defer),
    (403, error("SubscriptionRequired", 600), Defer),
    (403, error("AccountExpiredException", 39), Defer),
    (403, b"forbidden", Defer),
    (404, b'{"message": "No HTTP resource was found"}', Defer),
    (400, error("GetTaxError", 300, faultSubCode="CompanyNotFoundError"), Defer),
    (404, error("EntityNotFoundError", 4), Retry),
    (400, error("CannotModifyLockedTransaction", 1100), Reject),
    (400, error("GetTaxError", 300, faultSubCode="InvalidZipForStateError", refersTo="Addresses[1]"), Reject),
    (400, error("InvalidAddress", 309), Reject),
    (400, error("InvalidPostalCode", 317), Reject),
    (400, error("StringLengthError", 13, refersTo="description"), Reject),
    (400, error("MissingLine", 311), Reject),
    (400, error("ValueRequiredError", 5), Reject),
    (400, error("ModelStateInvalid", 70), Reject),
    (400, error("InvalidEnumValue", 164), Reject),
    (400, error("DuplicateLineNoError"), Reject),
    (400, error("EntityLimitExceeded", 10), Reject),
    (413, error("RequestTooLarge", 187), Reject),
    (400, error("DocumentCodeConflict", 303), Reject),
    (400, error("GetTaxError", 300), Reject),
    (400, error("SomethingNewError", 9999), Reject),
    (200, error("StringLengthError", 13), Reject),
]


@pytest.mark.parametrize(("status", "body", "wanted"), CASES)
async def test_each_class(script: tuple[Script, str], status: int, body: Any, wanted: type) -> None:
    outcome = await outcome_of(script, status, body)
    assert isinstance(outcome, wanted), outcome
    if isinstance(outcome, Defer):
        assert outcome.pause
        assert outcome.limited == (status == 429 or "LimitExceeded" in str(body)), (
            "only then do all processes call less"
        )
    if isinstance(outcome, Reject):
        assert outcome.code
        assert outcome.cause
        assert outcome.fix
    assert outcome.answer.request_id == "corr-1"  # type: ignore[union-attr]


@pytest.mark.parametrize(("status", "body"), [(500, error("UnhandledException", 50)), (503, b"<html></html>")])
async def test_a_look_that_fails_leaves_it_unknown(script: tuple[Script, str], status: int, body: Any) -> None:
    assert isinstance(await outcome_of(script, status, body, read=True), Unknown)


async def test_retry_after_is_heeded(script: tuple[Script, str]) -> None:
    limited = await outcome_of(script, 429, error("RequestLimitExceeded", 1715), headers={"retry-after": "17"})
    assert isinstance(limited, Defer)
    assert limited.delay == 17


async def test_what_avatax_says_is_shortened_and_without_addresses(script: tuple[Script, str]) -> None:
    told = error("GetTaxError", 300, description="Ask jane.doe@example.com about 5 Hidden Road. " + "x" * 500)
    outcome = await outcome_of(script, 400, told)
    assert isinstance(outcome, Reject)
    assert "jane.doe@example.com" not in outcome.cause
    assert "<e-mail>" in outcome.cause
    assert len(outcome.cause) < 400
    assert "Hidden" not in json.dumps(dict(outcome.answer.detail))
    known = await outcome_of(script, 401, error("AuthenticationException", description="user jane.doe@example.com"))
    assert "jane" not in repr(known)


async def test_what_the_simulator_refuses_is_told_without_personal_data(avalara: World) -> None:
    there = avalara.fresh()
    nowhere = {"line1": "5 Hidden Road", "city": "Secretville", "postalCode": "00000", "region": "WA", "country": "US"}
    for wanted, code, field in (
        (record(addresses={"shipFrom": nowhere, "shipTo": nowhere}), "ZipNotValidError", "Addresses[0]"),
        (record(line("a", "1", "0"), line("a", "2", "0")), "DuplicateLineNoError", "lines"),
        (record(customerCode="c" * 51), "StringLengthError", "customerCode"),
        (record(email="jane.doe@example.com" * 3), "StringLengthError", "email"),
        (record(surprise=True), "ModelStateInvalid", "surprise"),
        (record(date="soon"), "ModelStateInvalid", "date"),
    ):
        (outcome,) = await there.destination().send([job(wanted)])
        assert isinstance(outcome, Reject), outcome
        assert (outcome.code, field in outcome.cause) == (code, True)
        assert not any(word in repr(outcome) for word in ("Hidden", "Secretville", "jane"))
    assert there.documents() == []


async def test_receipts_hold_no_personal_data(avalara: World) -> None:
    there = avalara.fresh()
    (done,) = await there.destination(commit_on="paid").send([job(record(description="for Jane Doe"), commit())])
    assert not any(word in repr(done) for word in ("Jane", "Pike", "98101", "cus_1"))


# Settings


def given(**changes: Any) -> dict[str, Any]:
    env = environment("http://127.0.0.1:9700/avalara")
    values = {k.removeprefix("HUB_AVALARA_").lower(): v for k, v in env.items()}
    return {k: v for k, v in {**values, **changes}.items() if v is not None}


@pytest.mark.parametrize("typo", ["sandbx", "Sandbox ", "prod", "https://rest.avatax.com"])
def test_an_environment_that_is_neither_is_refused(typo: str) -> None:
    with pytest.raises(ValidationError, match="environment"):
        AvalaraSettings(**given(environment=typo))


def test_addresses() -> None:
    assert AvalaraSettings(**given(base_url=None)).address == "https://sandbox-rest.avatax.com"
    assert AvalaraSettings(**given(base_url=None, environment="production")).address == "https://rest.avatax.com"
    assert (
        AvalaraSettings(**given(base_url="http://127.0.0.1:9700/avalara/")).address == "http://127.0.0.1:9700/avalara"
    )
    with pytest.raises(ValidationError, match="plain http"):
        AvalaraSettings(**given(base_url="http://rest.avatax.com"))


def test_all_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no hub.toml
    for name in environment(""):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HUB_AVALARA_COMMIT_ON", "never")
    with pytest.raises(ConfigError) as raised:
        read(AvalaraSettings)
    names = ("ENVIRONMENT", "ACCOUNT_ID", "LICENSE_KEY", "COMPANY_CODE", "SHIP_FROM_COUNTRY")
    assert {f"HUB_AVALARA_{name}: is missing" for name in names} < set(raised.value.problems)
    assert len(raised.value.problems) == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ship_from_region": None, "ship_from_city": None, "ship_from_postal_code": None}, "too vague"),
        ({"ship_from_country": "USA"}, "two-letter"),
        ({"company_code": "A/B"}, "company_code"),
        ({"commit_on": "never"}, "commit_on"),
    ],
)
def test_other_settings_that_cannot_work(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AvalaraSettings(**given(**changes))


def test_the_license_key_is_not_shown() -> None:
    assert "SANDBOX0LICENSE0KEY" not in repr(AvalaraSettings(**given()))
