"""The comparison, with statements made by hand; and what Stripe's objects call for, worked out by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from hub.destination import Entry
from hub.reconcile.compare import Difference, Name, Place, Sides, sorted_out
from hub.reconcile.expect import Around, Rules, Wanted, expect
from hub.reconcile.repair import way
from hub.reconcile.run import Reconciled, Result
from hub.reconcile.shown import as_csv, as_json

DAY = date(2026, 11, 2)
NOON = int(datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp())
LATER = NOON + 86400
NOW = datetime(2026, 11, 4, tzinfo=UTC)


def entry(key: str, amount: str | None, **changes: Any) -> Entry:
    """An entry of 2 November of customer cus_1, in dollars."""
    object_id = key.removeprefix("stripe_").removeprefix("SalesInvoice ").removeprefix("void_")
    usual: dict[str, Any] = {
        "system": "stripe", "kind": "invoice", "object_id": object_id, "key": key, "currency": "USD", "date": DAY,
        "customer": "cus_1", "record": "invoice", "status": "booked", "open": Decimal("0.00"),
    }  # fmt: skip
    return Entry(amount=None if amount is None else Decimal(amount), **(usual | changes))


def found(like: Entry, **changes: Any) -> Entry:
    return replace(like, **({"system": "netsuite", "vendor_id": "700"} | changes))


def wanted(one: Entry, of: str = "", **changes: Any) -> Wanted:
    return Wanted(one, NOON, of=of or one.object_id, **changes)


def differences(
    wants: Iterable[Wanted], holds: Iterable[Entry], destination: str = "netsuite", settled: int = LATER
) -> list[Difference]:
    sides = Sides(destination)
    sides.want(wants)
    sides.hold(holds)
    sides.finish()
    return sorted_out(sides.differences, {}, {}, settled)


INVOICE = entry("stripe_in_1", "58.32")


@pytest.mark.parametrize(
    ("there", "name", "size"),
    [
        ([], Name.MISSING, "-58.32"),
        ([found(INVOICE, amount=Decimal("58.31"))], Name.AMOUNT, "-0.01"),
        ([found(INVOICE, open=Decimal("58.32"))], Name.OPEN, "58.32"),
        ([found(INVOICE, customer="cus_2")], Name.CUSTOMER, "0"),
        ([found(INVOICE, customer=None)], Name.CUSTOMER, "0"),
        ([found(INVOICE, currency="CAD")], Name.CURRENCY, "0"),
        ([found(INVOICE, status="voided")], Name.STATUS, "0"),
    ],
)
def test_one_wrong_thing_has_one_name_and_its_size_to_the_cent(there: list[Entry], name: Name, size: str) -> None:
    (one,) = differences([wanted(INVOICE)], there)
    assert (one.name, one.size, one.counts) == (name, Decimal(size), True)


def test_what_is_as_stripe_says_is_no_difference_whichever_side_comes_first() -> None:
    for first in ("want", "hold"):
        sides = Sides("netsuite")
        steps = {"want": lambda s=sides: s.want([wanted(INVOICE)]), "hold": lambda s=sides: s.hold([found(INVOICE)])}
        steps[first]()
        steps["hold" if first == "want" else "want"]()
        sides.finish()
        assert (sides.documents, sides.differences) == (1, [])


def test_tax_is_compared_beside_the_amount_and_amounts_of_trailing_zeros_are_equal() -> None:
    want = entry("SalesInvoice in_1", "58.32", tax=Decimal("4.32"), status="Committed", open=None)
    assert differences([wanted(want)], [found(want, amount=Decimal("58.320"), tax=Decimal("4.3200"))], "avalara") == []
    # 54.00 and 4.32 became 54.01 and 4.31: the whole is right, the tax is not.
    (one,) = differences([wanted(want)], [found(want, tax=Decimal("4.31"))], "avalara")
    assert (one.name, one.size) == (Name.TAX, Decimal("-0.01"))


def test_what_stripe_does_not_call_for_is_extra_and_a_void_of_an_open_invoice_explains_what_is_open() -> None:
    open_invoice = replace(INVOICE, open=Decimal("58.32"))
    memo = entry("stripe_void_in_1", "58.32", kind="void", record="creditMemo", vendor_id="701", open=None)
    first, second = differences([wanted(open_invoice)], [found(open_invoice, open=Decimal(0)), memo])
    assert (first.name, first.follows, first.counts) == (Name.OPEN, "stripe_void_in_1", False)
    assert (second.name, second.found, second.wanted) == (Name.EXTRA, memo, None)


@pytest.mark.parametrize(
    ("changes", "is_copy"),
    [
        ({"mentions": "in_1"}, True),
        ({"mentions": "copy of in_1, by hand", "amount": Decimal("1.00"), "customer": "cus_9"}, True),
        ({}, True),  # same customer, amount, currency, record, day
        ({"date": date(2026, 11, 5)}, True),
        ({"date": date(2026, 11, 6)}, False),
        ({"amount": Decimal("58.33")}, False),
        ({"customer": "cus_2"}, False),
        ({"record": "creditMemo"}, False),
    ],
)
def test_a_record_without_our_key_that_is_the_like_of_ours_is_a_duplicate(
    changes: dict[str, Any], is_copy: bool
) -> None:
    copy = found(INVOICE, **({"key": "", "object_id": "", "vendor_id": "999"} | changes))
    names = [d.name for d in differences([wanted(INVOICE)], [copy, found(INVOICE)])]
    assert names == ([Name.DUPLICATE] if is_copy else [])


def test_two_records_of_one_key_are_a_duplicate_but_one_that_was_listed_twice_is_not() -> None:
    again = found(INVOICE)
    assert differences([wanted(INVOICE)], [again, again]) == []
    (one,) = differences([wanted(INVOICE)], [again, found(INVOICE, vendor_id="701")])
    assert (one.name, one.found and one.found.vendor_id) == (Name.DUPLICATE, "701")


def test_a_payment_that_is_missing_is_one_difference_and_its_open_invoice_follows_from_it() -> None:
    payment = entry("stripe_inpay_1", "58.32", kind="payment", record="customerPayment", object_id="inpay_1")
    left = found(INVOICE, open=Decimal("58.32"))
    follows, missing = differences([wanted(INVOICE), wanted(payment, of="in_1")], [left])
    assert (missing.name, missing.counts) == (Name.MISSING, True)
    assert (follows.name, follows.follows, follows.counts) == (Name.OPEN, "stripe_inpay_1", False)


def test_what_is_not_settled_yet_is_under_way_but_what_nobody_called_for_never_is() -> None:
    stray = entry("stripe_in_9", "1.00", vendor_id="9")
    late, extra = differences([Wanted(INVOICE, LATER + 1, of="in_1")], [stray], settled=LATER)
    assert (late.under_way, late.counts, extra.counts) == ("it changed in Stripe only just now", False, True)
    sides = Sides("netsuite")
    sides.want([wanted(INVOICE)])
    sides.finish()
    (one,) = sorted_out(sides.differences, {"in_1": "delivery 7 is waiting"}, {}, LATER)
    assert (one.under_way, one.counts) == ("delivery 7 is waiting", False)
    (one,) = sorted_out(sides.differences, {}, {"in_1": "delivery 8 is dead (USER_ERROR)"}, LATER)
    assert (one.counts, way(one).written) == (True, False)
    assert way(one).text.startswith("delivery 8 is dead (USER_ERROR): correct its cause and retry it")


def test_what_may_or_may_not_be_there_is_missing_never_and_wrong_if_it_is_wrong() -> None:
    want = Wanted(entry("stripe_failed_po_1", "9.00"), NOON, sure=False)
    assert differences([want], []) == []
    assert [d.name for d in differences([want], [found(want.entry, amount=Decimal(8))])] == [Name.AMOUNT]


def test_a_locked_document_is_as_good_as_voided_once_another_one_takes_it_back() -> None:
    voided = entry("SalesInvoice in_1", "10.00", status="Cancelled", open=None)
    back = entry("ReturnInvoice in_1", "-10.00", kind="void", status=None, open=None, object_id="in_1")
    wants = [wanted(voided, reversed_by="ReturnInvoice in_1"), wanted(back, sure=False)]
    locked = found(voided, status="Committed")
    assert [d.name for d in differences(wants, [locked], "avalara")] == [Name.STATUS]
    assert differences(wants, [locked, found(back, status="Committed", vendor_id="8")], "avalara") == []


def test_control_totals_are_per_currency_day_subsidiary_and_kind_and_follow_the_days_of_the_books() -> None:
    other = entry("stripe_in_2", "100.00")
    sides = Sides("netsuite")
    sides.want([wanted(INVOICE), wanted(other), wanted(entry("stripe_in_3", "5.00", currency="CAD"))])
    moved = date(2026, 12, 1)
    sides.hold([found(INVOICE, subsidiary="1"), found(other, subsidiary="1", date=moved, amount=Decimal("99.00"))])
    sides.finish()
    shown = {k: (t.wanted_sum, t.found_sum, t.wanted, t.found, t.agrees) for k, t in sides.totals.items()}
    assert shown == {
        Place("USD", DAY, "1", "invoice"): (Decimal("58.32"), Decimal("58.32"), 1, 1, True),
        Place("USD", moved, "1", "invoice"): (Decimal("100.00"), Decimal("99.00"), 1, 1, False),
        Place("CAD", DAY, "", "invoice"): (Decimal("5.00"), Decimal(0), 1, 0, False),
    }


def test_windows_let_go_of_what_is_settled_and_still_know_a_copy_of_the_window_before() -> None:
    sides = Sides("netsuite")
    sides.want([wanted(INVOICE)])
    sides.hold([found(INVOICE)])
    sides.window(DAY)
    sides.hold([found(INVOICE, key="", object_id="", vendor_id="999", date=date(2026, 11, 4))])
    sides.window(date(2026, 11, 3))
    assert [d.name for d in sides.differences] == [Name.DUPLICATE]
    sides.window(date(2026, 11, 20))
    assert (sides._recent, sides._strays, sides._vendor_ids) == ({}, [], {})


# What people read


def done_with(found: list[Difference], documents: int) -> Reconciled:
    sides = Sides("netsuite", documents)
    return Reconciled(NOW, NOW, NOW, {"netsuite": Result("netsuite", documents, found, sides)})


def test_the_sentence_counts_documents_and_differences() -> None:
    assert done_with([], 18204).said() == ["netsuite: 18,204 of 18,204 agree up to 2026-11-04T00:00:00Z, differences 0"]
    (one,) = differences([wanted(INVOICE)], [])
    assert done_with([one], 18204).said() == [
        "netsuite: 18,203 of 18,204 agree up to 2026-11-04T00:00:00Z, differences 1"
    ]
    assert (done_with([one], 2).agrees, done_with([], 2).agrees) == (False, True)


def test_json_and_csv_show_amounts_as_text_to_the_cent() -> None:
    (one,) = differences([wanted(INVOICE)], [found(INVOICE, amount=Decimal("58.30"))])
    done = done_with([one], 1)
    row = as_json(done)["differences"][0]
    assert (row["in_stripe"], row["there"], row["size"]) == ("58.32 USD", "58.30 USD", "-0.02")
    (line,) = csv.DictReader(io.StringIO(as_csv(done)))
    assert line["repair"] == "write invoice 700 again as stripe_in_1"
    assert {**row} == line


def test_every_difference_has_a_way_out_and_only_writing_again_is_ours() -> None:
    """A person's work is named as one. NetSuite: what it keeps for good; AvaTax: what is committed."""
    booked = [found(INVOICE)]
    cases = {
        ("netsuite", Name.MISSING): True, ("netsuite", Name.AMOUNT): True, ("netsuite", Name.OPEN): True,
        ("netsuite", Name.CUSTOMER): False, ("netsuite", Name.CURRENCY): False, ("netsuite", Name.STATUS): False,
        ("netsuite", Name.EXTRA): False, ("netsuite", Name.DUPLICATE): False,
        ("avalara", Name.MISSING): True, ("avalara", Name.AMOUNT): False, ("avalara", Name.TAX): False,
        ("avalara", Name.CUSTOMER): False, ("avalara", Name.EXTRA): False, ("avalara", Name.DUPLICATE): False,
    }  # fmt: skip
    for (destination, name), written in cases.items():
        there = None if name is Name.MISSING else replace(booked[0], status="Committed")
        mended = way(Difference(destination, name, INVOICE, there))
        assert (mended.written, mended.text.startswith("a person: ")) == (written, not written), (destination, name)
    for status, want, written in (
        ("Saved", "Committed", True), ("Committed", "Cancelled", True), ("Cancelled", "Committed", False),
    ):  # fmt: skip
        one = Difference("avalara", Name.STATUS, replace(INVOICE, status=want), replace(INVOICE, status=status))
        assert way(one).written is written, (status, want)


