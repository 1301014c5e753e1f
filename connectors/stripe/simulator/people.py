"""Who the simulated business deals with: invented names, `.example` addresses, and a catalogue of what it sells.

Every name and street is invented. Postal codes are real ones, so that a tax engine can place them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from connectors.stripe.simulator.values import Obj

ADDRESSES: tuple[tuple[str, str, str, str | None, str], ...] = (
    ("1 Fictional Way", "Bainbridge Island", "98110", "WA", "US"),
    ("22 Sample Avenue", "Irvine", "92612", "CA", "US"),
    ("333 Placeholder Street", "Philadelphia", "19147", "PA", "US"),
    ("4 Invented Plaza", "New York", "10001", "NY", "US"),
    ("5 Made-up Lane", "London", "EC1A 1BB", None, "GB"),
    ("Musterstraße 6", "Berlin", "10115", None, "DE"),
    ("7 rue Imaginaire", "Paris", "75001", None, "FR"),
    ("8 Example-cho", "Tokyo", "100-0001", None, "JP"),
    ("Block 9, Sample Street", "Kuwait City", "13001", None, "KW"),
)
"""line1, city, postal code, state, country."""

_FIRST = ("Ada", "Björn", "Chloé", "Dmitri", "Eun-ji", "Fatima", "Giulia", "Hiro", "Inés", "João", "Kofi", "Łucja")
_LAST = ("Fictional", "Example", "Placeholder", "Sample", "Invented", "Imaginary", "Notreal", "Pretend")
_TRADE = ("Bakery", "Robotics", "Analytics", "Freight", "Gardens", "Studios", "Dental", "Foundry", "Travel", "Optics")

CURRENCIES = {"US": "usd", "GB": "usd", "DE": "eur", "FR": "eur", "JP": "jpy", "KW": "kwd"}
TAXES: dict[str, tuple[tuple[str, str, bool, str | None, str], ...]] = {
    "WA": (
        ("Sales tax", "6.5", False, "WA", "Washington"),
        ("Local sales tax", "2.7", False, "WA", "Bainbridge Island"),
    ),
    "CA": (("Sales tax", "7.75", False, "CA", "California"),),
    "PA": (("Sales tax", "6", False, "PA", "Pennsylvania"), ("City tax", "2", False, "PA", "Philadelphia")),
    "NY": (("Sales tax", "8.875", False, "NY", "New York"),),
    "GB": (("VAT", "20", True, None, "United Kingdom"),),
    "DE": (("USt", "19", True, None, "Germany"),),
    "FR": (("TVA", "20", False, None, "France"),),
    "JP": (("JCT", "10", True, None, "Japan"),),
    "KW": (),
}
"""State or country -> display name, percentage, inclusive, state, jurisdiction. Test rates, not advice."""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone about to sign up."""

    name: str
    email: str
    address: Obj
    currency: str
    place: str
    """Key into `TAXES`."""


def person(rng: random.Random, number: int) -> Person:
    """The `number`-th customer; names repeat now and then, addresses often, e-mail addresses never."""
    line1, city, postal_code, state, country = rng.choice(ADDRESSES)
    first, last, trade = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_TRADE)
    name = f"{last} {trade}" if rng.random() < 0.6 else f"{first} {last}"
    address: Obj = {"line1": line1, "city": city, "postal_code": postal_code, "country": country}
    if state:
        address["state"] = state
    return Person(name, f"customer{number}@{trade.lower()}.example", address, CURRENCIES[country], state or country)


UNITS = {"usd": 1, "eur": 1, "jpy": 1, "kwd": 3}
"""What a price of 1.00 is worth in minor units, as a multiple of 100 (jpy 100 yen, kwd 0.300 dinar)."""


def scaled(amount: int, currency: str) -> int:
    """A price given in cents, in a currency's minor units; dinars end in 0."""
    value = amount * UNITS[currency]
    return value - value % 10 if currency == "kwd" else value
