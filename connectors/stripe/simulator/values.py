"""Small pure things every part of the simulator uses: copying, comparing, calendar months, money rounding.

Amounts are integers in the currency's minor unit. Stripe's rules for minor units: docs.stripe.com/currencies.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeAlias

import orjson

Obj: TypeAlias = dict[str, Any]
"""A Stripe object, exactly as it would be on the wire."""

HOUR = 3600
DAY = 86400
TIMES = "\N{MULTIPLICATION SIGN}"
"""Between quantity and name in Stripe's line descriptions."""
API_PAGE = 10
"""Lines embedded in an invoice or credit note, and the default page of every list."""

_THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})


def copied(value: Any) -> Any:
    """A deep copy that is also proof that the value is plain JSON."""
    return orjson.loads(orjson.dumps(value))


def exponent(currency: str) -> int:
    """How many decimals a currency's minor unit has."""
    return 0 if currency == "jpy" else 3 if currency in _THREE_DECIMALS else 2


def quantum(currency: str) -> int:
    """The smallest step of an amount: three-decimal currencies are counted in thousandths, but the last digit must be
    0."""
    return 10 if currency in _THREE_DECIMALS else 1


def rounded(amount: Decimal, currency: str) -> int:
    """Half up (away from zero), to the currency's smallest step."""
    step = quantum(currency)
    return int((amount / step).quantize(Decimal(1), ROUND_HALF_UP)) * step


def spread(total: int, weights: Sequence[int], currency: str) -> list[int]:
    """Split `total` in proportion to `weights` (same sign), to the last cent, by largest remainder; ties to the
    first."""
    whole = sum(weights)
    if whole == 0:
        return [0 for _ in weights]
    step = quantum(currency)
    steps = total // step
    parts = [steps * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(steps * weights[i] % whole), i))
    for i in by_remainder[: steps - sum(parts)]:
        parts[i] += 1
    result = [part * step for part in parts]
    result[-1] += total - steps * step
    return result


def percent(value: float) -> Decimal:
    """A percentage as the JSON number reads: 8.875 is exactly 8.875."""
    return Decimal(str(value))


def plain(value: Decimal) -> str:
    """A `*_decimal` string: no exponent, no trailing zeros, at most 12 places."""
    text = f"{value.quantize(Decimal('1e-12')).normalize():f}"
    return "0" if text in ("-0", "") else text


def add_interval(start: int, interval: str, count: int) -> int:
    """`count` intervals after `start` (unix seconds, UTC). A month ends on its last day where the anchor's day is
    missing."""
    if interval == "day":
        return start + count * DAY
    if interval == "week":
        return start + count * 7 * DAY
    moment = datetime.fromtimestamp(start, UTC)
    months = moment.year * 12 + moment.month - 1 + count * (12 if interval == "year" else 1)
    year, month = divmod(months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return int(moment.replace(year=year, month=month + 1, day=day).timestamp())


def day_name(moment: int) -> str:
    """As in line descriptions: `05 Mar 2026`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y")


def changes(before: Obj, after: Obj) -> Obj:
    """`previous_attributes`: the old values of what differs; inside objects only the changed keys, arrays whole."""
    old: Obj = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            old[key] = changes(was, now)
        else:
            old[key] = was
    return dict(sorted(old.items()))


def merged(base: Obj, over: Obj) -> Obj:
    """`base` with `over` laid on it, dict by dict; everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
