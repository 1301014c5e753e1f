from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.money import EXPONENTS, CurrencyError, exponent, to_major, to_minor


@pytest.mark.parametrize(
    ("minor", "currency", "major"),
    [
        (1050, "usd", "10.50"),
        (1050, "USD", "10.50"),
        (-5, "eur", "-0.05"),
        (0, "gbp", "0.00"),
        (1050, "jpy", "1050"),
        (1050, "kwd", "1.050"),
        (1000, "isk", "10.00"),
        (1000, "ugx", "10.00"),
        (Decimal("12.5"), "usd", "0.125"),
    ],
)
def test_major(minor: int | Decimal, currency: str, major: str) -> None:
    assert str(to_major(minor, currency)) == major


def test_the_table_holds_stripes_lists() -> None:
    expected = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
    zero = " ".join(sorted(c for c, e in EXPONENTS.items() if e == 0))
    three = {c for c, e in EXPONENTS.items() if e == 3}
    assert zero == expected
    assert three == {"BHD", "JOD", "KWD", "OMR", "TND"}
    assert all(len(c) == 3 and c.isupper() for c in EXPONENTS)


def test_an_unknown_currency_is_named_not_guessed() -> None:
    for convert in (lambda: to_major(1, "xyz"), lambda: to_minor(Decimal(1), "xyz"), lambda: exponent("")):
        with pytest.raises(CurrencyError, match=r"'(xyz)?'"):
            convert()


@pytest.mark.parametrize("amount", [1.0, True, "1", None, Decimal("NaN"), Decimal("Infinity")])
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(TypeError):
        to_major(amount, "usd")
    with pytest.raises(TypeError):
        to_minor(amount, "usd")


@pytest.mark.parametrize(("major", "currency"), [("10.505", "usd"), ("0.5", "jpy"), ("0.0001", "kwd")])
def test_more_places_than_the_currency_has(major: str, currency: str) -> None:
    with pytest.raises(CurrencyError, match=currency.upper()):
        to_minor(Decimal(major), currency)


@given(st.integers(-(10**40), 10**40), st.sampled_from(sorted(EXPONENTS)))
def test_there_and_back(minor: int, currency: str) -> None:
    major = to_major(minor, currency)
    assert to_minor(major, currency) == minor
    assert Fraction(major) * 10 ** EXPONENTS[currency] == minor
