"""Reading what an event says about itself: everything signed passes, nothing is guessed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.envelope import read, shapes_are_mapped
from hub.errors import EnvelopeError
from hub.model import EventKind

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def body(**changes: Any) -> bytes:
    event: dict[str, Any] = {
        "id": "evt_1",
        "object": "event",
        "type": "invoice.paid",
        "created": 1_790_000_000,
        "api_version": "2026-10-28.endive",
        "livemode": False,
        "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1", "status": "paid"}},
    }
    return json.dumps(event | changes).encode()


def test_a_snapshot_event() -> None:
    event = read(body(), NOW)
    assert (event.id, event.kind, event.type, event.object_type) == (
        "evt_1",
        EventKind.SNAPSHOT,
        "invoice.paid",
        "invoice",
    )
    assert (event.object_id, event.customer_id, event.livemode, event.account) == ("in_1", "cus_1", False, None)
    assert event.created == datetime.fromtimestamp(1_790_000_000, UTC)
    assert event.body == body()


def test_a_customer_is_its_own_customer_and_an_expanded_one_is_found() -> None:
    assert read(body(data={"object": {"id": "cus_9", "object": "customer"}}), NOW).customer_id == "cus_9"
    expanded = {"id": "in_1", "object": "invoice", "customer": {"id": "cus_7", "object": "customer"}}
    assert read(body(data={"object": expanded}), NOW).customer_id == "cus_7"


def test_an_upcoming_invoice_has_no_id_and_passes() -> None:
    event = read(body(type="invoice.upcoming", data={"object": {"object": "invoice", "customer": "cus_1"}}), NOW)
    assert (event.object_id, event.customer_id) == (None, "cus_1")


def test_a_thin_notification() -> None:
    thin = {
        "id": "evt_t",
        "object": "v2.core.event",
        "type": "v1.invoice.paid",
        "livemode": False,
        "created": "2026-11-20T11:59:58.123Z",
        "related_object": {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"},
    }
    event = read(orjson.dumps(thin), NOW)
    assert (event.kind, event.object_type, event.object_id) == (EventKind.THIN, "invoice", "in_1")
    assert event.created == datetime(2026, 11, 20, 11, 59, 58, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    "bad",
    [b"", b"\xff\xfe", b"{", b"[]", b'"text"', b"null", b"{}", b'{"id": 1, "type": "x"}', b'{"id": "", "type": "x"}',
     b'{"id": "evt_1"}', b'{"id": "evt_1", "type": null}', b'{"id": "a\\u0000b", "type": "x"}'],
)  # fmt: skip
def test_what_is_no_event_is_said_to_be_none(bad: bytes) -> None:
    with pytest.raises(EnvelopeError):
        read(bad, NOW)


@pytest.mark.parametrize(
    "created",
    [None, "yesterday", 10**30, -(10**30), 1e308, True, [], "2026-13-99T00:00:00Z", -1, 253_402_300_799,
     "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"],
)  # fmt: skip
def test_a_strange_creation_time_is_the_time_of_receipt(created: object) -> None:
    assert read(body(created=created), NOW).created == NOW


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(data=_json, account=_json, version=_json, mode=_json)
def test_whatever_is_inside_a_signed_event_passes(data: Any, account: Any, version: Any, mode: Any) -> None:
    event = read(body(data=data, account=account, api_version=version, livemode=mode), NOW)
    assert event.id == "evt_1"


@pytest.mark.parametrize(
    ("version", "mapped"),
    [
        ("2020-08-27", False),
        ("2025-02-24.acacia", False),
        ("2025-03-31.basil", True),
        ("2026-10-28.endive", True),
        (None, True),
    ],
)
def test_which_versions_are_mapped(version: str | None, mapped: bool) -> None:
    assert shapes_are_mapped(version) is mapped
