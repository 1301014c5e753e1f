"""Signing in: once for everybody, again when a session ends, and clear words when it cannot work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from connectors.salesforce.settings import SalesforceSettings
from hub.errors import Defer, OutcomeError, Receipt, Retry, Unknown
from tests.connectors.salesforce_kit import Org, account, job, org, receipts, replying

USER = "hub@acme.example"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def _jwt(key: rsa.RSAPrivateKey, **more: Any) -> dict[str, Any]:
    return {"client_id": "app", "client_secret": None, "username": USER, "private_key": _pem(key), **more}


def _register(o: Org, key: rsa.RSAPrivateKey, user: str = USER) -> None:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    o.sim.sessions.register("app", user, public)


async def test_one_sign_in_serves_many_calls() -> None:
    async with org() as o:
        await asyncio.gather(*[o.send(job(n, account(f"cus_{n}"))) for n in range(10)])
        assert o.front.logins == 1
        assert len(o.sim.state()["Account"]) == 10


async def test_ten_calls_that_meet_one_expired_session_sign_in_once() -> None:
    async with org(slots=10) as o:
        await o.send(job(0, account()))
        o.sim.expire_sessions()
        results = await asyncio.gather(*[o.send(job(n, account(f"cus_{n}"))) for n in range(10)])
        receipts([outcome for result in results for outcome in result])
        assert o.front.logins == 2
        # The header that marks our writes is there on the repeated calls too.
        assert {c.headers["sforce-call-options"] for c in o.front.calls} == {"client=billinghub"}


async def test_a_session_that_is_refused_at_once_is_not_tried_for_ever() -> None:
    async with org() as o:
        status, _, body = o.sim.refusal("expired")
        o.front.faults += [replying(status, body.decode())] * 2
        (outcome,) = await o.send(job(1, account()))
        assert isinstance(outcome, Defer)
        assert outcome.pause
        assert (len(o.front.calls), o.front.logins) == (2, 2)


async def test_a_session_ends_by_the_clock() -> None:
    async with org() as o:
        await o.send(job(1, account()))
        o.clock.offset += 7201
        receipts(await o.send(job(2, account("cus_2"))))
        assert o.front.logins == 2


async def test_ten_calls_that_cannot_sign_in_try_it_once() -> None:
    async with org(client_secret="wrong", slots=10) as o:

        async def slow(app: Any, scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.3)  # long enough for all ten to stand in line
            await app(scope, receive, send)

        o.front.sign_in_faults.append(slow)
        results = await asyncio.gather(*[o.send(job(n, account())) for n in range(10)])
        for (outcome,) in results:
            assert isinstance(outcome, Defer)
            assert outcome.pause
            assert outcome.delay == 300.0
            assert "HUB_SALESFORCE_CLIENT_SECRET" in outcome.reason
            assert "wrong" not in repr(outcome)
        assert o.front.logins == 1
        assert o.front.calls == []


async def test_jwt_bearer(key: rsa.RSAPrivateKey) -> None:
    async with org(**_jwt(key)) as o:
        _register(o, key)
        receipts(await o.send(job(1, account())))
        assert o.front.logins == 1


async def test_jwt_bearer_with_the_key_in_a_file(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    file = tmp_path / "salesforce.pem"
    file.write_text(_pem(key))
    async with org(**{**_jwt(key), "private_key": None, "private_key_file": file, "audience": "test"}) as o:
        _register(o, key)
        receipts(await o.send(job(1, account())))


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library's advice to the developer
async def test_jwt_bearer_refused(key: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with org(**_jwt(key)) as o:
        (unknown,) = await o.send(job(1, account()))
        assert isinstance(unknown, Defer)
        assert "HUB_SALESFORCE_CLIENT_ID" in unknown.reason
        _register(o, other)
        (bad_key,) = await o.send(job(1, account()))
        assert isinstance(bad_key, Defer)
        assert "certificate" in bad_key.reason
        _register(o, key, "someone@else.example")
        (bad_user,) = await o.send(job(1, account()))
        assert isinstance(bad_user, Defer)
        assert "pre-authorize" in bad_user.reason
        _register(o, key)
        o.clock.offset += 600
        (late,) = await o.send(job(1, account()))
        assert isinstance(late, Defer)
        assert "clock" in late.reason


async def test_other_refusals_of_the_sign_in() -> None:
    async with org() as o:
        o.sim.sessions.run_as = False
        (nobody,) = await o.send(job(1, account()))
        assert isinstance(nobody, Defer)
        assert "Run As" in nobody.reason
        o.sim.sessions.run_as = True
        o.sim.sessions.login_limit = 0
        (limited,) = await o.send(job(1, account()))
        assert isinstance(limited, Defer)
        assert limited.delay == 900.0


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, "<html>maintenance jo@example.com</html>", Retry),
        (200, "<html>log in</html>", Defer),
        (200, "{}", Retry),
        (400, "[1]", Retry),
        (400, '{"error":"invalid_grant","error_description":"jo@example.com is locked"}', Defer),
    ],
)
async def test_a_sign_in_that_is_no_sign_in_never_leaves_a_write_in_doubt(status: int, body: str, kind: type) -> None:
    async with org() as o:
        o.front.sign_in_faults.append(replying(status, body))
        (outcome,) = await o.send(job(1, account()))
        assert isinstance(outcome, kind)
        assert not isinstance(outcome, Unknown)
        assert "example.com" not in repr(outcome)
        assert isinstance((await o.send(job(1, account())))[0], Receipt)


async def test_a_sign_in_has_a_timeout() -> None:
    async with org(timeout=0.3) as o:

        async def silent(_app: Any, _scope: Any, receive: Any, _send: Any) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        o.front.sign_in_faults.append(silent)
        (outcome,) = await o.send(job(1, account()))
        assert isinstance(outcome, Retry)
        assert "ReadTimeout" in outcome.reason


async def test_ping_names_the_org_and_costs_one_call() -> None:
    async with org() as o:
        line = await o.hub.ping()
        assert line.startswith("sandbox org Billing Hub Sandbox (00D")
        assert line.endswith("API v67.0, 1 of 100000 calls used today")
        assert len(o.front.calls) == 1


async def test_ping_says_what_is_wrong() -> None:
    async with org(client_id="nobody") as o:
        with pytest.raises(OutcomeError) as raised:
            await o.hub.ping()
        assert isinstance(raised.value.outcome, Defer)


def test_settings_report_all_that_is_missing_and_show_no_secret(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(ValidationError) as raised:
        SalesforceSettings(api_version="45.0")
    text = str(raised.value)
    for name in ("DOMAIN", "CLIENT_ID", "CLIENT_SECRET", "PRIVATE_KEY", "API_VERSION"):
        assert f"HUB_SALESFORCE_{name}" in text
    pem = _pem(key)
    cases: list[dict[str, Any]] = [
        {"client_secret": "s3cret", "private_key": pem},
        {"private_key": pem},
        {"private_key": "s3cret", "username": USER},
        {"private_key": _pem(ec.generate_private_key(ec.SECP256R1())), "username": USER},
        {"private_key_file": "/nowhere/s3cret.pem", "username": USER},
        {"domain": "login", "client_secret": "s3cret"},
        {"client_secret": "s3cret", "lease": 50.0},
        {"domain": "https://acme.my.salesforce.com", "client_secret": "s3cret"},
    ]
    for case in cases:
        with pytest.raises(ValidationError) as raised:
            SalesforceSettings(**{"domain": "acme.my", "client_id": "app", **case})
        assert "HUB_SALESFORCE_" in str(raised.value) or "private key" in str(raised.value)
        assert "s3cret" not in str(raised.value)
        assert "BEGIN" not in str(raised.value)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"DOMAIN": "acme--uat.sandbox.my", "CLIENT_ID": "app", "CLIENT_SECRET": "x", "UNKNOWN_WAIT": "7"}
    for name, value in given.items():
        monkeypatch.setenv(f"HUB_SALESFORCE_{name}", value)
    settings = SalesforceSettings()
    assert settings.unknown_wait == 7.0
    assert settings.jwt_audience() == "test"