# What Stripe calls for

RULES = Rules()


def invoice(**changes: Any) -> dict[str, Any]:
    """54.00 and 4.32 of tax, paid."""
    return {
        "id": "in_1", "object": "invoice", "created": NOON, "currency": "usd", "customer": "cus_1", "status": "paid",
        "total": 5832, "total_taxes": [{"amount": 432}], "amount_remaining": 0, "automatic_tax": {"provider": None},
        "status_transitions": {"finalized_at": NOON, "paid_at": NOON + 5, "voided_at": None,
                               "marked_uncollectible_at": None},
        "lines": {"data": [{"id": "il_1", "taxes": [{"amount": 432}]}]}, "starting_balance": 0, "ending_balance": 0,
    } | changes  # fmt: skip


def shown(destination: str, object_type: str, obj: dict[str, Any], around: Around | None = None, **rules: Any) -> Any:
    """key -> (amount, tax, open, status), and what is not sure with a question mark."""
    made = expect(destination, object_type, obj, around or Around(), replace(RULES, **rules))
    return {
        f"{w.entry.key}{'' if w.sure else '?'}": tuple(
            None if v is None else str(v) for v in (w.entry.amount, w.entry.tax, w.entry.open, w.entry.status)
        )
        for w in made
    }


def steps(**changes: int) -> dict[str, Any]:
    return {"status_transitions": {"finalized_at": NOON, **changes}}


