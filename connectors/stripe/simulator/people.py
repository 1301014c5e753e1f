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

_KINDS = {1: "JP", 2: "KW", 4: "DE FR reverse", 5: "US engine", 7: "US exempt", 9: "US GB DE FR engine"}
"""Customer number modulo 11 -> where he lives, and how he is taxed."""
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
    taxed: bool
    """Whether the business charges its own tax rates; if not, that is left to a tax engine (or nobody)."""
    tax_exempt: str = "none"
    vat_id: str | None = None


@dataclass(slots=True)
class Account:
    """A customer in mid-life."""

    id: str
    who: Person
    role: str
    product: str
    method: str
    """Collection method."""
    subscription: str = ""


def person(rng: random.Random, number: int) -> Person:
    """The `number`-th customer; names repeat now and then, addresses often, e-mail addresses never. Of eleven, one is
    in Japan and one in Kuwait for certain, one is a business elsewhere in the European Union that owes the tax itself,
    one is exempt, and two in taxable places are left to the tax engine."""
    kind = _KINDS.get(number % 11, "")
    places = [address for address in ADDRESSES if address[4] in kind.split()] or list(ADDRESSES)
    line1, city, postal_code, state, country = rng.choice(places)
    first, last, trade = rng.choice(_FIRST), rng.choice(_LAST), rng.choice(_TRADE)
    name = f"{last} {trade}" if rng.random() < 0.6 else f"{first} {last}"
    address: Obj = {"line1": line1, "city": city, "postal_code": postal_code, "country": country}
    if state:
        address["state"] = state
    mail = f"customer{number}@{trade.lower()}.example"
    reverse, exempt, engine = "reverse" in kind, "exempt" in kind, "engine" in kind
    digits = f"{rng.randrange(10**9):09d}"
    return Person(
        name,
        mail,
        address,
        CURRENCIES[country],
        state or country,
        taxed=not engine,
        tax_exempt="reverse" if reverse else "exempt" if exempt else "none",
        vat_id=f"{country}{'' if country == 'DE' else '40'}{digits}" if reverse else None,
    )


UNITS = {"usd": 1, "eur": 1, "jpy": 1, "kwd": 3}
"""What a price of 1.00 is worth in minor units, as a multiple of 100 (jpy 100 yen, kwd 0.300 dinar)."""


def scaled(amount: int, currency: str) -> int:
    """A price given in cents, in a currency's minor units; dinars end in 0."""
    value = amount * UNITS[currency]
    return value - value % 10 if currency == "kwd" else value
