"""What a run of made-up lives contains, and that its money adds up to the last cent, worked out from what it shows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from connectors.stripe.simulator import Business, StripeSimulator

START = 1_767_225_600
State = dict[str, Any]


@pytest.fixture(scope="module")
def lived() -> tuple[State, Counter[str]]:
    """72 lives: every role three times, every kind of customer at least six times."""
    sim = StripeSimulator(seed=11, clock=lambda: 1_770_000_000.0, start=START)
    types: Counter[str] = Counter()
    sim.listen(lambda event: types.update([event["type"]]))
    for _ in Business(sim, random.Random(11)).live(72):
        pass
    return sim.state(), types


def test_every_kind_of_money_is_in_it(lived: tuple[State, Counter[str]]) -> None:
    state, types = lived
    invoices, notes = state["invoices"], state["credit_notes"]
    ways = defaultdict(list)
    for payment in state["invoice_payments"]:
        if payment["status"] == "paid":
            ways[payment["invoice"]].append(payment["payment"]["type"])
    in_a_note = {refund["refund"] for note in notes for refund in note["refunds"]}

    def used(invoice: State) -> int:
        """What an invoice took from the customer's balance."""
        return int((invoice["ending_balance"] or 0) - invoice["starting_balance"])

    found = {
        "bare refund": [r for r in state["refunds"] if r["status"] == "succeeded" and r["id"] not in in_a_note],
        "refund of a note": [r for r in state["refunds"] if r["id"] in in_a_note],
        "failed refund": [r for r in state["refunds"] if r["status"] == "failed"],
        "note to the balance": [n for n in notes if n["customer_balance_transaction"]],
        "voided note": [n for n in notes if n["status"] == "void"],
        "dispute won": [d for d in state["disputes"] if d["status"] == "won"],
        "dispute lost": [d for d in state["disputes"] if d["status"] == "lost"],
        "written off": [i for i in invoices if i["status"] == "uncollectible"],
        "written off, then paid": [
            i for i in invoices if i["status"] == "paid" and i["status_transitions"]["marked_uncollectible_at"]
        ],
        "two payments": [way for way in ways.values() if set(way) == {"payment_intent", "payment_record"}],
        "paid by balance alone": [i for i in invoices if used(i) == i["total"] > 0 and i["status"] == "paid"],
        "paid by balance in part": [i for i in invoices if 0 < used(i) < i["total"] and i["status"] == "paid"],
        "negative": [i for i in invoices if i["total"] < 0],
        "void": [i for i in invoices if i["status"] == "void"],
        "yen": [i for i in invoices if i["currency"] == "jpy"],
        "dinar": [i for i in invoices if i["currency"] == "kwd"],
        "failed payout": [p for p in state["payouts"] if p["status"] == "failed"],
        "paid in euros": [p for p in state["payouts"] if (p["status"], p["currency"]) == ("paid", "eur")],
        "paid in dollars": [p for p in state["payouts"] if (p["status"], p["currency"]) == ("paid", "usd")],
        "reverse charge": [
            i for i in invoices
            if (i["customer_tax_exempt"], i["customer_address"]["country"], len(i["customer_tax_ids"]))
            in (("reverse", "DE", 1), ("reverse", "FR", 1))
        ],
        "exempt": [i for i in invoices if i["customer_tax_exempt"] == "exempt"],
        "inclusive": [
            i for i in invoices if any(t["tax_behavior"] == "inclusive" and t["amount"] > 0 for t in i["total_taxes"])
        ],
    }  # fmt: skip
    assert [name for name, rows in found.items() if not rows] == []
    places = {i["customer_address"].get("state") or i["customer_address"]["country"] for i in invoices}
    assert places == {"WA", "CA", "PA", "NY", "GB", "DE", "FR", "JP", "KW"}
    assert {"payout.failed", "refund.failed", "charge.dispute.funds_reinstated", "customer.tax_id.updated"} <= set(
        types
    )


def test_drafts_without_taxes_wait_an_hour_in_taxable_places(lived: tuple[State, Counter[str]]) -> None:
    """For a tax engine: no tax of the business's own, a place where there is one, and time to put it on."""
    untaxed = [
        invoice
        for invoice in lived[0]["invoices"]
        if not invoice["default_tax_rates"]
        and invoice["customer_tax_exempt"] == "none"
        and invoice["customer_address"]["country"] != "KW"
        and invoice["total"] > 0
    ]
    assert {invoice["total_taxes"] == [] for invoice in untaxed} == {True}
    waited = [i for i in untaxed if i["status_transitions"]["finalized_at"] == i["created"] + 3600]
    assert len(waited) > len(untaxed) / 2
    assert {"US", "DE"} <= {i["customer_address"]["country"] for i in waited}


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_story_ends_when_the_bank_has_all_of_it(seed: int) -> None:
    sim = StripeSimulator(seed=seed, clock=lambda: 1_770_000_000.0, start=START)
    for _ in Business(sim, random.Random(seed)).live(3):
        pass
    state = sim.state()
    assert {payout["status"] for payout in state["payouts"]} == {"paid", "failed"}
    assert all(part["pending"] == 0 and part["available"] <= 0 for part in state["balance"].values())


def test_each_movement_of_money_is_in_one_payout_or_in_the_balance(lived: tuple[State, Counter[str]]) -> None:
    state = lived[0]
    own = {payout["balance_transaction"] for payout in state["payouts"]}
    assert len(own) == len(state["payouts"])
    for currency in ("usd", "eur"):
        moved = [t for t in state["balance_transactions"] if t["currency"] == currency]
        gross = sum(t["amount"] for t in moved if t["id"] not in own)
        fees = sum(t["fee"] for t in moved)
        payouts = [p for p in state["payouts"] if p["currency"] == currency]
        left = state["balance"][currency]
        # A failed payout's money came back as a movement of its own, so it counts on both sides.
        assert gross - fees == sum(p["amount"] for p in payouts) + left["available"] + left["pending"]
        assert left["pending"] == 0
        assert left["available"] <= 0
        assert {p["status"] for p in payouts} <= {"paid", "failed"}


def test_charges_refunds_and_disputes_have_their_transactions(lived: tuple[State, Counter[str]]) -> None:
    state = lived[0]
    dollars = {"jpy": (0, 66), "kwd": (3, 32_500)}  # decimals, ten-thousandths of a dollar for one
    by_source = defaultdict(list)
    for made in state["balance_transactions"]:
        by_source[made["source"]].append(made)
    for charge in state["charges"]:
        assert len(by_source[charge["id"]]) == (1 if charge["paid"] else 0)
        for made in by_source[charge["id"]]:
            amount, currency = charge["amount"], charge["currency"]
            if currency in dollars:
                decimals, each = dollars[currency]
                # cents = amount / 10^decimals * each / 10,000 * 100, half a cent up
                amount, currency = (2 * amount * each + 100 * 10**decimals) // (200 * 10**decimals), "usd"
            assert (made["amount"], made["currency"]) == (amount, currency)
            assert made["fee"] == (amount * 29 + 500) // 1000 + 30
        back = [r for r in state["refunds"] if r["charge"] == charge["id"] and r["status"] != "failed"]
        assert sum(r["amount"] for r in back) == charge["amount_refunded"]
    for refund in state["refunds"]:
        nets = [made["net"] for made in by_source[refund["id"]]]
        assert (sum(nets) == 0) is (refund["status"] == "failed")
    for dispute in state["disputes"]:
        nets = [made["net"] for made in by_source[dispute["id"]]]
        assert nets == [t["net"] for t in dispute["balance_transactions"]]
        assert (sum(nets) == -1500) is (dispute["status"] == "won")