def test_a_paid_invoice_is_booked_whole_with_nothing_open() -> None:
    assert shown("netsuite", "invoice", invoice()) == {"stripe_in_1": ("58.32", "4.32", "0.00", "booked")}
    assert shown("avalara", "invoice", invoice()) == {"SalesInvoice in_1": ("58.32", "4.32", None, "Committed")}


def test_a_draft_is_nowhere_and_what_the_app_records_is_not_ours() -> None:
    assert shown("netsuite", "invoice", invoice(status="draft", status_transitions={})) == {}
    assert shown("avalara", "invoice", invoice(status="draft", status_transitions={})) == {}
    assert shown("avalara", "invoice", invoice(automatic_tax={"provider": "avalara"})) == {}


def test_a_balance_that_was_used_or_filled_is_a_record_of_its_own() -> None:
    # From -20.00 to 0: 20.00 were taken from the customer's credit. From 0 to -7.00: 7.00 were given to it.
    took = {"starting_balance": -2000, "ending_balance": 0}
    used = shown("netsuite", "invoice", invoice(**took))
    assert used["stripe_bal_in_1"] == ("20.00", None, None, "booked")
    below = {"total": -700, "total_taxes": [{"amount": -52}], "starting_balance": 0, "ending_balance": -700}
    assert shown("netsuite", "invoice", invoice(**below)) == {  # a credit memo: what is given, without a sign
        "stripe_in_1": ("7.00", "0.52", "0.00", "booked"), "stripe_bal_in_1": ("7.00", None, None, "booked"),
    }  # fmt: skip
    # 10.00 that the customer owed were added: of 68.32 that are left, 58.32 are open on the invoice itself.
    older = invoice(status="open", starting_balance=1000, ending_balance=0, amount_remaining=6832)
    assert shown("netsuite", "invoice", older)["stripe_in_1"] == ("58.32", "4.32", "58.32", "booked")
    gone = invoice(status="void", **took, **steps(voided_at=LATER))
    assert shown("netsuite", "invoice", gone)["stripe_unbal_in_1"] == ("20.00", None, None, "booked")
    made = expect("netsuite", "invoice", invoice(total=-700, ending_balance=-700), Around(), RULES)
    assert [w.entry.record for w in made] == ["creditMemo", "invoice"]


