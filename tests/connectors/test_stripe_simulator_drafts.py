"""What happens before an invoice is paid: drafts and time, taxes put on by hand, the customer frozen, the customer's
balance, several payments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.stripe.simulator import StripeError
from tests.connectors.stripe_kit import DAY, HOUR, START, Account


class Desk(Account):
    """An account and its invoices by their ids."""

    def draft(self, customer: str, amount: int, currency: str = "usd", **params: Any) -> str:
        return self.drafted(customer, [amount], currency, **params)

    def open(self, amount: int, currency: str = "usd") -> str:
        invoice = self.draft(self.customer(), amount, currency)
        self.post(f"/v1/invoices/{invoice}/finalize")
        self.types()
        return invoice

    def invoice(self, invoice: str) -> Any:
        return self.get(f"/v1/invoices/{invoice}", expand=["payments"])


def rate(percentage: str = "6.5", **more: Any) -> dict[str, Any]:
    return {"display_name": "Sales tax", "percentage": percentage, "inclusive": False, "country": "US", **more}


def amounts(*given: int, **more: Any) -> list[dict[str, Any]]:
    return [{"amount": amount, "taxable_amount": 1000, "tax_rate_data": rate(**more)} for amount in given]


# Drafts and time -----------------------------------------------------------------------------------------------------


def test_a_draft_waits_an_hour_for_endpoints_that_answer_and_72_for_those_that_do_not() -> None:
    desk = Desk()
    customer = desk.customer()
    quick = desk.draft(customer, 500, auto_advance=True)
    desk.sim.webhooks_fail(failing=True)
    unheard = desk.draft(customer, 600, auto_advance=True)
    late = desk.draft(customer, 700, auto_advance=True)
    exact = desk.draft(customer, 800)
    desk.post(f"/v1/invoices/{exact}", automatically_finalizes_at=START + 5 * HOUR)
    assert desk.invoice(quick)["webhooks_delivered_at"] == START
    assert desk.invoice(unheard)["webhooks_delivered_at"] is None
    assert desk.invoice(unheard)["automatically_finalizes_at"] == START + 72 * HOUR
    desk.post(f"/v1/invoices/{late}", auto_advance=False)
    desk.sim.advance(HOUR)
    assert [desk.invoice(each)["status"] for each in (quick, unheard)] == ["paid", "draft"]
    desk.sim.advance(4 * HOUR)  # a time that was set holds, whether endpoints answer or not
    assert [desk.invoice(each)["status"] for each in (exact, unheard)] == ["paid", "draft"]
    desk.sim.advance(67 * HOUR - 1)
    assert desk.invoice(unheard)["status"] == "draft"
    desk.sim.advance(1)
    assert desk.invoice(unheard)["status"] == "paid"
    again = desk.draft(customer, 900, auto_advance=True)
    desk.sim.advance(10 * HOUR)
    desk.sim.webhooks_fail(failing=False)
    assert desk.invoice(again)["automatically_finalizes_at"] == desk.sim.now + HOUR
    desk.sim.advance(100 * HOUR)
    assert [desk.invoice(each)["status"] for each in (again, late)] == ["paid", "draft"]  # held by hand: for ever


def test_a_held_draft_is_finalised_by_hand_or_let_go() -> None:
    desk = Desk()
    customer = desk.customer()
    by_hand, let_go = (desk.draft(customer, amount, auto_advance=True) for amount in (500, 600))
    for each in (by_hand, let_go):
        desk.post(f"/v1/invoices/{each}", auto_advance=False, metadata={"hold": "tax"})
    desk.sim.advance(2 * DAY)
    desk.post(f"/v1/invoices/{by_hand}/finalize", auto_advance=True)
    assert desk.post(f"/v1/invoices/{let_go}", auto_advance=True)["automatically_finalizes_at"] == desk.sim.now + HOUR
    desk.sim.advance(HOUR)
    assert [desk.invoice(each)["status"] for each in (by_hand, let_go)] == ["paid", "paid"]
    with pytest.raises(StripeError, match="future"):
        desk.post(f"/v1/invoices/{desk.draft(customer, 5)}", automatically_finalizes_at=desk.sim.now)
    with pytest.raises(StripeError, match="5 years"):
        desk.post(f"/v1/invoices/{desk.draft(customer, 5)}", automatically_finalizes_at=desk.sim.now + 2000 * DAY)


def test_a_draft_shows_the_customer_as_he_is_and_an_invoice_as_he_was() -> None:
    desk = Desk()
    vat = {"type": "eu_vat", "value": "DE123456789"}
    customer = desk.customer(tax_id_data=[vat], address={"country": "DE"})
    assert desk.types() == ["customer.created", "customer.tax_id.created"]
    frozen, waiting = desk.draft(customer, 1000), desk.draft(customer, 1000)
    desk.post(f"/v1/invoices/{frozen}/finalize")
    desk.sim.advance(60)
    assert "customer.tax_id.updated" in desk.types()
    (found,) = desk.get(f"/v1/customers/{customer}", expand=["tax_ids"])["tax_ids"]["data"]
    assert (found["verification"]["status"], found["country"]) == ("verified", "DE")
    desk.post(f"/v1/customers/{customer}", tax_exempt="reverse", address={"country": "FR"})
    desk.post(f"/v1/customers/{customer}/tax_ids", type="eu_vat", value="FR40303265045")
    assert len(desk.invoice(waiting)["customer_tax_ids"]) == 2
    desk.sim.call("DELETE", f"/v1/customers/{customer}/tax_ids/{found['id']}")
    names = ("customer_tax_exempt", "customer_tax_ids")
    assert [desk.invoice(frozen)[name] for name in names] == ["none", [vat]]
    now = [{"type": "eu_vat", "value": "FR40303265045"}]
    assert [desk.invoice(waiting)[name] for name in names] == ["reverse", now]
    assert desk.invoice(waiting)["customer_address"]["country"] == "FR"
    for kind, value in (("eu_vat", "FR1"), ("gb_vat", "DE123456789"), ("us_ein", "12-3456789"), ("vat", "1")):
        with pytest.raises(StripeError):
            desk.post(f"/v1/customers/{customer}/tax_ids", type=kind, value=value)


# Taxes put on by hand ------------------------------------------------------------------------------------------------


def test_taxes_and_metadata_are_put_on_in_one_call_and_equal_rates_are_one() -> None:
    desk = Desk()
    customer = desk.customer()
    first, second = desk.draft(customer, 1000), desk.draft(customer, 2000)
    desk.types()
    for invoice, amount in ((first, 65), (second, 130)):
        line = desk.invoice(invoice)["lines"]["data"][0]["id"]
        lines = [{"id": line, "tax_amounts": amounts(amount)}]
        desk.post(f"/v1/invoices/{invoice}/update_lines", lines=lines, invoice_metadata={"tax": "ours"})
    events = [event for event in desk.heard if event["type"] == "invoice.updated"]
    assert [event["data"]["object"]["metadata"] for event in events] == [{"tax": "ours"}] * 2
    assert [desk.invoice(each)["total"] for each in (first, second)] == [1065, 2130]
    used = {desk.invoice(each)["total_taxes"][0]["tax_rate_details"]["tax_rate"] for each in (first, second)}
    assert len(used) == 1
    line = desk.invoice(second)["lines"]["data"][0]["id"]
    other = amounts(130, jurisdiction="Seattle")
    desk.post(f"/v1/invoices/{second}/update_lines", lines=[{"id": line, "tax_amounts": other}])
    assert desk.invoice(second)["total_taxes"][0]["tax_rate_details"]["tax_rate"] not in used
    cleared = desk.post(f"/v1/invoices/{second}/update_lines", lines=[{"id": line, "tax_amounts": ""}])
    assert (cleared["total"], cleared["total_taxes"]) == (2000, [])


def _default_rates(desk: Desk, customer: str) -> str:
    made = desk.post("/v1/tax_rates", display_name="T", percentage="5", inclusive=False)["id"]
    return desk.draft(customer, 1000, default_tax_rates=[made])


def _rate_on_another_line(desk: Desk, customer: str) -> str:
    made = desk.post("/v1/tax_rates", display_name="T", percentage="5", inclusive=False)["id"]
    invoice = desk.draft(customer, 1000)
    desk.post("/v1/invoiceitems", customer=customer, invoice=invoice, amount=5, tax_rates=[made])
    return invoice


def _finalised(desk: Desk, customer: str) -> str:
    invoice = desk.draft(customer, 1000)
    desk.post(f"/v1/invoices/{invoice}/finalize")
    return invoice


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (_default_rates, amounts(65), "tax rates"),
        (_rate_on_another_line, amounts(65), "tax rates"),
        (_finalised, amounts(65), "no longer editable"),
        (lambda desk, customer: desk.draft(customer, 1000), amounts(*[1] * 21), "at most 20"),
        (lambda desk, customer: desk.draft(customer, 1000), amounts(65, percentage="6.12345"), "4 decimal"),
        (lambda desk, customer: desk.draft(customer, 1000), [{"amount": 65}], "Missing required"),
        (lambda desk, _: desk.draft(desk.customer(), 10_000, "kwd"), amounts(655), "must end in 0"),
    ],
)
def test_taxes_by_hand_are_refused(make: Callable[[Desk, str], str], given: list[dict[str, Any]], message: str) -> None:
    desk = Desk()
    invoice = make(desk, desk.customer())
    before = desk.invoice(invoice)
    lines = [{"id": before["lines"]["data"][0]["id"], "tax_amounts": given}]
    with pytest.raises(StripeError, match=message):
        desk.post(f"/v1/invoices/{invoice}/update_lines", lines=lines)
    assert desk.invoice(invoice) == before


# The customer's balance ----------------------------------------------------------------------------------------------


def test_credit_pays_the_next_invoice_and_comes_back_when_that_is_voided() -> None:
    desk = Desk()
    customer = desk.customer()
    credit = desk.draft(customer, -900)
    desk.post(f"/v1/invoices/{credit}/finalize")
    assert [desk.invoice(credit)[name] for name in ("status", "total", "ending_balance")] == ["paid", -900, -900]
    invoice = desk.draft(customer, 1500)
    desk.post(f"/v1/invoices/{invoice}/finalize")
    shown = desk.invoice(invoice)
    assert [shown[n] for n in ("starting_balance", "ending_balance", "total", "amount_due")] == [-900, 0, 1500, 600]
    assert desk.get(f"/v1/customers/{customer}")["balance"] == 0
    desk.types()
    desk.post(f"/v1/invoices/{invoice}/void")
    assert desk.types() == ["payment_intent.canceled", "invoice.updated", "invoice.voided", "customer.updated"]
    assert desk.get(f"/v1/customers/{customer}")["balance"] == -900
    whole = desk.draft(customer, 400)
    desk.post(f"/v1/invoices/{whole}/finalize")
    shown = desk.invoice(whole)
    assert [shown[n] for n in ("status", "ending_balance", "amount_due", "amount_paid")] == ["paid", -500, 0, 0]
    assert shown["payments"]["data"] == []
    paid = desk.draft(customer, 2000)
    desk.post(f"/v1/invoices/{paid}/pay")  # 1500 by charge, 500 from the balance
    note = desk.post("/v1/credit_notes", invoice=paid, amount=300, credit_amount=300)
    assert desk.get(f"/v1/customers/{customer}")["balance"] == -300
    desk.post(f"/v1/customers/{customer}/balance_transactions", amount=-50, currency="usd", description="Sorry")
    changes = desk.get(f"/v1/customers/{customer}/balance_transactions")["data"]
    assert [(each["type"], each["amount"], each["ending_balance"]) for each in changes] == [
        ("adjustment", -50, -350),
        ("credit_note", -300, -300),
        ("applied_to_invoice", 500, 0),
        ("applied_to_invoice", 400, -500),
        ("unapplied_from_invoice", -900, -900),
        ("applied_to_invoice", 900, 0),
        ("applied_to_invoice", -900, -900),
    ]
    assert changes[1]["id"] == note["customer_balance_transaction"]
    assert desk.get(f"/v1/customers/{customer}/balance_transactions/{changes[1]['id']}")["credit_note"] == note["id"]
    assert desk.get(f"/v1/customers/{customer}/balance_transactions", invoice=paid)["data"] == [changes[2]]


# Several payments ----------------------------------------------------------------------------------------------------


def test_an_invoice_paid_in_three_parts_stays_open_until_the_last() -> None:
    desk = Desk()
    invoice = desk.open(10_000)
    customer = desk.invoice(invoice)["customer"]
    intent = desk.post("/v1/payment_intents", customer=customer, amount=4_000, currency="usd")["id"]
    desk.post(f"/v1/invoices/{invoice}/attach_payment", payment_intent=intent)
    assert desk.types() == ["payment_intent.created"]
    desk.post(f"/v1/payment_intents/{intent}/confirm")
    part = ["charge.succeeded", "payment_intent.succeeded", "invoice_payment.paid", "invoice.updated"]
    assert desk.types() == part
    shown = desk.invoice(invoice)
    assert [shown[n] for n in ("status", "amount_paid", "amount_remaining")] == ["open", 4_000, 6_000]
    assert [(p["is_default"], p["status"], p["amount_requested"]) for p in shown["payments"]["data"]] == [
        (False, "paid", 4_000),
        (True, "open", 6_000),
    ]
    record = desk.post(
        "/v1/payment_records/report_payment", amount_requested={"value": 1_000, "currency": "usd"},
        initiated_at=START, outcome="guaranteed", guaranteed={"guaranteed_at": START},
        payment_method_details={"type": "custom", "custom": {"display_name": "Bank transfer"}},
    )["id"]  # fmt: skip
    desk.post(f"/v1/invoices/{invoice}/attach_payment", payment_record=record)
    assert desk.types() == ["invoice_payment.paid", "invoice.updated"]
    assert desk.invoice(invoice)["amount_paid_off_stripe"] == 1_000
    desk.post(f"/v1/invoices/{invoice}/pay")  # the default payment takes the 5,000 that remain
    assert desk.types() == [*part, "invoice.paid", "invoice.payment_succeeded"]
    shown = desk.invoice(invoice)
    assert [shown[n] for n in ("status", "amount_paid", "amount_remaining")] == ["paid", 10_000, 0]
    paid = [(p["payment"]["type"], p["amount_paid"], p["status"]) for p in shown["payments"]["data"]]
    assert paid == [
        ("payment_record", 1_000, "paid"),
        ("payment_intent", 4_000, "paid"),
        ("payment_intent", 5_000, "paid"),
    ]
    by_intent = desk.get("/v1/invoice_payments", payment={"type": "payment_intent", "payment_intent": intent})["data"]
    assert [(p["invoice"], p["amount_paid"]) for p in by_intent] == [(invoice, 4_000)]
    by_record = desk.get("/v1/invoice_payments", payment={"type": "payment_record", "payment_record": record})["data"]
    assert [(p["invoice"], p["amount_paid"]) for p in by_record] == [(invoice, 1_000)]
    for back in (4_500, 3_000):  # each from the newest charge that is large enough
        desk.post("/v1/credit_notes", invoice=invoice, amount=back, refund_amount=back)
    charges = desk.get("/v1/charges", customer=customer)["data"]
    assert [(c["amount"], c["amount_refunded"]) for c in charges] == [(5_000, 4_500), (4_000, 3_000)]


def test_the_last_part_from_outside_gives_up_the_default_payment() -> None:
    desk = Desk()
    invoice = desk.open(10_000, "jpy")
    customer = desk.invoice(invoice)["customer"]
    params = {"customer": customer, "amount": 2_500, "currency": "jpy", "confirm": True}
    desk.post(f"/v1/invoices/{invoice}/attach_payment", payment_intent=desk.post("/v1/payment_intents", **params)["id"])
    desk.types()
    desk.post(f"/v1/invoices/{invoice}/pay", paid_out_of_band=True)
    assert desk.types() == ["payment_intent.canceled", "invoice_payment.paid", "invoice.updated", "invoice.paid"]
    shown = desk.invoice(invoice)
    assert [shown[n] for n in ("status", "amount_paid", "amount_paid_off_stripe")] == ["paid", 10_000, 7_500]
    record = next(p["payment"]["payment_record"] for p in shown["payments"]["data"] if "payment_record" in p["payment"])
    assert desk.get(f"/v1/payment_records/{record}")["amount_guaranteed"] == {"currency": "jpy", "value": 7_500}
    note = desk.post("/v1/credit_notes", invoice=invoice, amount=2_000, refund_amount=2_000)
    assert note["refunds"][0]["amount_refunded"] == 2_000


def test_payments_that_do_not_fit_are_refused() -> None:
    desk = Desk()
    invoice = desk.open(10_000)
    customer = desk.invoice(invoice)["customer"]

    def intent(payer: str = customer, amount: int = 100, currency: str = "usd") -> str:
        return str(desk.post("/v1/payment_intents", customer=payer, amount=amount, currency=currency)["id"])

    attached = intent()
    desk.post(f"/v1/invoices/{invoice}/attach_payment", payment_intent=attached)
    for refused, message in (
        ({}, "exactly one"),
        ({"payment_intent": attached}, "already attached"),
        ({"payment_intent": intent(desk.customer())}, "another customer"),
        ({"payment_intent": intent(currency="eur")}, "is in usd"),
        ({"payment_intent": intent(amount=10_001)}, "greater than what remains"),
        ({"payment_record": "pr_no"}, "No such payment record"),
    ):
        with pytest.raises(StripeError, match=message):
            desk.post(f"/v1/invoices/{invoice}/attach_payment", **refused)
    with pytest.raises(StripeError, match="open invoices"):
        desk.post(f"/v1/invoices/{desk.draft(customer, 500)}/attach_payment", payment_intent=intent())
    desk.sim.set_payment(customer, "fails")
    product = desk.post("/v1/products", name="Seats")["id"]
    terms = {"product": product, "currency": "usd", "unit_amount": 900, "recurring": {"interval": "month"}}
    items = [{"price": desk.post("/v1/prices", **terms)["id"]}]
    charged = desk.post("/v1/subscriptions", customer=customer, items=items)["latest_invoice"]
    with pytest.raises(StripeError, match="charged automatically"):
        desk.post(f"/v1/invoices/{charged}/attach_payment", payment_intent=intent())
    with pytest.raises(StripeError) as declined:
        desk.post(f"/v1/payment_intents/{attached}/confirm")
    assert declined.value.status == 402
    assert desk.invoice(invoice)["amount_paid"] == 0
    with pytest.raises(StripeError, match="not model"):
        desk.post("/v1/payment_intents", amount=100, currency="usd")


def test_an_attached_payment_keeps_an_invoice_from_being_given_up() -> None:
    desk = Desk()
    invoice = desk.open(10_000)
    params = {"customer": desk.invoice(invoice)["customer"], "amount": 400, "currency": "usd"}
    first, second = (desk.post("/v1/payment_intents", **params)["id"] for _ in range(2))
    desk.post(f"/v1/invoices/{invoice}/attach_payment", payment_intent=first)
    for way in ("void", "mark_uncollectible"):
        with pytest.raises(StripeError, match="open"):
            desk.post(f"/v1/invoices/{invoice}/{way}")
    desk.types()
    desk.post(f"/v1/payment_intents/{first}/cancel")
    assert desk.types() == ["payment_intent.canceled"]
    own, given_up = sorted(desk.invoice(invoice)["payments"]["data"], key=lambda p: p["is_default"], reverse=True)
    assert (own["status"], given_up["status"]) == ("open", "canceled")
    with pytest.raises(StripeError, match="own"):
        desk.post(f"/v1/payment_intents/{own['payment']['payment_intent']}/cancel")
    desk.post(f"/v1/invoices/{invoice}/attach_payment", payment_intent=second)
    desk.post(f"/v1/payment_intents/{second}/confirm")
    with pytest.raises(StripeError, match="paid payments"):
        desk.post(f"/v1/invoices/{invoice}/void")
    desk.post(f"/v1/invoices/{invoice}/mark_uncollectible")
    assert desk.invoice(invoice)["amount_remaining"] == 9_600


def test_a_written_off_invoice_can_still_be_paid() -> None:
    desk = Desk()
    invoice = desk.open(12_340, "kwd")
    desk.post(f"/v1/invoices/{invoice}/mark_uncollectible")
    desk.types()
    desk.post(f"/v1/invoices/{invoice}/pay")
    assert desk.types()[-2:] == ["invoice.paid", "invoice.payment_succeeded"]
    shown = desk.invoice(invoice)
    assert (shown["status"], shown["amount_paid"]) == ("paid", 12_340)
    assert shown["status_transitions"]["marked_uncollectible_at"] == START
