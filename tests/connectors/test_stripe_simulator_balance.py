"""What happens to money after it was charged: the balance, payouts, disputes, refunds. Figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.stripe.simulator import InvariantError, StripeError
from connectors.stripe.simulator.balance import RATES, converted
from connectors.stripe.simulator.payouts import pay_out
from tests.connectors.stripe_kit import DAY, HOUR, START, Account


class Till(Account):
    """An account that is paid out, and charges of given amounts."""

    def __init__(self, *, payouts: bool = True) -> None:
        super().__init__(payouts=payouts)

    def invoice(self, amount: int, currency: str = "usd", **customer: Any) -> Any:
        """A finalised invoice, not paid."""
        invoice = self.drafted(self.customer(**customer), [amount], currency)
        return self.post(f"/v1/invoices/{invoice}/finalize")

    def charge(self, amount: int, currency: str = "usd") -> Any:
        """The charge of a paid invoice, with its balance transaction."""
        invoice = self.invoice(amount, currency)
        self.post(f"/v1/invoices/{invoice['id']}/pay")
        self.types()
        found = self.get("/v1/charges", customer=invoice["customer"], expand=["data.balance_transaction"])
        return found["data"][0]

    def transactions(self, **filters: Any) -> list[tuple[str, int, int, int, str]]:
        rows = self.get("/v1/balance_transactions", **filters)["data"]
        return [(row["type"], row["amount"], row["fee"], row["net"], row["currency"]) for row in rows]


@pytest.mark.parametrize(
    ("amount", "currency", "settled"),
    [
        (10_000, "usd", ("charge", 10_000, 320, 9680, "usd")),  # 2.9 % = 290, + 30
        (1_051, "eur", ("charge", 1_051, 60, 991, "eur")),  # 2.9 % = 30.479 -> 30, + 30
        (10_000, "jpy", ("charge", 6600, 221, 6379, "usd")),  # 10,000 yen at 0.0066 = 66.00; 191.4 -> 191, + 30
        (1_234, "jpy", ("charge", 814, 54, 760, "usd")),  # 8.1444 -> 8.14; 23.606 -> 24, + 30
        (12_340, "kwd", ("charge", 4011, 146, 3865, "usd")),  # 12.340 dinar at 3.25 = 40.105 -> 40.11; 116.319 -> 116
    ],
)
def test_a_charge_settles_with_its_fee(amount: int, currency: str, settled: tuple[str, int, int, int, str]) -> None:
    till = Till()
    charge = till.charge(amount, currency)
    made = charge["balance_transaction"]
    assert till.transactions(source=charge["id"]) == [settled]
    assert made["exchange_rate"] == (None if currency in ("usd", "eur") else float(RATES[currency]))
    assert (made["status"], made["available_on"]) == ("pending", START + 2 * DAY)
    assert [detail["amount"] for detail in made["fee_details"]] == [made["fee"]]
    assert (made["source"], made["reporting_category"]) == (charge["id"], "charge")
    till.sim.advance(2 * DAY)
    assert till.get(f"/v1/balance_transactions/{made['id']}")["status"] == "available"


def test_half_a_cent_is_rounded_away_from_zero_both_ways() -> None:
    # 0.500 dinar at 3.25 = 1.625 dollars
    assert (converted(500, "kwd"), converted(-500, "kwd")) == (163, -163)


def test_each_monday_what_is_available_goes_to_the_bank_and_is_listed_by_payout() -> None:
    till = Till()
    first, euro = till.charge(10_000), till.charge(5_000, "eur")
    till.post("/v1/refunds", charge=first["id"], amount=4_000)
    till.sim.advance(2 * DAY + HOUR)
    late = till.charge(2_000)  # Saturday: available on Tuesday at midnight
    till.types()
    till.sim.advance(2 * DAY)  # Monday 01:00
    assert till.types() == ["payout.created"] * 2 + ["payout.reconciliation_completed"] * 2
    dollars, euros = sorted(till.get("/v1/payouts")["data"], key=lambda payout: payout["currency"], reverse=True)
    # 9680 - 4000 = 5680 dollars; 5000 - (145 + 30) = 4825 euros
    assert [(p["amount"], p["currency"]) for p in (dollars, euros)] == [(5680, "usd"), (4825, "eur")]
    assert (dollars["status"], dollars["automatic"], dollars["arrival_date"]) == ("pending", True, START + 6 * DAY)
    assert dollars["reconciliation_status"] == "completed"
    assert till.transactions(payout=dollars["id"]) == [
        ("payout", -5680, 0, -5680, "usd"),
        ("refund", -4000, 0, -4000, "usd"),
        ("charge", 10_000, 320, 9680, "usd"),
    ]
    assert till.transactions(payout=euros["id"], type="charge") == [("charge", 5000, 175, 4825, "eur")]
    assert till.transactions(source=euro["id"]) == till.transactions(payout=euros["id"], type="charge")
    till.sim.advance(DAY)
    assert till.types() == ["payout.updated"] * 2
    till.sim.advance(DAY)
    assert till.types() == ["payout.paid"] * 2
    assert {p["status"] for p in till.get("/v1/payouts", status="paid")["data"]} == {"paid"}
    # 2000 less 58 + 30
    assert till.sim.state()["balance"] == {
        "usd": {"available": 1912, "pending": 0},
        "eur": {"available": 0, "pending": 0},
    }
    assert till.get("/v1/balance")["available"][0]["amount"] == 1912
    till.sim.advance(7 * DAY)
    newest = till.get("/v1/payouts", limit=1)["data"][0]
    assert [t[1] for t in till.transactions(payout=newest["id"])] == [-1912, 2000]
    assert late["balance_transaction"]["available_on"] == START + 5 * DAY


def test_a_failed_payout_stays_failed_and_its_money_is_in_the_next_one() -> None:
    till = Till()
    till.charge(10_000)
    till.sim.fail_next_payout()
    till.sim.advance(6 * DAY)
    assert till.types()[-1] == "payout.failed"
    (failed,) = till.get("/v1/payouts")["data"]
    assert (failed["status"], failed["amount"], failed["failure_code"]) == ("failed", 9680, "account_closed")
    back = till.get(f"/v1/balance_transactions/{failed['failure_balance_transaction']}")
    assert (back["type"], back["net"], back["source"]) == ("payout_failure", 9680, failed["id"])
    till.sim.advance(7 * DAY)
    second, _ = till.get("/v1/payouts")["data"]
    assert (second["status"], second["amount"]) == ("paid", 9680)
    assert [t[0] for t in till.transactions(payout=second["id"])] == ["payout", "payout_failure"]
    assert [t[0] for t in till.transactions(payout=failed["id"])] == ["payout", "charge"]


def test_nothing_is_paid_out_of_a_balance_that_is_not_positive() -> None:
    till = Till()
    charge = till.charge(10_000)
    till.post("/v1/refunds", charge=charge["id"])  # the fee of 3.20 is not given back
    till.sim.advance(14 * DAY)
    assert till.get("/v1/payouts")["data"] == []
    assert till.sim.state()["balance"]["usd"] == {"available": -320, "pending": 0}
    till.charge(1_000)  # 1000 - 59 - 320 = 621
    till.sim.advance(14 * DAY)
    assert [payout["amount"] for payout in till.get("/v1/payouts")["data"]] == [621]


def test_without_payouts_the_balance_grows() -> None:
    till = Till(payouts=False)
    till.charge(10_000)
    till.sim.advance(30 * DAY)
    assert till.types() == []
    assert till.sim.state()["balance"]["usd"]["available"] == 9680


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_a_dispute_takes_the_money_and_a_fee_and_gives_back_only_the_money(outcome: Any) -> None:
    till = Till()
    charge = till.charge(12_340, "kwd")
    dispute = till.sim.dispute(charge["id"], "fraudulent")
    assert till.types() == ["charge.dispute.created", "charge.updated", "charge.dispute.funds_withdrawn"]
    assert (dispute["amount"], dispute["currency"], dispute["status"]) == (12_340, "kwd", "needs_response")
    assert dispute["evidence_details"]["due_by"] == START + 9 * DAY
    withdrawn = dispute["balance_transactions"][0]
    assert (withdrawn["amount"], withdrawn["fee"], withdrawn["net"]) == (-4011, 1500, -5511)
    assert withdrawn["reporting_category"] == "dispute"
    assert till.get(f"/v1/charges/{charge['id']}")["disputed"] is True
    with pytest.raises(StripeError, match="charged back"):
        till.post("/v1/refunds", charge=charge["id"])
    till.sim.advance(DAY)
    closed = till.sim.close_dispute(dispute["id"], outcome)
    won = outcome == "won"
    assert till.types() == ["charge.dispute.closed"] + ["charge.dispute.funds_reinstated"] * won
    assert [t["net"] for t in closed["balance_transactions"]] == [-5511] + [4011] * won
    assert till.transactions(source=dispute["id"]) == [("adjustment", 4011, 0, 4011, "usd")] * won + [
        ("adjustment", -4011, 1500, -5511, "usd")
    ]
    assert till.get("/v1/disputes", payment_intent=charge["payment_intent"])["data"] == [closed]
    assert till.get("/v1/disputes", charge="ch_other")["data"] == []
    with pytest.raises(StripeError, match="already closed"):
        till.post(f"/v1/disputes/{dispute['id']}/close")


def test_a_dispute_is_of_what_was_not_refunded() -> None:
    till = Till()
    charge = till.charge(10_000)
    till.post("/v1/refunds", charge=charge["id"], amount=3_000)
    with pytest.raises(StripeError, match="Only 7000"):
        till.sim.dispute(charge["id"], amount=7_001)
    with pytest.raises(StripeError, match="reason"):
        till.sim.dispute(charge["id"], "because")
    assert till.sim.dispute(charge["id"])["amount"] == 7_000


def test_a_refund_that_fails_after_all_puts_the_money_back() -> None:
    till = Till()
    charge = till.charge(10_000)
    till.sim.next_refund("failed")
    refund = till.post("/v1/refunds", payment_intent=charge["payment_intent"], amount=2_500)
    assert (refund["status"], refund["customer"], refund["charge"]) == ("pending", charge["customer"], charge["id"])
    assert till.types() == ["charge.refunded", "refund.created"]
    shown = till.get(f"/v1/charges/{charge['id']}", expand=["refunds"])
    assert (shown["amount_refunded"], [r["id"] for r in shown["refunds"]["data"]]) == (2_500, [refund["id"]])
    till.sim.advance(2 * DAY)
    assert till.types() == ["refund.updated", "refund.failed", "charge.updated"]
    after = till.get(f"/v1/refunds/{refund['id']}", expand=["failure_balance_transaction"])
    assert (after["status"], after["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert after["failure_balance_transaction"]["net"] == 2_500
    assert till.get(f"/v1/charges/{charge['id']}")["amount_refunded"] == 0
    till.sim.next_refund("succeeded")
    assert till.post("/v1/refunds", charge=charge["id"])["status"] == "pending"
    assert till.post("/v1/refunds", charge=till.charge(100)["id"])["status"] == "succeeded"  # only the next one waits
    till.sim.advance(2 * DAY)
    assert till.types()[-1] == "refund.updated"


def test_lists_refuse_what_they_do_not_know() -> None:
    till = Till()
    for path, params in (
        ("/v1/balance_transactions", {"type": "topup"}),
        ("/v1/balance_transactions", {"payout": "po_no"}),
        ("/v1/balance_transactions", {"currency": "xxx"}),
        ("/v1/payouts", {"status": "done"}),
        ("/v1/disputes", {"customer": "cus_1"}),
    ):
        with pytest.raises(StripeError):
            till.get(path, **params)


def test_a_balance_that_does_not_add_up_is_noticed() -> None:
    till = Till(payouts=False)
    charge = till.charge(10_000)
    w = till.sim.world
    made = w.objects["balance_transaction"][charge["balance_transaction"]["id"]]
    made["net"] += 1
    with pytest.raises(InvariantError, match="is not 9681"):
        till.get(f"/v1/balance_transactions/{made['id']}")
    made["net"] -= 1
    made["amount"] -= 1
    with pytest.raises(InvariantError, match="10000 usd"):
        till.get(f"/v1/charges/{charge['id']}")
    made["amount"] += 1
    till.sim.advance(3 * DAY)
    w.unpaid["usd"] *= 2
    with pytest.raises(InvariantError, match="2 counted"):
        pay_out(w, "usd")


@pytest.mark.parametrize("event_type", ["charge.dispute.created", "payout.paid"])
def test_emit_makes_a_dispute_or_a_payout_where_there_is_none(event_type: str) -> None:
    event = Till().sim.emit(event_type)
    assert event["data"]["object"]["object"] == event_type.split(".")[-2]