def test_a_void_takes_back_what_credit_notes_left_of_it() -> None:
    # 58.32 less a credit note of 10.00 before payment: 48.32.
    void = invoice(status="void", pre_payment_credit_notes_amount=1000, amount_remaining=4832, **steps(voided_at=LATER))
    assert shown("netsuite", "invoice", void)["stripe_void_in_1"] == ("48.32", None, None, "booked")
    whole = shown("netsuite", "invoice", void | {"pre_payment_credit_notes_amount": 0})
    assert whole["stripe_void_in_1"] == ("58.32", "4.32", None, "booked")
    assert shown("avalara", "invoice", void) == {
        "SalesInvoice in_1": ("58.32", "4.32", None, "Cancelled"),
        # Should it be locked: over what the credit note left, 58.32 - 10.00.
        "ReturnInvoice in_1?": ("-48.32", None, None, None),
    }


def test_an_uncollectible_invoice_follows_the_policy() -> None:
    bad = invoice(status="uncollectible", amount_remaining=5832, **steps(marked_uncollectible_at=LATER))
    assert shown("netsuite", "invoice", bad, write_off=True) == {
        "stripe_in_1": ("58.32", "4.32", "0.00", "booked"), "stripe_writeoff_in_1": ("58.32", None, None, "booked"),
    }  # fmt: skip
    assert shown("netsuite", "invoice", bad) == {"stripe_in_1": ("58.32", "4.32", "58.32", "booked")}
    taxes = {p: shown("avalara", "invoice", bad, uncollectible=p) for p in ("none", "void", "bad_debt")}
    assert {p: t["SalesInvoice in_1"][3] for p, t in taxes.items()} == {
        "none": "Committed", "void": "Cancelled", "bad_debt": "Committed",
    }  # fmt: skip
    assert taxes["bad_debt"]["ReturnInvoice in_1"] == ("-58.32", None, None, "Committed")
    after_all = invoice(amount_paid=5832, **steps(marked_uncollectible_at=LATER, paid_at=LATER + 9))
    assert shown("avalara", "invoice", after_all, uncollectible="bad_debt") == {
        "SalesInvoice in_1": ("58.32", "4.32", None, "Committed"),
        "ReturnInvoice in_1?": (None, None, None, "Cancelled"),
    }
    paid = invoice(amount_paid=5832, **steps(marked_uncollectible_at=LATER, paid_at=LATER + 9))
    assert shown("netsuite", "invoice", paid, write_off=True)["stripe_recovered_in_1"] == (None, None, "0.00", "booked")


