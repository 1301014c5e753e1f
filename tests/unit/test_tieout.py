"""The demo's own proof that the money agrees must notice when it does not. Each state here is made up by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hub.commands.tieout_balance import balances
from hub.commands.tieout_money import Money, money

STRIPE: dict[str, Any] = {
    "invoices": [
        {"id": "in_1", "object": "invoice", "status": "paid", "currency": "eur", "total_taxes": [{"amount": 1900}]},
        {"id": "in_2", "object": "invoice", "status": "void", "currency": "eur", "total_taxes": [{"amount": 77}]},
    ],
    "credit_notes": [
        {
            "id": "cn_1",
            "object": "credit_note",
            "status": "issued",
            "currency": "eur",
            "total": 1190,
            "total_taxes": [{"amount": 190}],
            "refunds": [{"refund": "re_1"}],
        }
    ],
    "invoice_payments": [
        {
            "id": "inpay_1",
            "status": "paid",
            "amount_paid": 11900,
            "currency": "eur",
            "payment": {"payment_intent": "pi_1"},
        },
        {"id": "inpay_2", "status": "open", "amount_paid": None, "currency": "eur", "payment": {}},
    ],
    "refunds": [
        {"id": "re_1", "status": "succeeded", "amount": 1190, "currency": "eur", "payment_intent": "pi_1"},
        {"id": "re_2", "status": "succeeded", "amount": 500, "currency": "eur", "payment_intent": "pi_1"},
        {"id": "re_3", "status": "succeeded", "amount": 9, "currency": "eur", "payment_intent": "pi_of_no_invoice"},
    ],
    "disputes": [
        {"id": "dp_1", "amount": 300, "currency": "eur", "balance_transactions": [{"amount": -300}, {"amount": 300}]}
    ],
    "payouts": [
        {"id": "po_1", "status": "paid", "amount": 9000, "currency": "eur"},
        {"id": "po_2", "status": "pending", "amount": 7, "currency": "eur"},
    ],
}
NETSUITE: dict[str, Any] = {
    "creditMemo": [
        {"externalId": "stripe_cn_1", "total": "11.90"},
        {"externalId": "stripe_memo_re_2", "total": "5.00"},
        {"externalId": "stripe_memo_dp_1", "total": "3.00"},
    ],
    "customerPayment": [
        {"externalId": "stripe_inpay_1", "payment": "119.00"},
        {"externalId": "stripe_paidback_dp_1", "payment": "3.00"},
    ],
    "customerRefund": [
        {"externalId": "stripe_re_1", "total": "11.90"},
        {"externalId": "stripe_re_2", "total": "5.00"},
        {"externalId": "stripe_dp_1", "total": "3.00"},
    ],
    "deposit": [{"externalId": "stripe_po_1", "total": "90.00"}],
}
AVALARA: dict[str, Any] = {
    "documents": [
        {"code": "in_1", "type": "SalesInvoice", "status": "Committed", "totalAmount": "100", "totalTax": "19"},
        {"code": "in_2", "type": "SalesInvoice", "status": "Cancelled", "totalAmount": "4", "totalTax": "0.77"},
        {"code": "cn_1", "type": "ReturnInvoice", "status": "Committed", "totalAmount": "-10", "totalTax": "-1.9"},
        {"code": "re_2", "type": "ReturnInvoice", "status": "Committed", "totalAmount": "-4.2", "totalTax": "-0.8"},
    ]
}


def test_what_agrees_agrees() -> None:
    found = money(STRIPE, NETSUITE, AVALARA)
    assert found.all() == []
    assert found.agrees
    assert found.counts == {
        "payments": {"stripe": 1, "netsuite": 1},
        "credit_notes": {"stripe": 1, "netsuite": 1, "avalara": 1},
        "refunds": {"stripe": 2, "netsuite": 2},
        "refunds_without_note": {"stripe": 1, "avalara": 1},
        "disputes": {"stripe": 2, "netsuite": 2},
        "payouts": {"stripe": 1, "netsuite": 1},
    }
    assert found.tax == {"EUR": {"stripe": "17.1", "avalara": "17.1"}}  # 19.00 of the invoice less 1.90 of the note


def _books(kind: str, number: int, **change: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    netsuite = copy.deepcopy(NETSUITE)
    if change:
        netsuite[kind][number] |= change
    else:
        del netsuite[kind][number]
    return netsuite, AVALARA


def _taxes(number: int, **change: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    avalara = copy.deepcopy(AVALARA)
    if change:
        avalara["documents"][number] |= change
    else:
        del avalara["documents"][number]
    return NETSUITE, avalara


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (_books("customerPayment", 0), "payments: netsuite: stripe_inpay_1 is missing"),
        (
            _books("customerPayment", 0, payment="118.99"),
            "payments: netsuite: stripe_inpay_1 is 118.99, in Stripe 119.00",
        ),
        (_books("customerPayment", 1), "disputes: netsuite: stripe_paidback_dp_1 is missing"),
        (_books("creditMemo", 0, total="11.91"), "credit_notes: netsuite: stripe_cn_1 is 11.91, in Stripe 11.90"),
        (_books("customerRefund", 1), "refunds: netsuite: stripe_re_2 is missing"),
        (_books("customerRefund", 2, total="2.00"), "disputes: netsuite: stripe_dp_1 is 2.00, in Stripe 3.00"),
        (_books("deposit", 0, total="89.00"), "payouts: netsuite: stripe_po_1 is 89.00, in Stripe 90.00"),
        (_books("deposit", 0, externalId="stripe_po_9"), "payouts: netsuite: stripe_po_9 is nothing of Stripe's"),
        (_taxes(0, totalTax="18.99"), "tax: avalara: in_1 has tax 18.99, in Stripe 19.00 EUR"),
        (_taxes(0), "tax: avalara: in_1 has tax 0, in Stripe 19.00 EUR"),
        (_taxes(2, status="Cancelled"), "credit_notes: avalara: cn_1 is Cancelled, in Stripe issued"),
        (_taxes(2, totalAmount="-9.99"), "credit_notes: avalara: cn_1 is 11.89, in Stripe 11.90"),
        (_taxes(3), "refunds_without_note: avalara: re_2 is missing"),
    ],
)
def test_what_does_not_agree_is_said(there: tuple[dict[str, Any], dict[str, Any]], says: str) -> None:
    found = money(STRIPE, *there)
    assert says in found.all()
    assert not found.agrees


def test_the_same_document_twice_is_said() -> None:
    twice = {**NETSUITE, "deposit": NETSUITE["deposit"] * 2}
    assert money(STRIPE, twice, AVALARA).all() == ["payouts: netsuite: 2 documents for stripe_po_1"]


# What is still at Stripe, and what is still owed ----------------------------------------------------------------------

PAID = {"status": "paid", "payment": {"payment_intent": "pi_1"}}


def _movement(id_: str, amount: int, source: str, fee: int = 0, currency: str = "usd") -> dict[str, Any]:
    return {"id": id_, "amount": amount, "fee": fee, "source": source, "currency": currency}


ACCOUNT: dict[str, Any] = {
    # Charges of 100.00 and 50.00 (fees 3.20 and 1.75) and one of 9.00 without an invoice (fee 0.56). The first and the
    # last are in a payout that has arrived, of 105.24; the second in one under way, of 48.25. A refund of 20.00 is left
    # on the balance, which is below nothing by it. Of 70.00 EUR 67.67 are left, after a fee of 2.33.
    "balance": {"usd": {"available": -2000, "pending": 0}, "eur": {"available": 0, "pending": 6767}},
    "balance_transactions": [
        _movement("txn_1", 10000, "ch_1", 320),
        _movement("txn_2", 5000, "ch_2", 175),
        _movement("txn_3", 900, "ch_of_no_invoice", 56),
        _movement("txn_4", -2000, "re_1"),
        _movement("txn_5", 7000, "ch_3", 233, "eur"),
        _movement("txn_6", -10524, "po_1"),
        _movement("txn_7", -4825, "po_2"),
    ],
    "paid_out": {"po_1": ["txn_1", "txn_3"], "po_2": ["txn_2"]},
    "payouts": [
        {"id": "po_1", "status": "paid", "amount": 10524, "currency": "usd"},
        {"id": "po_2", "status": "in_transit", "amount": 4825, "currency": "usd"},
    ],
    "invoice_payments": [PAID],
    "charges": [
        {"id": "ch_1", "payment_intent": "pi_1"},
        {"id": "ch_2", "payment_intent": "pi_1"},
        {"id": "ch_3", "payment_intent": "pi_1"},
        {"id": "ch_of_no_invoice", "payment_intent": "pi_2"},
    ],
    "refunds": [
        {"id": "re_1", "payment_intent": "pi_1", "status": "succeeded", "amount": 2000, "currency": "usd"},
        {"id": "re_2", "payment_intent": "pi_1", "status": "failed", "amount": 150, "currency": "eur"},
    ],
    "disputes": [],
    "invoices": [
        {"status": "open", "currency": "eur", "amount_remaining": 11900, "amount_paid": 0},
        {"status": "uncollectible", "currency": "jpy", "amount_remaining": 500, "amount_paid": 0},
        {"status": "void", "currency": "eur", "amount_remaining": 0, "amount_paid": 250},
        {"status": "paid", "currency": "eur", "amount_remaining": 0, "amount_paid": 7000},
    ],
}
LEDGER: dict[str, Any] = {
    # In: 60.00 USD, and 90.00 that Stripe made of yen; refunded 20.00; out with the payout: 100.00 and the 9.00 that
    # never came in. By Stripe: -20.00 + 48.25 under way + 1.75 of fees to come - 9.00 = 21.00.
    "carried": {"1": {"hub_stripe_clearing": {"USD": "-69.00", "JPY": "90.00", "EUR": "77.00"}}},
    "foreign": {
        "1": {
            "hub_stripe_clearing": {"USD": "-69.00", "JPY": "13600", "EUR": "70.00"},
            # 119.00 open, less 1.50 of a refund that came back and 2.50 paid of a void invoice.
            "Accounts Receivable": {"EUR": "115.00", "JPY": "500"},
        }
    },
}


def test_clearing_is_what_stripe_has_and_receivables_what_customers_owe() -> None:
    found = Money()
    balances(found, ACCOUNT, LEDGER)
    assert found.all() == []
    assert found.clearing == {
        "EUR": {"stripe": "70", "netsuite": "70", "difference": "0"},
        "USD": {"stripe": "21", "netsuite": "21", "difference": "0"},
    }
    assert found.receivables == {
        "EUR": {"stripe": "115", "netsuite": "115", "difference": "0"},
        "JPY": {"stripe": "500", "netsuite": "500", "difference": "0"},
    }


@pytest.mark.parametrize(
    ("ledger", "account", "currency", "amount", "says"),
    [
        ("carried", "hub_stripe_clearing", "JPY", "90.01", "clearing: netsuite: 21.01 USD, by Stripe it is 21.00"),
        ("foreign", "hub_stripe_clearing", "EUR", "69.99", "clearing: netsuite: 69.99 EUR, by Stripe it is 70.00"),
        ("foreign", "Accounts Receivable", "EUR", "0", "receivables: netsuite: 0 EUR, by Stripe it is 115.00"),
        ("foreign", "Accounts Receivable", "GBP", "1", "receivables: netsuite: 1 GBP, by Stripe it is 0"),
    ],
)
def test_a_cent_too_many_in_the_ledger_is_said(
    ledger: str, account: str, currency: str, amount: str, says: str
) -> None:
    wrong = copy.deepcopy(LEDGER)
    wrong[ledger]["1"][account][currency] = amount
    found = Money()
    balances(found, ACCOUNT, wrong)
    assert found.all() == [says]
    assert not found.agrees
