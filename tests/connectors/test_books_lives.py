"""What the general ledger says after each life of an invoice. Every figure is worked out by hand; debit is positive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.errors import MappingError, Reject
from hub.mapping import Mappings
from tests.connectors.books_kit import (
    DAY,
    JAN,
    Books,
    dispute,
    invoice,
    line,
    movement,
    note,
    opening,
    paid,
    payout,
    refund,
    tax,
)
from tests.connectors.netsuite_kit import World, own_mappings, world


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Mappings:
    return own_mappings(Path(tmp_path_factory.mktemp("books")) / "mappings")


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with world() as w:
        yield w


@pytest.fixture
async def opened(running: World, mappings: Mappings) -> AsyncIterator[Callable[..., Books]]:
    async with opening(running, mappings) as made:
        yield made


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


async def test_a_payout_with_everything_in_it_in_two_currencies_leaves_clearing_at_zero(
    opened: Callable[..., Books],
) -> None:
    """100.00 USD and 100.00 EUR are paid; Stripe makes 108.00 USD of the latter (its rate: 1.08; NetSuite's table has
    1.10). 20.00 USD are refunded, 30.00 USD disputed with a fee of 15.00; Stripe's fees on the charges are 3.20 and
    4.51. The bank gets 100 + 108 - 20 - 30 - 15 - 3.20 - 4.51 = 135.29."""
    books = opened(exchange_rates="stripe")
    books.add(id="cus_2", object="customer", name="Beispiel GmbH")
    for n, currency, rate in ((1, "usd", None), (2, "eur", "1.08")):
        books.add(id=f"pi_{n}", object="payment_intent", latest_charge=f"ch_{n}")
        books.add(id=f"ch_{n}", object="charge", balance_transaction=f"txn_{n}", currency=currency)
        books.add(**movement(n, "charge", (10000, 10800)[n - 1], (320, 451)[n - 1], exchange_rate=rate))
    await books.told("invoice.finalized", invoice([line(10000)], 10000))
    await books.told("invoice_payment.paid", paid(10000))
    await books.told(
        "invoice.finalized", invoice([line(10000)], 10000, id="in_2", number="B-1", customer="cus_2", currency="eur")
    )
    books.add(**movement(3, "refund", -2000))
    books.add(**movement(4, "dispute", -3000, 1500, type="adjustment", id="txn_d"))
    books.add(**movement(5, "payout", -13529))
    await books.told("invoice_payment.paid", paid(10000, n=2, invoice="in_2", currency="eur"))
    # Receivables are relieved at 1.10, clearing takes 108.00: NetSuite books the 2.00 between them itself.
    assert books.balances()[NAMES["clearing"]] == Decimal(208)
    await books.told("refund.created", refund(2000, balance_transaction="txn_3"))
    await books.told("charge.dispute.funds_withdrawn", dispute(3000))
    await books.told("payout.reconciliation_completed", payout(13529))
    left = ledger(bank="135.29", fees="22.71", sales=-210, refunds=20, disputes=30, exchange=2)
    assert books.balances() == left
    shown = [(entry["memo"], entry["amount"]) for entry in books.record("deposit", "stripe_po_1")["other"]]
    assert shown == [("charges", "208.00"), ("refunds", "-20.00"), ("disputes", "-30.00"), ("fees", "-22.71")]

    await books.told("payout.failed", payout(13529, status="failed", failure_code="account_closed"), JAN + 14 * DAY)
    assert NAMES["bank"] not in books.balances()
    assert books.balances()[NAMES["clearing"]] == Decimal("135.29"), "the money is at Stripe again"


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
    books: Books, currency: str, lines: list[dict[str, Any]], total: int, booked: str
) -> None:
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