def test_committed_when_paid_means_saved_until_then() -> None:
    waiting = shown("avalara", "invoice", invoice(status="open"), commit_on="paid")
    assert waiting["SalesInvoice in_1"][3] == "Saved"
    assert shown("avalara", "invoice", invoice(), commit_on="paid")["SalesInvoice in_1"][3] == "Committed"


def note(**changes: Any) -> dict[str, Any]:
    """18.00 and 1.44 of tax given back by one refund of 19.44."""
    return {
        "id": "cn_1", "object": "credit_note", "created": NOON, "currency": "usd", "customer": "cus_1",
        "invoice": "in_1", "status": "issued", "total": 1944, "total_taxes": [{"amount": 144}],
        "pre_payment_amount": 0, "post_payment_amount": 1944, "refunds": [{"refund": "re_1", "amount_refunded": 1944}],
    } | changes  # fmt: skip


def test_a_credit_note_its_refund_and_its_void() -> None:
    around = Around(invoice())
    assert shown("netsuite", "credit_note", note(), around) == {
        "stripe_cn_1": ("19.44", "1.44", "0.00", "booked"),
        "stripe_replaces_cn_1?": (None, None, "0.00", "booked"),  # should its refund have been there before
    }
    assert shown("avalara", "credit_note", note(), around) == {
        "ReturnInvoice cn_1": ("-19.44", "-1.44", None, "Committed")
    }
    refund = {"id": "re_1", "created": NOON, "currency": "usd", "amount": 1944, "status": "succeeded"}
    with_note = Around(invoice(), (note(),))
    assert shown("netsuite", "refund", refund, with_note) == {"stripe_re_1": ("19.44", None, None, "booked")}
    assert shown("avalara", "refund", refund, with_note) == {}
    void = note(status="void", voided_at=LATER)
    assert shown("netsuite", "credit_note", void, around)["stripe_void_cn_1"] == ("19.44", "1.44", None, "booked")
    assert shown("avalara", "credit_note", void, around)["ReturnInvoice cn_1"][3] == "Cancelled"
    # A sale that was not made gives nothing back; one that is not reported yet, not yet.
    of_void, of_open = Around(invoice(status="void")), Around(invoice(status="open"))
    assert shown("avalara", "credit_note", note(), of_void)["ReturnInvoice cn_1"][3] == "Cancelled"
    waits = shown("avalara", "credit_note", note(), of_open, commit_on="paid")
    assert waits["ReturnInvoice cn_1"][3] == "Saved"
    # 19.44, of which 9.44 were refunded: 10.00 went to the balance.
    half = note(refunds=[{"refund": "re_1", "amount_refunded": 944}], customer_balance_transaction="cbtxn_1")
    assert shown("netsuite", "credit_note", half, around)["stripe_bal_cn_1"] == ("10.00", None, None, "booked")
    cash = note(refunds=[], out_of_band_amount=1944)
    assert shown("netsuite", "credit_note", cash, around)["stripe_outside_cn_1"] == ("19.44", None, None, "booked")


