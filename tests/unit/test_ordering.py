from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ordering import last_of, rank


@pytest.mark.parametrize(
    ("object_type", "body", "event_type", "expected"),
    [
        ("invoice", {"status": "draft"}, None, 0),
        ("invoice", {"status": "open"}, None, 1),
        ("invoice", {"status": "uncollectible"}, None, 2),
        ("invoice", {"status": "paid"}, None, 3),
        ("invoice", {"status": "void"}, None, 3),
        ("invoice", {"status": "a status of next year"}, None, 1),
        ("invoice", {"status": None}, None, 0),
        ("invoice", {"status": "draft"}, "invoice.deleted", 9),
        ("subscription", {"status": "active"}, None, 0),
        ("subscription", {"status": "past_due"}, None, 0),
        ("subscription", {"status": "canceled"}, None, 1),
        ("subscription", {"status": "incomplete_expired"}, None, 1),
        ("subscription", {"status": "canceled"}, "customer.subscription.deleted", 1),
        ("credit_note", {"status": "issued"}, None, 0),
        ("credit_note", {"status": "void"}, None, 1),
        ("customer", {"deleted": True}, None, 9),
        ("customer", {"name": "whole"}, "customer.deleted", 9),
        ("customer", {"name": "whole"}, "customer.updated", 0),
        ("charge", {"status": "succeeded"}, None, 0),
        (None, {"object": "invoice", "status": "paid"}, None, 3),
        (None, {"object": "event", "data": {"object": {"object": "invoice", "status": "paid"}}}, None, 3),
        ("product", {"object": "event", "type": "product.deleted", "data": {"object": {"object": "product"}}}, None, 9),
        ("product", {"object": "event", "type": "product.updated", "data": None}, None, 0),
    ],
)  # fmt: skip
def test_rank(object_type: str | None, body: dict[str, Any], event_type: str | None, expected: int) -> None:
    assert rank(object_type, body, event_type) == expected


def test_a_status_never_loses_to_one_that_comes_before_it() -> None:
    """Every step of Stripe's state machine goes up, so the clock is not needed to put two statuses in order."""
    steps = ["draft>open", "open>paid", "open>void", "open>uncollectible", "uncollectible>paid", "uncollectible>void"]
    for step in steps:
        before, after = (rank("invoice", {"status": s}) for s in step.split(">"))
        assert after > before, step


def updated(before: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The `*.updated` event that Stripe sends for a change: the new object, and what the changed keys were."""
    previous = {key: before.get(key) for key in changes}
    return {"type": "customer.updated", "data": {"object": before | changes, "previous_attributes": previous}}


ACME: dict[str, Any] = {"id": "cus_1", "object": "customer", "name": "Acme", "address": {"city": "Oslo", "line1": "A"}}
CREATED: dict[str, Any] = {"type": "customer.created", "data": {"object": ACME}}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_chain_of_changes_in_one_second_is_read_from_the_events(order: tuple[int, ...]) -> None:
    first = updated(ACME, name="Acme Ltd")
    second = updated(first["data"]["object"], name="Acme Inc")
    third = updated(second["data"]["object"], phone="1")
    events = [CREATED, first, second, third]
    shuffled = [events[i] for i in order]
    assert last_of(shuffled) == shuffled.index(third)


def test_nested_keys_are_given_by_what_changed() -> None:
    there = ACME | {"address": {"city": "Bergen", "line1": "A"}}
    moved = {
        "type": "customer.updated",
        "data": {"object": there, "previous_attributes": {"address": {"city": "Oslo"}}},
    }
    plain = {"type": "customer.discount.created", "data": {"object": ACME}}
    assert last_of([plain, moved]) == 1
    assert last_of([moved, plain]) == 0


def test_equal_contents_are_no_tie() -> None:
    events = [{"type": t, "data": {"object": ACME}} for t in ("invoice.paid", "invoice.payment_succeeded")]
    assert last_of(events) == 0


def test_what_the_events_do_not_say_is_not_guessed() -> None:
    a, b = ({"type": "customer.updated", "data": {"object": ACME | {"name": n}}} for n in "ab")
    assert last_of([a, b]) is None
    assert last_of([updated(ACME, name="x"), updated(ACME, name="y")]) is None, "two changes of one state"
    there_and_back = [updated(ACME, name="x"), updated(ACME | {"name": "x"}, name="Acme")]
    assert last_of(there_and_back) is None, "each names the other"


@given(st.permutations(list(range(5))), st.lists(st.sampled_from(["name", "phone", "email"]), min_size=4, max_size=4))
def test_no_order_of_arrival_changes_the_answer(order: list[int], keys: list[str]) -> None:
    """Each step sets a key to a value never seen before, so the true last one is known to the test."""
    state = dict(ACME)
    events: list[dict[str, Any]] = [CREATED]
    for i, key in enumerate(keys):
        events.append(updated(state, **{key: f"v{i}"}))
        state = events[-1]["data"]["object"]
    shuffled = [events[i] for i in order]
    answer = last_of(shuffled)
    assert answer is not None
    assert shuffled[answer]["data"]["object"] == state
