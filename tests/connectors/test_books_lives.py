"""What the general ledger says after each life of an invoice. Every figure is worked out by hand; debit is positive."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from hub.errors import MappingError, Reject
from tests.connectors.books_kit import (
    DAY,
    JAN,
    Books,
    charge,
    dispute,
    invoice,
    line,
    movement,
    note,
    paid,
    payout,
    refund,
    tax,
)


@pytest.fixture
def books(opened: Callable[..., Books]) -> Books:
    return opened()


def ledger(**amounts: Any) -> dict[str, Decimal]:
    """`receivable=10` by the words below."""
    return {NAMES[name]: Decimal(str(amount)) for name, amount in amounts.items() if amount}


NAMES = {
    "receivable": "Accounts Receivable", "clearing": "hub_stripe_clearing", "sales": "hub_sales",
    "tax": "hub_sales_tax_payable", "discounts": "hub_discounts", "balance": "hub_customer_balances",
    "bad_debt": "hub_write_off", "fees": "hub_fees", "refunds": "hub_refunds", "disputes": "hub_disputes",
    "bank": "hub_bank", "outside": "hub_off_stripe", "exchange": "Realized Gain/Loss",
}  # fmt: skip


async def test_a_sale_is_paid_and_paid_out_and_every_document_was_written_once(books: Books) -> None:
    # 100.00 + 8.00 tax = 108.00; Stripe keeps 3.43 of it: 104.57 reach the bank.
    await books.told("invoice.finalized", invoice([line(10000, taxes=[tax(800)])], 10800, total_taxes=[tax(800)]))
    assert books.balances() == ledger(receivable=108, sales=-100, tax=-8)
    await books.told("invoice_payment.paid", paid(10800))
    assert books.balances() == ledger(clearing=108, sales=-100, tax=-8)
    for one in (movement(1, "charge", 10800, 343), movement(2, "payout", -10457)):
        books.add(**one)
    await books.told("payout.reconciliation_completed", payout(10457))
    assert books.balances() == ledger(bank="104.57", fees="3.43", sales=-100, tax=-8)
    assert books.writes() == ["stripe_cus_1", "stripe_in_1", "stripe_inpay_1", "stripe_po_1"]
    assert books.record("customerPayment", "stripe_inpay_1")["tranDate"] == "2026-01-06"


async def test_a_discount_and_a_proration_are_lines_of_their_own(books: Books) -> None:
    # 50.00 for the rest of the month less 30.00 unused, 10% off: 20.00 - 2.00; tax 8% of 18.00 is 1.44: 19.44
    lines = [line(5000, description="Remaining time"), line(-3000, description="Unused time")]
    sold = invoice(
        lines, 1944, total_discount_amounts=[{"amount": 200, "discount": "di_1"}], total_taxes=[tax(144)]
    )  # fmt: skip
    await books.told("invoice.finalized", sold)
    assert books.balances() == ledger(receivable="19.44", sales=-20, discounts=2, tax="-1.44")
    kept = [(entry["description"], entry["amount"]) for entry in books.record("invoice", "stripe_in_1")["lines"]]
    assert kept == [
        ("Remaining time", "50.00"), ("Unused time", "-30.00"), ("Discount di_1", "-2.00"), ("Tax txr_1", "1.44"),
    ]  # fmt: skip


async def test_tax_inside_the_price_is_no_income(books: Books) -> None:
    # 119.00 hold 19.00 of VAT: 100.00 are income.
    inside = tax(1900, tax_behavior="inclusive")
    await books.told("invoice.finalized", invoice([line(11900, taxes=[inside])], 11900, total_taxes=[inside]))
    assert books.balances() == ledger(receivable=119, sales=-100, tax=-19)


async def test_part_is_paid_and_the_rest_credited(books: Books) -> None:
    # 100.00: 60.00 are paid, 40.00 credited while it is open, of which nothing is given back.
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(6000))
    await books.told("credit_note.created", note(4000, 0))
    assert books.balances() == ledger(clearing=60, sales=-60)
    assert books.record("invoice", "stripe_in_1")["amountRemaining"] == "0.00"


async def test_two_payments_are_two_customer_payments_and_one_came_outside_stripe(books: Books) -> None:
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(7000))
    outside = paid(3000, day=3, n=2, payment={"type": "payment_record", "payment_record": "pr_1"})
    await books.told("invoice_payment.paid", outside)
    assert books.balances() == ledger(clearing=70, outside=30, sales=-100)


async def test_a_refund_of_a_credit_note_closes_its_credit_memo(books: Books) -> None:
    # 30.00 of 100.00 are credited after payment and refunded.
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(10000))
    books.add(**note(0, 3000, refunds=[{"refund": "re_1", "amount_refunded": 3000}]))
    await books.told("refund.created", refund(3000))  # brings the credit memo along
    assert books.balances() == ledger(clearing=70, sales=-70)
    assert books.record("creditMemo", "stripe_cn_1")["unapplied"] == "0.00"
    await books.told("credit_note.created", books.objects["cn_1"])
    assert books.balances() == ledger(clearing=70, sales=-70), "told once more, nothing moves"


async def test_a_refund_without_a_credit_note_has_a_memo_of_its_own_and_comes_back_if_it_fails(books: Books) -> None:
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(10000))
    await books.told("refund.created", refund(2500))
    assert books.balances() == ledger(clearing=75, sales=-100, refunds=25)
    await books.told("refund.failed", refund(2500, status="failed"), JAN + 5 * DAY)
    # Stripe has the 25.00 again, and they are owed to the customer.
    assert books.balances() == ledger(clearing=100, sales=-100, refunds=25, receivable=-25)


@pytest.mark.parametrize("first", ["refund", "note"])
async def test_a_refund_that_a_later_credit_note_lists_is_credited_once(books: Books, first: str) -> None:
    # 100.00 + 8.00 are paid. 20.00 are refunded; a day later a credit note over 25.00 + 2.00 lists that refund, and
    # gives back the other 7.00.
    await books.told("invoice.finalized", invoice([line(10000, taxes=[tax(800)])], 10800, total_taxes=[tax(800)]))
    await books.told("invoice_payment.paid", paid(10800))
    older, other = refund(2000, created=JAN + DAY), refund(700, id="re_2", created=JAN + 2 * DAY)
    listed = [{"refund": "re_1", "amount_refunded": 2000}, {"refund": "re_2", "amount_refunded": 700}]
    lines = {"object": "list", "has_more": False, "data": [{"id": "cnli_1", "amount": 2500, "taxes": [tax(200)]}]}
    late = note(0, 2700, refunds=listed, subtotal=2500, total_taxes=[tax(200)], lines=lines)
    if first == "refund":
        await books.told("refund.created", older)
        assert books.balances() == ledger(clearing=88, sales=-100, tax=-8, refunds=20)
        books.add(**other)
    else:
        for each in (older, other):
            books.add(**each)
    before = books.writes()
    await books.told("credit_note.created", late)
    assert set(books.writes()[len(before) :]) == {"stripe_replaces_cn_1", "stripe_cn_1"}, "no document of before"
    for each in (older, other):
        await books.told("refund.created", each)
    # 27.00 of the money and of the sale are given back; on the account of refunds without a reason nothing is left.
    assert books.balances() == ledger(clearing=81, sales=-75, tax=-6)
    memos = [books.record("creditMemo", f"stripe_{key}")["unapplied"] for key in ("cn_1", "memo_re_1")]
    assert [*memos, books.record("invoice", "stripe_replaces_cn_1")["amountRemaining"]] == ["0.00"] * 3


async def test_a_credit_note_by_cheque_and_one_into_the_balance_leave_nothing_open(books: Books) -> None:
    # 30.00 are credited after payment: 10.00 by cheque, 20.00 into the customer's balance.
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(10000))
    given = note(0, 3000, out_of_band_amount=1000, customer_balance_transaction="cbtxn_1")
    await books.told("credit_note.created", given)
    assert books.balances() == ledger(clearing=100, outside=-10, balance=-20, sales=-70)
    assert books.record("creditMemo", "stripe_cn_1")["unapplied"] == "0.00"


async def test_a_voided_credit_note_leaves_its_invoice_open_again(books: Books) -> None:
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("credit_note.created", note(4000, 0))
    assert books.record("invoice", "stripe_in_1")["amountRemaining"] == "60.00"
    await books.told("credit_note.voided", note(4000, 0, status="void", voided_at=JAN + 3 * DAY))
    assert books.record("invoice", "stripe_in_1")["amountRemaining"] == "100.00"
    assert books.record("invoice", "stripe_void_cn_1")["amountRemaining"] == "0.00"
    assert books.balances() == ledger(receivable=100, sales=-100)


async def test_a_payment_that_overtakes_the_void_of_a_credit_note_waits_for_it(books: Books) -> None:
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("credit_note.created", note(2700, 0))
    (early,) = await books.tell("invoice_payment.paid", paid(10000))  # 73.00 are open in NetSuite
    assert isinstance(early, Reject)
    assert (early.code, early.patience) == ("OVER_APPLIED", 3600)
    assert "take it back, then retry" in early.fix
    await books.told("credit_note.voided", {**note(2700, 0), "status": "void", "voided_at": JAN + 3 * DAY})
    await books.told("invoice_payment.paid", paid(10000), JAN + 4 * DAY)
    assert books.balances() == ledger(clearing=100, sales=-100)


async def test_a_lost_dispute_is_a_loss_and_a_won_one_is_not(books: Books) -> None:
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(10000))
    await books.told("charge.dispute.funds_withdrawn", dispute(10000))
    assert books.balances() == ledger(sales=-100, disputes=100), "the money is gone, the sale was one"
    await books.told("charge.dispute.funds_reinstated", dispute(10000))
    assert books.balances() == ledger(clearing=100, sales=-100)
    assert books.record("invoice", "stripe_reinstated_dp_1")["amountRemaining"] == "0.00"


async def test_a_voided_invoice_is_closed_and_nothing_is_left_of_it(books: Books) -> None:
    sold = invoice([line(10000, taxes=[tax(800)])], 10800, total_taxes=[tax(800)])
    await books.told("invoice.finalized", sold)
    gone = {**sold, "status": "void", "status_transitions": {"finalized_at": JAN, "voided_at": JAN + DAY}}
    await books.told("invoice.voided", gone)
    assert books.balances() == {}
    assert books.record("invoice", "stripe_in_1")["amountRemaining"] == "0.00"


async def test_a_void_gives_back_what_the_customers_balance_had_paid(books: Books) -> None:
    # 100.00, of which 30.00 came from the balance: 70.00 were open.
    sold = invoice([line(10000)], 10000, starting_balance=-3000, ending_balance=0)
    await books.told("invoice.finalized", sold)
    assert books.balances() == ledger(receivable=70, balance=30, sales=-100)
    gone = {**sold, "status": "void", "status_transitions": {"finalized_at": JAN, "voided_at": JAN + DAY}}
    await books.told("invoice.voided", gone)
    assert books.balances() == {}


@pytest.mark.parametrize("after", ["paid", "void"])
async def test_written_off_then_paid_or_voided_after_all(opened: Callable[..., Books], after: str) -> None:
    books = opened(write_off="write_off")
    sold = invoice([line(10000)], 10000)
    await books.told("invoice.finalized", sold)
    await books.told("invoice_payment.paid", paid(2500))
    marked = {**sold, "status": "uncollectible", "status_transitions": {"marked_uncollectible_at": JAN + 5 * DAY}}
    await books.told("invoice.marked_uncollectible", marked)
    assert books.balances() == ledger(clearing=25, bad_debt=75, sales=-100)
    if after == "paid":
        await books.told("invoice_payment.paid", paid(7500, day=8, n=2))
        assert books.balances() == ledger(clearing=100, sales=-100)
        assert books.record("invoice", "stripe_recovered_in_1")["amountRemaining"] == "0.00"
    else:
        when = {"marked_uncollectible_at": JAN + 5 * DAY, "voided_at": JAN + 8 * DAY}
        await books.told("invoice.voided", {**sold, "status": "void", "amount_paid": 2500, "status_transitions": when})
        # The sale is undone and the bad debt with it; the 25.00 that were paid are the customer's.
        assert books.balances() == ledger(clearing=25, receivable=-25)


async def test_marked_uncollectible_without_the_setting_nothing_is_written(books: Books) -> None:
    sold = invoice([line(10000)], 10000)
    await books.told("invoice.finalized", sold)
    marked = {**sold, "status": "uncollectible", "status_transitions": {"marked_uncollectible_at": JAN + 5 * DAY}}
    assert await books.told("invoice.marked_uncollectible", marked) == []
    assert books.balances() == ledger(receivable=100, sales=-100)


async def test_an_invoice_below_zero_becomes_the_customers_balance_which_pays_the_next(books: Books) -> None:
    # 25.00 unused time less 5.00: 20.00 for the customer. The next invoice of 50.00 takes them.
    below = invoice([line(-2500), line(500)], -2000, starting_balance=0, ending_balance=-2000)
    await books.told("invoice.finalized", below)
    assert books.balances() == ledger(sales=20, balance=-20)
    assert books.record("creditMemo", "stripe_in_1")["unapplied"] == "0.00"
    following = invoice([line(5000)], 5000, id="in_2", number="ACME-2", starting_balance=-2000, ending_balance=0)
    await books.told("invoice.finalized", following)
    assert books.balances() == ledger(receivable=30, sales=-30)
    await books.told("invoice_payment.paid", paid(3000, invoice="in_2"))
    assert books.balances() == ledger(clearing=30, sales=-30)


async def test_with_suitetax_nothing_is_taxed_that_is_no_sale(opened: Callable[..., Books]) -> None:
    """It would tax what moves a balance, a write-off or a dispute like a sale, and nothing would tie out."""
    books = opened(tax="suitetax", write_off="write_off")
    books.w.sim.configure(suitetax=True)
    # 100.00 and 5.00 the customer owed; 105.00 are paid, 100.00 of them disputed and won back.
    await books.told("invoice.finalized", invoice([line(10000)], 10000, starting_balance=500, ending_balance=0))
    await books.told("invoice_payment.paid", paid(10500))
    await books.told("charge.dispute.funds_withdrawn", dispute(10000))
    await books.told("charge.dispute.funds_reinstated", dispute(10000))
    assert books.balances() == ledger(clearing=105, balance=-5, sales=-100)
    # 40.00, all of it first a bad debt, then paid after all.
    sold = invoice([line(4000)], 4000, id="in_2", number="ACME-2")
    await books.told("invoice.finalized", sold)
    marked = {**sold, "status": "uncollectible", "status_transitions": {"marked_uncollectible_at": JAN + 5 * DAY}}
    await books.told("invoice.marked_uncollectible", marked)
    await books.told("invoice_payment.paid", paid(4000, day=8, n=2, invoice="in_2"))
    assert books.balances() == ledger(clearing=145, balance=-5, sales=-140)
    # 30.00 of which 20.00 come from the balance; then void, so they go back there.
    third = invoice([line(3000)], 3000, id="in_3", number="ACME-3", starting_balance=-2000, ending_balance=0)
    await books.told("invoice.finalized", third)
    gone = {**third, "status": "void", "status_transitions": {"finalized_at": JAN, "voided_at": JAN + DAY}}
    await books.told("invoice.voided", gone)
    # A credit note of 10.00 on the first invoice, into the balance.
    await books.told("credit_note.created", note(0, 1000, customer_balance_transaction="cbtxn_1"))
    assert books.balances() == ledger(clearing=145, balance=-15, sales=-130)


async def test_an_older_debit_is_collected_with_the_invoice(books: Books) -> None:
    # 100.00 and 5.00 the customer owed: paid as 60.00 and 45.00.
    sold = invoice([line(10000)], 10000, starting_balance=500, ending_balance=0)
    await books.told("invoice.finalized", sold)
    assert books.balances() == ledger(receivable=105, balance=-5, sales=-100)
    await books.told("invoice_payment.paid", paid(6000))
    await books.told("invoice_payment.paid", paid(4500, day=2, n=2))
    assert books.balances() == ledger(clearing=105, balance=-5, sales=-100)
    applied = {e["doc"]: e["amount"] for e in books.record("customerPayment", "stripe_inpay_2")["apply"]}
    assert applied == {"stripe_in_1": "40.00", "stripe_bal_in_1": "5.00"}


async def test_a_payout_with_everything_in_it_in_two_currencies_leaves_clearing_and_receivables_at_zero(
    books: Books,
) -> None:
    """With the settings as they come. NetSuite's table has 1.10 dollars for a euro.

    Paid are 100.00 USD, and 100.00 EUR that were booked as a receivable of 110.00 USD; Stripe makes 107.97 USD of them.
    Given back are 20.00 USD, and 30.00 EUR, for which Stripe takes 32.55 USD and the books have 33.00. 30.00 USD are
    disputed with a fee of 15.00. Stripe's fees on the charges are 3.20 and 4.51.

    The bank gets 100 + 107.97 - 20 - 32.55 - 30 - 15 - 3.20 - 4.51 = 102.71. Lost by exchange: 110.00 - 107.97 = 2.03
    on the payment less 33.00 - 32.55 = 0.45 on the refund, 1.58. Sales 100 + 110, refunds 20 + 33.
    """
    books.add(id="cus_2", object="customer", name="Beispiel GmbH")
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(10000))
    await books.told(
        "invoice.finalized", invoice([line(10000)], 10000, id="in_2", number="B-1", customer="cus_2", currency="eur")
    )
    euros = paid(10000, n=2, invoice="in_2", currency="eur")
    # A payment intent may have had a card that was declined; and Stripe's own bookkeeping may be an hour late.
    books.add(**charge(9, 10000, payment_intent="pi_2", status="failed", amount_captured=0))
    books.add(**charge(2, 10000, currency="eur"))
    before = books.balances()
    with pytest.raises(MappingError, match="Stripe does not say yet what it made of the EUR") as caught:
        await books.tell("invoice_payment.paid", euros)
    assert (caught.value.code, books.balances()) == ("not_there_yet", before), "not at another rate in silence"
    books.add(**movement(1, "charge", 10000, 320, source="ch_1"))
    books.add(**movement(2, "charge", 10797, 451, source="ch_2"))
    books.add(**movement(3, "refund", -2000, source="re_1"))
    books.add(**movement(4, "refund", -3255, source="re_2"))
    books.add(**movement(5, "dispute", -3000, 1500, type="adjustment", id="txn_d"))
    books.add(**movement(6, "payout", -10271))
    await books.told("invoice_payment.paid", euros)
    # Receivables are relieved at 1.10, clearing takes 107.97: NetSuite books the 2.03 between them itself.
    assert books.balances() == ledger(clearing="207.97", sales=-210, exchange="2.03")
    await books.told("refund.created", refund(2000))
    await books.told("refund.created", refund(3000, id="re_2", currency="eur", charge="ch_2", payment_intent="pi_2"))
    await books.told("charge.dispute.funds_withdrawn", dispute(3000))
    await books.told("payout.reconciliation_completed", payout(10271))
    left = ledger(bank="102.71", fees="22.71", sales=-210, refunds=53, disputes=30, exchange="1.58")
    assert books.balances() == left, "neither clearing nor receivables"
    shown = [(entry["memo"], entry["amount"]) for entry in books.record("deposit", "stripe_po_1")["other"]]
    assert shown == [("charges", "207.97"), ("refunds", "-52.55"), ("disputes", "-30.00"), ("fees", "-22.71")]

    await books.told("payout.failed", payout(10271, status="failed", failure_code="account_closed"), JAN + 14 * DAY)
    assert NAMES["bank"] not in books.balances()
    assert books.balances()[NAMES["clearing"]] == Decimal("102.71"), "the money is at Stripe again"


async def test_a_dispute_that_is_won_and_a_refund_that_fails_come_back_at_the_rates_of_stripe(books: Books) -> None:
    """100.00 EUR, in the books 110.00 USD; Stripe: 108.00. 50.00 EUR are disputed at 54.50 and come back at 53.00, then
    20.00 are refunded at 21.60 and come back at 21.70. Clearing: 108.00 - 54.50 + 53.00 - 21.60 + 21.70 = 106.60.

    The customer owes nothing, and is owed the failed refund, at the rate at which it came back: 21.70. Exchange: 2.00
    lost on the payment; 55.00 - 54.50 = 0.50 and 22.00 - 21.60 = 0.40 won on what was taken; 55.00 - 53.00 = 2.00 lost
    on what came back: 3.10. Of the refund 22.00 stay, of the dispute nothing: 106.60 - 21.70 - 110 + 22 + 3.10 = 0.
    """
    euro = {"currency": "eur", "charge": "ch_1"}
    moved = [
        movement(3, "dispute", -5450, 1500, created=JAN + 4 * DAY),
        movement(4, "dispute_reversal", 5300, created=JAN + 9 * DAY),
    ]
    for each in (
        charge(1, 10000, **euro),
        movement(1, "charge", 10800, source="ch_1"),
        movement(6, "refund_failure", 2170, source="re_1"),  # Stripe's lists begin with the newest
        movement(5, "refund", -2160, source="re_1"),
    ):
        books.add(**each)
    await books.told("invoice.finalized", invoice([line(10000)], 10000, currency="eur"))
    await books.told("invoice_payment.paid", paid(10000, currency="eur"))
    await books.told("charge.dispute.funds_withdrawn", dispute(5000, **euro, balance_transactions=moved[:1]))
    await books.told("charge.dispute.funds_reinstated", dispute(5000, **euro, balance_transactions=moved))
    await books.told("refund.created", refund(2000, **euro))
    assert books.balances()[NAMES["clearing"]] == Decimal("84.90")  # 108.00 - 54.50 + 53.00 - 21.60
    failed = refund(2000, **euro, status="failed", failure_balance_transaction="txn_6")
    await books.told("refund.failed", failed, JAN + 6 * DAY)
    assert books.balances() == ledger(clearing="106.60", receivable="-21.70", sales=-110, refunds=22, exchange="3.10")


async def test_a_payout_that_is_not_the_sum_of_its_parts_is_not_sent_and_shows_the_sum(books: Books) -> None:
    books.add(**movement(1, "charge", 10800, 343))
    with pytest.raises(MappingError, match=r"charges 10800 fees -343, together 10457, but it is 10458") as caught:
        await books.tell("payout.paid", payout(10458))
    assert caught.value.code == "does_not_add_up"
    assert books.writes() == []


@pytest.mark.parametrize(
    ("currency", "lines", "total", "booked"),
    [
        ("jpy", [line(1000), line(500)], 1500, "1500"),
        ("kwd", [line(12340), line(60)], 12400, "12.40"),
    ],
)
async def test_yen_have_no_cents_and_dinars_fit_when_they_end_in_0(
    opened: Callable[..., Books], currency: str, lines: list[dict[str, Any]], total: int, booked: str
) -> None:
    books = opened(exchange_rates="netsuite")
    await books.told("invoice.finalized", invoice(lines, total, currency=currency))
    await books.told("invoice_payment.paid", paid(total, currency=currency))
    assert books.record("invoice", "stripe_in_1")["total"] == booked
    assert books.record("customerPayment", "stripe_inpay_1")["total"] == booked
    assert "Accounts Receivable" not in books.balances()


async def test_a_third_decimal_is_a_dead_letter_before_anything_is_sent(books: Books) -> None:
    # 12.345 and 0.055 are 12.400 together, but neither fits a currency with two places.
    (outcome,) = await books.tell("invoice.finalized", invoice([line(12345), line(55)], 12400, currency="kwd"))
    assert isinstance(outcome, Reject)
    assert (outcome.code, "12.345" in outcome.cause) == ("TOO_PRECISE", True)
    assert books.writes() == []


@pytest.mark.parametrize("count", [11, 101, 1001])
async def test_every_line_arrives(books: Books, count: int) -> None:
    # 1.00 + 1.01 + ... : count * 100 + (0 + 1 + ... + count - 1) cents
    lines = [line(100 + n, id=f"il_{n}") for n in range(count)]
    total = 100 * count + count * (count - 1) // 2
    await books.told("invoice.finalized", invoice(lines, total))
    kept = books.record("invoice", "stripe_in_1")
    assert len(kept["lines"]) == count
    assert kept["total"] == {11: "11.55", 101: "151.50", 1001: "6006.00"}[count]
    assert books.writes() == ["stripe_cus_1", "stripe_in_1"]
