"""Checks of an account that was read: the role, the fields, the period, tax, the limit. No I/O.

Each check gives findings in words for people of finance: what is wrong, and where it is put right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from connectors.netsuite.document import TAXED
from connectors.netsuite.preflight_account import Account, Place, Row
from connectors.netsuite.preflight_known import known
from connectors.netsuite.preflight_uses import Target, Uses

Verdict = Literal["ok", "wrong", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    cause: str
    """What was found; if all is well, what was looked at."""
    fix: str = ""

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


PERMISSIONS = {
    "customer": "Lists: Customers",
    "invoice": "Transactions: Invoice",
    "creditMemo": "Transactions: Credit Memo",
    "customerPayment": "Transactions: Customer Payment",
    "customerRefund": "Transactions: Customer Refund",
    "deposit": "Transactions: Deposit",
    "journalEntry": "Transactions: Make Journal Entry",
}
ROLE = "Setup > Users/Roles > Manage Roles, the hub's role, Permissions"
SUITETAX = "taxDetailsOverride"
"""A field that invoices have only with the SuiteTax feature (NetSuite help, "Invoice": SuiteTax fields)."""
SUITETAX_FIELDS = re.compile(
    r"(tax(Details|DetailsOverride|RegOverride|Registration)|nexus|defaultTaxReg)(\..*)?|.*\.taxDetailsReference"
)
AVATAX = "custbody_ava_"
AVATAX_OFF = "custbody_ava_disable_tax_calculation"
"""The field with which Avalara's bundle is told to leave a document alone."""
_CUT = re.compile(r"\s*truncate\(.*,\s*`(\d+)`\s*\)\s*", re.DOTALL)
_CUSTOM = re.compile(r"(^|\.)cust(body|entity|col|item|record)")


def access(account: Account, uses: Uses) -> Iterator[Finding]:
    """May the role write what the mappings write? Told by opening one record for editing."""
    good = [r for r in uses.records() if account.access.get(r)]
    for record in uses.records():
        if account.access.get(record) is False:
            permission = PERMISSIONS.get(record, record)
            yield Finding(
                "role", "wrong", f"the hub's role may not edit {record}: all deliveries would wait",
                f"Administrator: {ROLE}: add {permission}, level Full.",
            )  # fmt: skip
        elif (why := account.unread.get(f"role {record}")) is not None:
            yield Finding("role", "cannot tell", f"whether the role may edit {record}: {why}", "Run it again.")
    if good:
        yield Finding("role", "ok", f"may open {', '.join(good)} for editing; create and edit are not told apart")


def fields(account: Account, uses: Uses, mode: str) -> Iterator[Finding]:
    """Does every field and sublist column exist in this account, can it be written, and does the text fit? `mode`:
    `HUB_NETSUITE_TAX`."""
    for record in uses.records():
        check = f"fields of {record}"
        if record not in account.schemas:
            if account.access.get(record) is not False:
                why = account.unread[f"catalogue {record}"]
                yield Finding(check, "cannot tell", f"the metadata catalogue has no {record}: {why}", _feature(record))
            continue
        targets = [t for t in uses.targets if t.record == record]
        found: dict[str, Finding] = {}
        for target in targets:
            place = account.places[record, target.path]
            if place.state == "missing" and mode == "suitetax" and _is_tax(place.part):
                continue  # the check of the tax says it once for all of them
            problem = _problem(check, target, place)
            if problem is not None:
                found.setdefault(problem.cause, problem)
        yield from found.values()
        if not found:
            yield Finding(
                check, "ok", f"all {len({t.path for t in targets})} fields and columns exist and are writable"
            )


