"""The webhook signature, held against Stripe's own library as well as against hand-made headers."""

from __future__ import annotations

import hashlib
import hmac
import time

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import SignatureError
from hub.signature import sign, verify

SECRET = b"whsec_one"
NOW = 1_790_000_000


def test_what_stripes_library_signs_is_accepted() -> None:
    body = '{"id": "evt_1", "name": "Zoë"}'
    header = stripe.WebhookSignature.generate_signature_header(body, "whsec_one", timestamp=NOW)
    verify(body.encode(), header, [SECRET], NOW)


def test_what_we_sign_is_accepted_by_stripes_library() -> None:
    now = int(time.time())
    body = b'{"id": "evt_1"}'
    stripe.WebhookSignature.verify_header(body.decode(), sign(body, SECRET, now), "whsec_one", tolerance=300)


@pytest.mark.parametrize("secrets", [[SECRET], [b"whsec_old", SECRET], [SECRET, b"whsec_new"]])
def test_any_of_our_secrets_and_any_of_the_signatures_will_do(secrets: list[bytes]) -> None:
    good = hmac.new(SECRET, b"%d.body" % NOW, hashlib.sha256).hexdigest()
    verify(b"body", f"t={NOW},v1={'0' * 64},v1={good},v0=ignored", secrets, NOW)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        ("nonsense", "malformed"),
        (f"t={NOW}", "malformed"),
        ("v1=abc", "malformed"),
        ("t=later,v1=abc", "malformed"),
        (f"t={NOW},v0=" + "0" * 64, "malformed"),
        (f"t={NOW},v1=" + "0" * 64, "mismatch"),
    ],
)
def test_a_bad_header_is_refused_with_its_reason(header: str | None, reason: str) -> None:
    with pytest.raises(SignatureError) as refused:
        verify(b"body", header, [SECRET], NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("age", "reason"), [(301, "stale"), (300, None), (-300, None), (-301, "future"), (86400, "stale")]
)
def test_the_timestamp_may_be_300_s_off_either_way(age: int, reason: str | None) -> None:
    header = sign(b"body", SECRET, NOW - age)
    if reason is None:
        verify(b"body", header, [SECRET], NOW)
        return
    with pytest.raises(SignatureError) as refused:
        verify(b"body", header, [SECRET], NOW)
    assert refused.value.reason == reason


@given(
    body=st.binary(max_size=200), flip=st.integers(min_value=0), other=st.from_regex(rb"[a-z0-9]{1,20}", fullmatch=True)
)
def test_a_changed_body_or_another_secret_is_refused(body: bytes, flip: int, other: bytes) -> None:
    header = sign(body, SECRET, NOW)
    verify(body, header, [SECRET], NOW)
    changed = bytearray(body or b"x")
    changed[flip % len(changed)] ^= 1
    for wrong_body, secret in ((bytes(changed), SECRET), (body, SECRET + other)):
        with pytest.raises(SignatureError):
            verify(wrong_body, header, [secret], NOW)


@given(st.text(max_size=300))
def test_no_header_whatever_raises_anything_else(header: str) -> None:
    with pytest.raises(SignatureError):
        verify(b"body", header, [SECRET], NOW)
