"""From AvaTax's answer to Stripe's tax amounts: rounding, many taxes, what does not add up. Figures by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from connectors.avalara.amounts import tax_amounts
from hub.errors import OutcomeError, Reject
from hub.mapping.returned import returned

D = Decimal


def detail(name: str, rate: str, tax: str, taxable: str, **more: Any) -> dict[str, Any]:
    return {
        "country": "US", "region": "WA", "jurisName": name, "jurisdictionType": "State", "taxType": "Sales",
        "taxName": f"{name} TAX", "rateType": "General", "unitOfBasis": "PerCurrencyUnit", "isFee": False,
        "rate": D(rate), "tax": D(tax), "taxableAmount": D(taxable), "exemptAmount": D(0), "nonTaxableAmount": D(0),
        **more,
    }  # fmt: skip


def line(number: str, amount: str, *details: dict[str, Any]) -> dict[str, Any]:
    tax = sum((d["tax"] for d in details), D(0))
    return {"lineNumber": number, "lineAmount": D(amount), "tax": tax, "details": list(details)}


def document(*lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "totalAmount": sum((one["lineAmount"] for one in lines), D(0)),
        "totalTax": sum((one["tax"] for one in lines), D(0)),
        "lines": list(lines),
        **more,
    }


def fields(unit: str, *lines: tuple[str, str], reason: str | None = None, included: bool = False) -> dict[str, Any]:
    asked = [{"number": n, "amount": D(a), **({"taxIncluded": True} if included else {})} for n, a in lines]
    return {"stripe": {"unit": D(unit), **({"reason": reason} if reason else {})}, "lines": asked}


def amounts(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[int]]:
    return {number: [entry["amount"] for entry in entries] for number, entries in found.items()}


def test_cents_are_taken_as_they_are_with_all_that_stripe_shows_of_a_tax() -> None:
    found = tax_amounts(
        fields("0.01", ("il_1", "100.00")),
        document(line("il_1", "100.00", detail("NEW YORK", "0.04", "4.00", "100.00"),
                      detail("MCTD", "0.00375", "0.38", "100.00", jurisdictionType="Special"))),
    )  # fmt: skip
    assert found == {
        "il_1": [
            {"amount": 400, "taxable_amount": 10000, "taxability_reason": "standard_rated",
             "tax_rate_data": {"display_name": "NEW YORK TAX", "percentage": D("4"), "jurisdiction": "NEW YORK",
                               "jurisdiction_level": "state", "country": "US", "state": "WA",
                               "tax_type": "sales_tax", "inclusive": False}},
            {"amount": 38, "taxable_amount": 10000, "taxability_reason": "standard_rated",
             "tax_rate_data": {"display_name": "MCTD TAX", "percentage": D("0.375"), "jurisdiction": "MCTD",
                               "jurisdiction_level": "district", "country": "US", "state": "WA",
                               "tax_type": "sales_tax", "inclusive": False}},
        ]
    }  # fmt: skip


def test_yen_are_whole_and_rounded_once_over_the_document() -> None:
    """10 % of 104, 104 and 107 yen: 10.40 + 10.40 + 10.70 = 31.50 -> 32. Each line alone would give 10 + 10 + 11 = 31.

    Down: 10, 10, 10 = 30; two units are left, for the largest remainders: .70 and, of the two .40, the first.
    """
    said = [detail("JAPAN", "0.10", tax, base, country="JP") for tax, base in
            (("10.40", "104"), ("10.40", "104"), ("10.70", "107"))]  # fmt: skip
    found = tax_amounts(
        fields("1", ("il_1", "104"), ("il_2", "104"), ("il_3", "107")),
        document(line("il_1", "104", said[0]), line("il_2", "104", said[1]), line("il_3", "107", said[2])),
    )
    assert amounts(found) == {"il_1": [11], "il_2": [10], "il_3": [11]}
    assert found["il_3"][0]["taxable_amount"] == 107
    back = tax_amounts(  # a credit of the same: -10.50 -> -11
        fields("1", ("il_1", "-105")), document(line("il_1", "-105", detail("JAPAN", "0.1", "-10.50", "-105")))
    )
    assert amounts(back) == {"il_1": [-11]}


def test_dinars_end_in_zero() -> None:
    """5 % of 12.340 is 0.617, which AvaTax answers as 0.62: 620 fils."""
    found = tax_amounts(
        fields("0.001", ("il_1", "12.340")),
        document(line("il_1", "12.340", detail("KUWAIT", "0.05", "0.62", "12.34", country="KW"))),
    )
    assert amounts(found) == {"il_1": [620]}
    assert found["il_1"][0]["taxable_amount"] == 12340


def test_of_more_than_twenty_taxes_the_smallest_are_shown_as_one_and_no_cent_is_lost() -> None:
    """Taxes of 0.01, 0.02, ... 0.23 on one line are 2.76 together. The 19 largest, 0.05 to 0.23, stay (2.66); the
    four smallest are 0.01 + 0.02 + 0.03 + 0.04 = 0.10, at 0.1 + 0.2 + 0.3 + 0.4 = 1 %."""
    many = [detail(f"PLACE {n}", f"0.{n:03d}", f"{n / 100:.2f}", "10.00") for n in range(1, 24)]
    found = tax_amounts(fields("0.01", ("il_1", "10.00")), document(line("il_1", "10.00", *many)))["il_1"]
    assert [entry["amount"] for entry in found] == [*range(5, 24), 10]
    assert found[-1]["tax_rate_data"] == {
        "display_name": "Other taxes (4)", "percentage": D("1.000"), "jurisdiction_level": "multiple",
        "inclusive": False,
    }  # fmt: skip


def test_a_price_with_tax_inside_is_written_as_such() -> None:
    """Of 10.00 with 8 %: 9.26 + 0.74."""
    answer = document(line("il_1", "9.26", detail("PA", "0.08", "0.74", "9.26")))
    (entry,) = tax_amounts(fields("0.01", ("il_1", "10.00"), included=True), answer)["il_1"]
    assert (entry["amount"], entry["taxable_amount"], entry["tax_rate_data"]["inclusive"]) == (74, 926, True)


@pytest.mark.parametrize(
    ("given", "more", "wanted"),
    [
        ("reverse_charge", {"rateType": "Zero"}, "reverse_charge"),
        (None, {"rateType": "Zero", "taxableAmount": D("5")}, "zero_rated"),
        (None, {"exemptAmount": D("5")}, "customer_exempt"),
        (None, {"nonTaxableAmount": D("5")}, "product_exempt"),
        (None, {"rateType": "Fantasy", "taxableAmount": D("5")}, None),
    ],
)
def test_why_there_is_no_tax_is_said_where_it_is_known(given: str | None, more: dict[str, Any], wanted: str) -> None:
    answer = document(line("il_1", "5.00", detail("X", "0.2", "0.00", "0.00", **more)))
    (entry,) = tax_amounts(fields("0.01", ("il_1", "5.00"), reason=given), answer)["il_1"]
    assert (entry["amount"], entry.get("taxability_reason")) == (0, wanted)


def test_a_line_without_taxes_has_its_old_ones_taken_off() -> None:
    assert tax_amounts(fields("0.01", ("il_1", "5.00")), document(line("il_1", "5.00"))) == {"il_1": []}


def broken(name: str) -> tuple[dict[str, Any], str]:
    """An answer for one line of 100.00 with 6.50 and 2.50, spoiled; and what the arithmetic then says."""
    good = document(line("il_1", "100.00", detail("A", "0.065", "6.50", "100"), detail("B", "0.025", "2.50", "100")))
    match name:
        case "a cent lost in the details":
            good["lines"][0]["details"][1]["tax"] = D("2.49")
            return good, "6.50 + 2.49 = 8.99 are not its tax 9.00"
        case "another total tax":
            return good | {"totalTax": D("9.01")}, "9.00 = 9.00, but totalTax is 9.01"
        case "another amount":
            good["lines"][0]["lineAmount"] = D("99.00")
            return good, "AvaTax took 99.00 for the amount, which is 100.00"
        case "another total amount":
            return good | {"totalAmount": D("100.01")}, "100.00 = 100.00, but totalAmount is 100.01"
    return good | {"lines": []}, "answered 0 lines to 1"


@pytest.mark.parametrize(
    "name", ["a cent lost in the details", "another total tax", "another amount", "another total amount", "no lines"]
)
def test_what_does_not_add_up_does_not_leave(name: str) -> None:
    answer, arithmetic = broken(name)
    with pytest.raises(OutcomeError) as caught:
        tax_amounts(fields("0.01", ("il_1", "100.00")), answer)
    outcome = caught.value.outcome
    assert isinstance(outcome, Reject)
    assert outcome.code == "does_not_add_up"
    assert arithmetic in outcome.cause


def test_an_inclusive_price_must_come_back_whole() -> None:
    answer = document(line("il_1", "9.26", detail("PA", "0.08", "0.75", "9.26")))
    with pytest.raises(OutcomeError, match=r"net 9.26 \+ tax 0.75 = 10.01, but the price with tax is 10.00"):
        tax_amounts(fields("0.01", ("il_1", "10.00"), included=True), answer)


def test_tax_on_shipping_cannot_be_put_on_a_line_and_says_so() -> None:
    answer = document(line("il_1", "5.00"), line("shipping", "5.00", detail("A", "0.1", "0.50", "5")))
    with pytest.raises(OutcomeError) as caught:
        tax_amounts(fields("0.01", ("il_1", "5.00"), ("shipping", "5.00")), answer)
    assert isinstance(caught.value.outcome, Reject)
    assert caught.value.outcome.code == "shipping_taxed"
    free = document(line("il_1", "5.00"), line("shipping", "5.00"))
    assert tax_amounts(fields("0.01", ("il_1", "5.00"), ("shipping", "5.00")), free) == {"il_1": []}


# What an amount given back takes back of each line -------------------------------------------------------------------


def sold(currency: str, *lines: tuple[int, int], **more: Any) -> dict[str, Any]:
    """An invoice of lines (amount, tax on top)."""
    data = [
        {"id": f"il_{n}", "amount": amount, "taxes": [{"amount": tax, "tax_behavior": "exclusive"}]}
        for n, (amount, tax) in enumerate(lines, 1)
    ]
    return {"currency": currency, "lines": {"data": data}, **more}


def shares(invoice: dict[str, Any], amount: int) -> list[tuple[str, int, int]]:
    return [(row["line"]["id"], row["amount"], row["tax"]) for row in returned(invoice, amount)]


def test_an_amount_given_back_is_spread_to_the_last_unit() -> None:
    """1.00 of three lines of 1.00 and nothing else: 33.33 each; the cent that is left goes to the first.

    1.00 of 10.00 + 1.90 and shipping 5.00 + 0.95, 17.85 in all: 56.02 + 10.64 + 28.01 + 5.32; down 99, and .64
    gets the cent.
    0.500 dinars of 1.000 + 0.050 twice, in tens of fils: 23.81 + 1.19 each; down 48 of 50; the two that are left go to
    the .81: 240 + 10 and 240 + 10.
    """
    assert shares(sold("usd", (100, 0), (100, 0), (100, 0)), 100) == [("il_1", 34, 0), ("il_2", 33, 0), ("il_3", 33, 0)]
    cost = {"amount_subtotal": 500, "amount_tax": 95, "amount_total": 595, "shipping_rate": "shr_1"}
    shipped = sold("usd", (1000, 190), shipping_cost=cost)
    assert shares(shipped, 100) == [("il_1", 56, 11), ("shipping", 28, 5)]
    assert shares(sold("kwd", (1000, 50), (1000, 50)), 500) == [("il_1", 240, 10), ("il_2", 240, 10)]


def test_the_whole_gives_every_line_its_own_also_what_was_a_credit() -> None:
    """75.00 + 6.00 and a proration of -25.00 - 2.00: 54.00."""
    invoice = sold("usd", (7500, 600), (-2500, -200))
    assert shares(invoice, 5400) == [("il_1", 7500, 600), ("il_2", -2500, -200)]
    assert sum(a + t for _, a, t in shares(invoice, 1234)) == 1234
    assert shares(sold("usd", (0, 0)), 100) == [], "of nothing nothing can be given back"