def _problem(check: str, target: Target, place: Place) -> Finding | None:
    if place.state == "missing":
        return _missing(check, target, place)
    if place.state == "unclear":
        return Finding(check, "cannot tell", f"the catalogue does not describe {target.name}", "Nothing, or try it.")
    if place.read_only:
        cause = f"NetSuite fills {place.part} of {target.record} itself; {target.file} sends it"
        return Finding(check, "wrong", cause, f"Take the line out of {target.file}.")
    text = known(target.value, {})
    text = text if isinstance(text, str) else ""
    longest, cut = place.schema.get("maxLength"), _CUT.fullmatch(target.text)
    length = int(cut[1]) if cut else len(text)
    if isinstance(longest, int) and length > longest:
        cause = f"{target.name} of {target.record} takes {longest} characters; {target.file} sends up to {length}"
        return Finding(check, "wrong", cause, f"Write truncate(..., `{longest}`) in {target.file}.")
    choices = place.schema.get("enum")
    if isinstance(choices, list) and text and text not in choices:
        cause = f"{target.name} of {target.record} cannot be {text!r}; {target.file} sends it"
        return Finding(check, "wrong", cause, f"One of {', '.join(map(str, choices[:8]))} in {target.file}.")
    return None


def _missing(check: str, target: Target, place: Place) -> Finding:
    cause = f"{target.record} has no {place.part} in this account; {target.file} sends it"
    if place.near:
        return Finding(check, "wrong", f"{cause}. It is spelt {place.near[0]}", f"Correct {target.file}.")
    fix = _feature(target.file)
    if _CUSTOM.search(place.part):
        fix = (
            "Administrator: create the field (Customization > Lists, Records, & Fields) with this id and apply it to "
            f"{target.record}, or take the line out of {target.file}."
        )
    return Finding(check, "wrong", cause, fix)


def _feature(file: str) -> str:
    return f"Administrator: turn the feature on that brings it (Setup > Company > Enable Features), or change {file}."


def _is_tax(part: str) -> bool:
    return SUITETAX_FIELDS.fullmatch(part) is not None


def period(account: Account, today: date, policy: str) -> Iterator[Finding]:
    """Is the period open that today's documents fall into? `policy`: `HUB_NETSUITE_CLOSED_PERIOD`."""
    check, where = "accounting period", "Setup > Accounting > Manage Accounting Periods"
    if not account.rows.get("accountingperiod"):
        why = account.unread.get("accountingperiod", "NetSuite shows none")
        verdict: Verdict = "cannot tell"
        if policy != "hold":
            verdict, why = "wrong", f"{why}, and HUB_NETSUITE_CLOSED_PERIOD={policy} has to ask for them"
        fix = f"Administrator: {ROLE}: add Manage Accounting Periods (View) and SuiteAnalytics Workbook."
        yield Finding(check, verdict, f"the periods: {why}", fix)
        return
    day = today.isoformat()
    rows = sorted(account.rows["accountingperiod"], key=lambda r: r["startdate"])
    current = next((r for r in rows if r["startdate"] <= day <= r["enddate"]), None)
    following = next((r["periodname"] for r in rows if r["startdate"] > day and not _shut(r)), None)
    if current is None:
        yield Finding(check, "wrong", f"no accounting period contains today, {day}", f"Accounting: {where}: set it up.")
    elif (word := _shut(current)) and (policy == "hold" or following is None):
        cause = f"{current['periodname']}, which contains today, is {word}: every document would be refused"
        yield Finding(check, "wrong", cause, f"Accounting: {where}: reopen it.")
    elif word:
        name = current["periodname"]
        yield Finding(
            check, "ok", f"{name} is {word}; HUB_NETSUITE_CLOSED_PERIOD={policy} puts documents in {following}"
        )
    else:
        past = [r["periodname"] for r in rows if r["enddate"] < day and _shut(r)]
        late = f"; {past[-1]} is closed: of what comes late for it, HUB_NETSUITE_CLOSED_PERIOD={policy}" if past else ""
        yield Finding(check, "ok", f"{current['periodname']} is open{late}")


def _shut(row: Row) -> str:
    """How a period is shut for receivables; empty if it is open."""
    words = (("closed", "closed"), ("alllocked", "locked"), ("arlocked", "locked for A/R"))
    return next((word for column, word in words if row.get(column) == "T"), "")


