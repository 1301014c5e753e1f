"""What becomes of a document whose date lies in a closed accounting period: `HUB_NETSUITE_CLOSED_PERIOD`.

    hold          a dead letter; finance opens the period, or decides on another policy
    next_period   the date stays, the posting period is the next open one (NetSuite wants the accounting preference
                  "Allow Transaction Date Outside of the Posting Period" for that)
    redate        the date becomes the first day of the next open period

NetSuite decides whether a period is closed, by refusing. Only with that preference it does not refuse but takes a
period by another one ("Default Posting Period When Transaction Date in Closed Period"), so for `next_period` the open
period of a month is asked for before, and remembered for a minute. A record that was booked in a period closed
since is refused under every policy, for its old period counts too: it is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from connectors.netsuite.wire import loads
from hub.errors import Reject

Policy = Literal["hold", "next_period", "redate"]
REFUSED = "PERIOD_CLOSED"
"""The code of the rule in `errors` that this acts on."""
REMEMBERED = 60.0
"""Seconds for which the open period of a month is taken as known."""
SUITEQL = "/query/v1/suiteql"
HEADERS = {"Prefer": "transient"}
FIELDS = ("tranDate", "postingPeriod")
_QUERY = (
    "SELECT id, periodname, TO_CHAR(startdate, 'YYYY-MM-DD') AS startdate FROM accountingperiod "
    "WHERE isposting = 'T' AND isquarter = 'F' AND isyear = 'F' AND isadjust = 'F' AND closed = 'F' "
    "AND alllocked = 'F' AND arlocked = 'F' AND enddate >= TO_DATE(?, 'YYYY-MM-DD') ORDER BY accountingperiod.startdate"
)
"""Dates by TO_CHAR: as they are, they come in the format the user prefers (NetSuite help, "SuiteQL")."""


@dataclass(frozen=True, slots=True)
class Period:
    """An open accounting period."""

    id: str
    name: str
    first_day: str


def question(day: str) -> dict[str, Any]:
    """The body of a SuiteQL request for the open periods from a day on."""
    return {"q": _QUERY, "params": [day]}


def first(text: str) -> Period | None:
    """The earliest period in the answer."""
    items = loads(text).get("items") or ()
    return next((Period(row["id"], row["periodname"], row["startdate"]) for row in items), None)


def moved(fields: Mapping[str, Any], policy: Policy, period: Period) -> tuple[dict[str, Any], str]:
    """The fields for another period, and what is said of it in the receipt."""
    day = fields["tranDate"]
    if policy == "redate":
        later = max(day, period.first_day)
        return {**fields, "tranDate": later}, f"dated {later} instead of {day}, whose accounting period is closed"
    changed = {**fields, "postingPeriod": {"id": period.id}}
    return changed, f"booked in period {period.name}: that of {day} is closed"


def held(reject: Reject, fields: Mapping[str, Any], policy: Policy, period: Period | None) -> Reject:
    """The dead letter, with the months."""
    day = str(fields.get("tranDate", "unknown"))
    month = day[:7]
    following = f"; the next open period is {period.name}" if period else "; no later period is open"
    if policy == "hold":
        fix = (
            f"Finance: reopen {month} (Setup > Accounting > Manage Accounting Periods) and retry; or let the hub book "
            "such documents in the next open period (HUB_NETSUITE_CLOSED_PERIOD=next_period keeps the date, redate "
            "moves it), then retry."
        )
        following = ""
    else:
        fix = (
            f"Finance: open a period from {month} on. If one is open, allow transaction dates outside of the posting "
            "period (Setup > Accounting > Accounting Preferences), or the record was booked in the closed period "
            "before and stays as it is there: skip this delivery with that reason."
        )
    return Reject(reject.code, f"{reject.cause} (date {day}{following})", fix, answer=reject.answer)