def test_a_refund_without_a_credit_note_has_a_memo_and_a_return_of_its_own() -> None:
    refund = {"id": "re_2", "created": NOON, "currency": "jpy", "amount": 500, "status": "succeeded"}
    around = Around(invoice(currency="jpy"), (note(),))
    assert shown("netsuite", "refund", refund, around) == {
        "stripe_re_2": ("500", None, None, "booked"), "stripe_memo_re_2": ("500", None, None, "booked"),
    }  # fmt: skip
    assert shown("avalara", "refund", refund, around) == {"ReturnInvoice re_2": ("-500", None, None, "Committed")}
    gone = shown("avalara", "refund", refund | {"status": "failed"}, around)
    assert gone == {"ReturnInvoice re_2?": ("-500", None, None, "Cancelled")}
    failed = shown("netsuite", "refund", refund | {"status": "failed"}, around)
    assert failed["stripe_failed_re_2"] == ("500", None, None, "booked")
    assert shown("netsuite", "refund", refund) == {}  # of a payment for no invoice


def test_a_refund_that_a_later_credit_note_lists_keeps_its_memo_and_loses_its_return() -> None:
    def both(seconds: int) -> tuple[set[str], dict[str, Any]]:
        refund = {"id": "re_1", "created": NOON - seconds, "currency": "usd", "amount": 1944, "status": "succeeded"}
        around = Around(invoice(), (note(),))
        return set(shown("netsuite", "refund", refund, around)), shown("avalara", "refund", refund, around)

    assert both(10) == ({"stripe_re_1"}, {})  # made with the note
    assert both(-5) == ({"stripe_re_1"}, {})
    assert both(11) == (
        {"stripe_re_1", "stripe_memo_re_1"}, {"ReturnInvoice re_1?": ("-19.44", None, None, "Cancelled")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("destination", "changes", "says"),
    [
        ("netsuite", {"kind": "memo", "key": "stripe_memo_re_1", "record": "creditMemo"},
         "apply customerRefund stripe_re_1 to that one, then void creditMemo 700"),
        ("avalara", {"kind": "refund", "key": "ReturnInvoice re_1", "record": "ReturnInvoice"},
         "credited twice: void ReturnInvoice 700"),
        ("netsuite", {"kind": "refund", "key": "stripe_re_1", "record": "customerRefund"},
         "look who made customerRefund 700"),
    ],
)  # fmt: skip
def test_a_second_document_of_a_refund_says_why_it_may_be_there_and_what_to_do(
    destination: str, changes: dict[str, Any], says: str
) -> None:
    second = found(INVOICE, object_id="re_1", **changes)
    (one,) = differences([], [second], destination)
    assert (one.name, way(one).written) == (Name.EXTRA, False)
    assert says in way(one).text


def test_payments_disputes_and_payouts() -> None:
    around = Around(invoice())
    paid = {"id": "inpay_1", "created": NOON, "currency": "kwd", "status": "paid", "amount_paid": 12340}
    assert shown("netsuite", "invoice_payment", paid, around) == {"stripe_inpay_1": ("12.340", None, "0.000", "booked")}
    assert shown("netsuite", "invoice_payment", paid | {"status": "open"}, around) == {}
    moves = [{"amount": -5832, "created": NOON}, {"amount": 5832, "created": LATER}]
    dispute = {"id": "dp_1", "created": NOON, "currency": "usd", "amount": 5832, "balance_transactions": moves[:1]}
    assert set(shown("netsuite", "dispute", dispute, around)) == {"stripe_memo_dp_1", "stripe_dp_1"}
    won = shown("netsuite", "dispute", dispute | {"balance_transactions": moves}, around)
    assert set(won) == {"stripe_memo_dp_1", "stripe_dp_1", "stripe_reinstated_dp_1", "stripe_paidback_dp_1"}
    assert shown("netsuite", "dispute", dispute | {"balance_transactions": []}, around) == {}
    payout = {"id": "po_1", "created": NOON, "currency": "usd", "amount": 100000, "status": "paid"}
    assert shown("netsuite", "payout", payout) == {"stripe_po_1": ("1000.00", None, None, "booked")}
    assert shown("netsuite", "payout", payout | {"status": "in_transit"}) == {}
    assert set(shown("netsuite", "payout", payout | {"status": "failed"})) == {"stripe_po_1", "stripe_failed_po_1"}
    # Not listed yet: whether the books have it already is as may be.
    unlisted = payout | {"automatic": True, "reconciliation_status": "in_progress"}
    assert set(shown("netsuite", "payout", unlisted)) == {"stripe_po_1?"}


def test_a_day_is_that_of_the_books_time_zone() -> None:
    late = int(datetime(2026, 11, 2, 23, 30, tzinfo=UTC).timestamp())
    (one,) = expect("netsuite", "invoice", invoice(status_transitions={"finalized_at": late}), Around(),
                    Rules(timezone="Europe/Berlin"))  # fmt: skip
    assert one.entry.date == date(2026, 11, 3)