def tax(account: Account, uses: Uses, mode: str, field: str) -> Iterator[Finding]:
    """SuiteTax on or off, against `HUB_NETSUITE_TAX`; and nobody taxes our documents a second time. `field`:
    `HUB_NETSUITE_DISABLE_TAX_FIELD`."""
    sales: dict[str, frozenset[str]] = {
        r: _names(account, r) for r in TAXED if r in account.schemas and r in uses.records()
    }
    if not sales:
        yield Finding("tax", "cannot tell", "the catalogue shows neither invoice nor creditMemo", "See above.")
        return
    there = all(SUITETAX in names for names in sales.values())
    if mode == "suitetax" and not there:
        yield Finding(
            "tax", "wrong", "HUB_NETSUITE_TAX is suitetax, but the SuiteTax feature is off in this account",
            "Set HUB_NETSUITE_TAX=line, or let an administrator turn SuiteTax on.",
        )  # fmt: skip
    elif mode != "suitetax" and there:
        yield Finding(
            "tax", "wrong", f"SuiteTax is on, but HUB_NETSUITE_TAX is {mode}: NetSuite would add tax to ours",
            "Set HUB_NETSUITE_TAX=suitetax.",
        )  # fmt: skip
    else:
        yield Finding("tax", "ok", f"HUB_NETSUITE_TAX={mode}, SuiteTax is {'on' if there else 'off'}")
    yield from _avatax(uses, sales, field)


def _avatax(uses: Uses, sales: Mapping[str, frozenset[str]], field: str) -> Iterator[Finding]:
    check, setting = "AvaTax in NetSuite", "HUB_NETSUITE_DISABLE_TAX_FIELD"
    lacking = [r for r, names in sales.items() if field and field not in names]
    bundled = [r for r, names in sales.items() if any(n.startswith(AVATAX) for n in names)]
    sold = {t.file for t in uses.targets if t.record in bundled and t.path[0] == "item"}
    loud = sorted(sold - {t.file for t in uses.targets if t.path == (AVATAX_OFF,)}) if field != AVATAX_OFF else []
    if lacking:
        yield Finding(
            check, "wrong", f"{setting} is {field}, a field that {' and '.join(lacking)} do not have here",
            f"Correct {setting}, or leave it empty if no tax bundle is installed.",
        )  # fmt: skip
    elif loud:
        yield Finding(
            check, "wrong", f"Avalara's bundle is installed and would tax these a second time: {', '.join(loud)}",
            f"Set {setting}={AVATAX_OFF}.",
        )  # fmt: skip
    elif bundled:
        yield Finding(check, "ok", f"Avalara's bundle is installed and told to leave {' and '.join(bundled)} alone")
    else:
        yield Finding(check, "ok", "Avalara's bundle is not installed")


def _names(account: Account, record: str) -> frozenset[str]:
    return frozenset(account.schemas[record].get("properties", {}))


def concurrency(account: Account, wanted: int) -> Iterator[Finding]:
    """Does NetSuite let us make as many requests at once as we would? Only administrators are told."""
    check = "requests at once"
    said = account.limits
    if said is None:
        why = account.unread["limits"]
        yield Finding(
            check, "cannot tell", f"NetSuite's limit: {why}; it is told to administrators only",
            "Compare HUB_NETSUITE_CONCURRENCY with Setup > Integration > Integration Governance.",
        )  # fmt: skip
        return
    names = ("integrationConcurrencyLimit", "accountUnallocatedConcurrencyLimit", "accountConcurrencyLimit")
    limits = [said[n] for n in names if isinstance(said.get(n), int)]
    if not limits:
        yield Finding(check, "cannot tell", "NetSuite named no limit", "Nothing.")
    elif wanted > limits[0]:
        yield Finding(
            check, "wrong", f"HUB_NETSUITE_CONCURRENCY is {wanted}, but NetSuite allows the hub {limits[0]} at once",
            f"Set it to {max(1, limits[0] - 1)}, or raise the limit (Setup > Integration > Integration Governance).",
        )  # fmt: skip
    else:
        yield Finding(check, "ok", f"{wanted} of the {limits[0]} that NetSuite allows")
