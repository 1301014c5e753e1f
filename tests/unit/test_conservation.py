"""Documents that add up pass; a change of one cent anywhere does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.conservation import check_credit_note, check_invoice
from hub.errors import ConservationError, MappingError

Body = dict[str, Any]


def invoice() -> Body:
    """Worked out by hand. Lines 10000 + 5000 - 1000 = 14000; discounts 1400; prepaid credits 600; tax on top 960;
    tax inside the price 50; 14000 - 1400 - 600 + 960 = 12960; paid 2960, remaining 10000."""
    return {
        "id": "in_1",
        "object": "invoice",
        "currency": "usd",
        "subtotal": 14000,
        "total": 12960,
        "total_discount_amounts": [{"amount": 1400, "discount": "di_1"}],
        "total_pretax_credit_amounts": [
            {"amount": 1400, "type": "discount", "discount": "di_1"},
            {"amount": 600, "type": "credit_balance_transaction"},
        ],
        "total_taxes": [{"amount": 960, "tax_behavior": "exclusive"}, {"amount": 50, "tax_behavior": "inclusive"}],
        "amount_due": 12960,
        "amount_paid": 2960,
        "amount_remaining": 10000,
        "lines": {
            "has_more": False,
            "data": [
                {
                    "amount": 10000,
                    "discount_amounts": [{"amount": 1000, "discount": "di_1"}],
                    "pretax_credit_amounts": [
                        {"amount": 1000, "type": "discount"},
                        {"amount": 600, "type": "credit_balance_transaction"},
                    ],
                    "taxes": [{"amount": 660, "tax_behavior": "exclusive"}],
                },
                {
                    "amount": 5000,
                    "discount_amounts": [{"amount": 400, "discount": "di_1"}],
                    "pretax_credit_amounts": [{"amount": 400, "type": "discount"}],
                    "taxes": [
                        {"amount": 300, "tax_behavior": "exclusive"},
                        {"amount": 50, "tax_behavior": "inclusive"},
                    ],
                },
                {"amount": -1000, "discount_amounts": [], "pretax_credit_amounts": [], "taxes": []},
            ],
        },
    }


def credit_note() -> Body:
    """3000 + 1000 = 4000, less 400 discount, plus 288 tax = 3888."""
    return {
        "id": "cn_1",
        "object": "credit_note",
        "currency": "usd",
        "subtotal": 4000,
        "discount_amount": 400,
        "discount_amounts": [{"amount": 400, "discount": "di_1"}],
        "pretax_credit_amounts": [],
        "total_taxes": [{"amount": 288, "tax_behavior": "exclusive"}],
        "total": 3888,
        "lines": {
            "has_more": False,
            "data": [
                {"amount": 3000, "discount_amounts": [{"amount": 300}], "taxes": [{"amount": 216}]},
                {"amount": 1000, "discount_amounts": [{"amount": 100}], "taxes": [{"amount": 72}]},
            ],
        },
    }


def test_documents_that_add_up_pass() -> None:
    check_invoice(invoice())
    check_credit_note(credit_note())


def _amounts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the amounts of a document are."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if type(inner) is int:
            yield (*path, key)
        else:
            yield from _amounts(inner, (*path, key))


def _change(body: Body, path: tuple[Any, ...], cents: int) -> Body:
    changed: Any = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += cents
    return changed  # type: ignore[no-any-return]


@pytest.mark.parametrize("cents", [1, -1])
@pytest.mark.parametrize("path", list(_amounts(invoice())), ids=str)
def test_any_single_cent_of_an_invoice_is_noticed(path: tuple[Any, ...], cents: int) -> None:
    with pytest.raises(ConservationError):
        check_invoice(_change(invoice(), path, cents))


_NOTE = [(path, cents) for path in _amounts(credit_note()) for cents in (1, -1)]
_NOTE.remove((("subtotal",), -1))  # a discount may be inside the subtotal; the note does not say


@pytest.mark.parametrize(("path", "cents"), _NOTE, ids=str)
def test_any_single_cent_of_a_credit_note_is_noticed(path: tuple[Any, ...], cents: int) -> None:
    with pytest.raises(ConservationError):
        check_credit_note(_change(credit_note(), path, cents))


@st.composite
def _invoices(draw: st.DrawFn) -> Body:
    """An invoice with a whole-invoice discount, tax on top and perhaps a discount on single lines."""
    lines: list[Body] = []
    item_discounts = 0
    for n in range(draw(st.integers(0, 6))):
        amount = draw(st.integers(-(10**9), 10**9))
        whole, item = draw(st.integers(0, 10**6)), draw(st.sampled_from([0, 0, 250]))
        on_top = draw(st.lists(st.integers(-(10**6), 10**6), max_size=3))
        lines.append(
            {
                "amount": amount,
                "discounts": [f"di_{n}"] if item else [],
                "discount_amounts": [{"amount": whole, "discount": "di_all"}, {"amount": item, "discount": f"di_{n}"}],
                "taxes": [{"amount": t, "tax_behavior": "exclusive"} for t in on_top],
            }
        )
        item_discounts += item
    gross = sum(line["amount"] for line in lines)
    discounts = sum(d["amount"] for line in lines for d in line["discount_amounts"])
    taxes = sum(t["amount"] for line in lines for t in line["taxes"])
    due, paid = draw(st.integers(0, 10**9)), draw(st.integers(0, 10**9))
    return {
        "id": "in_1",
        "subtotal": gross - draw(st.sampled_from([0, item_discounts])),
        "total": gross - discounts + taxes,
        "total_discount_amounts": [{"amount": discounts}],
        "total_taxes": [{"amount": taxes, "tax_behavior": "exclusive"}],
        "amount_due": due,
        "amount_paid": paid,
        "amount_remaining": due - paid,
        "lines": {"data": lines},
    }


@given(_invoices(), st.data())
def test_any_invoice_that_adds_up_passes_and_none_that_is_a_cent_off(body: Body, data: st.DataObject) -> None:
    check_invoice(body)
    path = data.draw(st.sampled_from(list(_amounts(body))))
    with pytest.raises(ConservationError):
        check_invoice(_change(body, path, data.draw(st.sampled_from([1, -1]))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda b: b.update(subtotal=14001),
            "10000 + 5000 - 1000 = 14000, but subtotal is 14001: off by 1 (usd, minor",
        ),
        (
            lambda b: b.update(total=12000),
            "14000 - discounts 1400 - billing credits 600 + exclusive taxes 960 = 12960, but",
        ),
        (
            lambda b: b.update(amount_remaining=1),
            "amount_due 12960 - amount_paid 2960 = 10000, but amount_remaining is 1",
        ),
        (lambda b: b.update(total=None), "total is missing"),
        (lambda b: b.update(total=12960.0), "total is a float, not a whole number"),
        (lambda b: b["lines"]["data"][0].update(amount=True), "lines[0].amount is a bool"),
        (lambda b: b["total_taxes"][0].update(amount="960"), "total_taxes[0].amount is a str"),
    ],
)
def test_the_sum_that_fails_is_shown(change: Callable[[Body], None], says: str) -> None:
    body = invoice()
    change(body)
    with pytest.raises(ConservationError) as e:
        check_invoice(body)
    assert says in str(e.value)
    assert e.value.object_id == "in_1"


def test_a_long_sum_is_shortened() -> None:
    lines = [{"amount": n} for n in range(100)]
    with pytest.raises(ConservationError, match=r"8 \+ 9 \+ \.\.\. \+ 99 = 4950, but subtotal is 0"):
        check_invoice({"id": "in_1", "subtotal": 0, "total": 0, "lines": {"data": lines}})


@pytest.mark.parametrize("lines", [{"data": [], "has_more": True}, {}, None, {"data": None}])
@pytest.mark.parametrize("check", [check_invoice, check_credit_note])
def test_a_document_without_all_of_its_lines_is_not_judged(check: Callable[[Body], None], lines: Any) -> None:
    with pytest.raises(MappingError) as e:
        check({"id": "in_1", "subtotal": 0, "total": 0, "lines": lines})
    assert e.value.code == "lines_incomplete"


def test_optional_fields_may_be_absent() -> None:
    bare = {"id": "in_1", "subtotal": 500, "total": 500, "lines": {"data": [{"amount": 500}]}}
    check_invoice(bare)
    check_credit_note(bare)
    nulls = dict.fromkeys(["total_taxes", "total_discount_amounts", "total_pretax_credit_amounts", "shipping_cost"])
    check_invoice(bare | nulls)
    # Taxes and discounts known only from the lines count all the same.
    line = {"amount": 500, "taxes": [{"amount": 50, "tax_behavior": "exclusive"}], "discount_amounts": [{"amount": 20}]}
    check_invoice(bare | {"total": 530, "lines": {"data": [line]}})
    with pytest.raises(ConservationError):
        check_invoice(bare | {"lines": {"data": [line]}})
    # Listed twice, as discount and as pretax credit, a discount counts once.
    twice = line | {"pretax_credit_amounts": [{"amount": 20, "type": "discount"}]}
    check_invoice(bare | {"total": 530, "lines": {"data": [twice]}})


@pytest.mark.parametrize("total_taxes", [100, 108], ids=["of the lines only", "with shipping's"])
def test_shipping_and_its_tax_counted_once(total_taxes: int) -> None:
    body = {
        "id": "in_1",
        "subtotal": 1000,
        "total": 1000 + 100 + 80 + 8,
        "shipping_cost": {"amount_subtotal": 80, "amount_tax": 8, "amount_total": 88},
        "total_taxes": [{"amount": total_taxes, "tax_behavior": "exclusive"}],
        "lines": {"data": [{"amount": 1000, "taxes": [{"amount": 100, "tax_behavior": "exclusive"}]}]},
    }
    check_invoice(body)
    check_credit_note(body)
    with pytest.raises(ConservationError, match="shipping"):
        check_invoice(body | {"total": 1180 + 100})


def test_remaining_when_paid_elsewhere_or_too_much() -> None:
    base = {"id": "in_1", "subtotal": 500, "total": 500, "amount_due": 500, "lines": {"data": [{"amount": 500}]}}
    check_invoice(base | {"amount_paid": 0, "amount_paid_off_stripe": 500, "amount_remaining": 0})
    check_invoice(base | {"amount_paid": 500, "amount_paid_off_stripe": 500, "amount_remaining": 0})
    check_invoice(base | {"amount_paid": 700, "amount_overpaid": 200, "amount_remaining": 0})
    with pytest.raises(ConservationError):
        check_invoice(base | {"amount_paid": 0, "amount_remaining": 0})


def test_a_credit_note_made_from_an_amount_alone() -> None:
    check_credit_note({"id": "cn_1", "subtotal": 700, "total": 700, "lines": {"data": []}})
    with pytest.raises(ConservationError, match="subtotal 700 = 700, but total is 701"):
        check_credit_note({"id": "cn_1", "subtotal": 700, "total": 701, "lines": {"data": []}})


def test_a_discount_inside_a_credit_notes_subtotal_is_accepted_but_no_more_than_it() -> None:
    check_credit_note(credit_note() | {"subtotal": 3600})
    with pytest.raises(ConservationError, match="but subtotal is 3599"):
        check_credit_note(credit_note() | {"subtotal": 3599})
