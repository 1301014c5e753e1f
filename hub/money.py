"""Minor units to major units and back, exactly. Stripe counts in minor units; people and ledgers read major units.

The exponent is Stripe's own (docs.stripe.com/currencies), which is not always ISO 4217's. A currency that is not in the
table is refused: a guess would be wrong by a factor of a hundred.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

_ZERO: Final = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_TWO: Final = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD "
    "KES KGS KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD "
    "PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD SSP STN SZL THB TJS TOP TRY TTD TWD "
    "TZS UAH UGX USD UYU UZS WST XCD YER ZAR ZMW"
)
_THREE: Final = "BHD JOD KWD OMR TND"

EXPONENTS: Final[dict[str, int]] = {
    **dict.fromkeys(_ZERO.split(), 0),
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_THREE.split(), 3),
}
"""Currency -> number of decimal places of the amounts Stripe sends.

Special cases, not verified against a live account: ISK and UGX have no minor unit any more, but Stripe keeps sending
them with two places that are always 00 (so they stand under two places here). HUF and TWD have two places on invoices
and charges; only payouts, which are not converted here, treat them as zero-decimal. Stripe wants the last of the three
places of BHD, JOD, KWD, OMR and TND to be 0 when it charges; that is its check, not ours.
"""


_EXACT: Final = Context(prec=5000)
"""The default context would round to 28 digits."""


class CurrencyError(ValueError):
    """The currency is not one we know, or the amount has more places than the currency."""


def exponent(currency: str) -> int:
    """Decimal places of a currency's minor unit, e.g. `usd` -> 2. Upper or lower case. Raises `CurrencyError`."""
    try:
        return EXPONENTS[currency.upper()]
    except (KeyError, AttributeError):
        raise CurrencyError(
            f"currency {currency!r} is not in the table of hub/money.py, so its minor unit is unknown"
        ) from None


def to_major(minor: int | Decimal, currency: str) -> Decimal:
    """Minor units to major units: `to_major(1050, "usd")` is `Decimal("10.50")`, and `Decimal("1050")` in `"jpy"`.

    A `Decimal` is taken for unit amounts below one minor unit (`unit_amount_decimal`); nothing is ever rounded.
    Raises `CurrencyError` for an unknown currency, `TypeError` for float, bool or anything else.
    """
    if type(minor) is not int and not isinstance(minor, Decimal):
        raise TypeError(f"an amount in minor units is a whole number or a Decimal, not {type(minor).__name__}")
    amount = Decimal(minor)
    if not amount.is_finite():
        raise TypeError("an amount in minor units is a number, not NaN or infinite")
    return amount.scaleb(-exponent(currency), _EXACT)


def to_minor(major: Decimal | int, currency: str) -> int:
    """Major units to minor units: `to_minor(Decimal("10.50"), "usd")` is 1050.

    Raises `CurrencyError` when the currency is unknown or the amount has more places than the currency: never rounds.
    `TypeError` for float, bool or anything else.
    """
    if type(major) is not int and not isinstance(major, Decimal):
        raise TypeError(f"an amount in major units is a Decimal or a whole number, not {type(major).__name__}")
    amount = Decimal(major)
    if not amount.is_finite():
        raise TypeError("an amount in major units is a number, not NaN or infinite")
    places = exponent(currency)
    minor = amount.scaleb(places, _EXACT)
    whole = int(minor)
    if whole != minor:
        raise CurrencyError(f"{major} has more decimal places than {currency.upper()}, which has {places}")
    return whole
