"""What NetSuite's refusals mean: one table, and `judge`, which reads it.

NetSuite says little by status and code: `USER_ERROR` covers most refusals and only the English text tells them apart,
so rules match on status, `o:errorCode` and text, in order, first hit wins. Shapes and the texts of login, limit,
content and unexpected errors: NetSuite help, "REST Web Services Error Handling". The texts marked (recorded) were
seen in other integrations' public traffic, among them those that a connector retried for years (null pointer,
concurrent modification, no databases online); the status RCRD_HAS_BEEN_CHANGED comes with is not known: none is
demanded.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hub.errors import Answer, Defer, Outcome, Reject, Retry, Unknown

ALREADY_EXISTS = "ALREADY_EXISTS"
"""The one code `destination` acts on: it looks before it believes that another record is in the way."""
CREDENTIALS_PAUSE = 300.0
TEXT_LIMIT = 300
_EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(\.[\w-]+)+")

Kind = Literal["reject", "limit", "credentials", "retry", "unknown"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from NetSuite, reduced to what is judged and kept."""

    status: int
    headers: Mapping[str, str]
    text: str
    sent: str = ""
    """Kind of record it was about, for the messages."""
    key: str = ""
    """Its external id."""

    @property
    def details(self) -> Sequence[Mapping[str, Any]]:
        """`o:errorDetails`; empty if the body is not NetSuite's error document (an HTML page, a proxy's word)."""
        try:
            body = json.loads(self.text)
        except ValueError:
            return ()
        details = body.get("o:errorDetails") if isinstance(body, dict) else None
        return [d for d in details if isinstance(d, dict)] if isinstance(details, list) else ()

    @property
    def is_page(self) -> bool:
        """Not JSON: a maintenance page, a login page, a proxy's message."""
        return bool(self.text.strip()) and "json" not in self.headers.get("content-type", "").lower()

    def answer(self) -> Answer:
        """Codes and paths only: the texts may quote names and addresses."""
        details = self.details
        kept = {
            "record": self.sent,
            "codes": sorted({str(d.get("o:errorCode", ""))[:80] for d in details}),
            "paths": [str(d["o:errorPath"])[:120] for d in details if d.get("o:errorPath")][:5],
        }
        return Answer(status=self.status, request_id=self.headers.get("x-n-operationid"), detail=kept)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: what to recognise, what it means, who does what about it."""

    code: str
    """The stable code people and metrics see."""
    kind: Kind
    cause: str
    fix: str = ""
    status: int | None = None
    error_codes: frozenset[str] = frozenset()
    text: str = ""
    """Regular expression, any letter case, found anywhere in a detail."""
    patience: float = 0.0
    """Of a `reject`: see `hub.errors.Reject`."""

    def fits(self, status: int, error_code: str, detail: str) -> bool:
        return (
            (self.status is None or self.status == status)
            and (not self.error_codes or error_code in self.error_codes)
            and (not self.text or re.search(self.text, detail, re.IGNORECASE) is not None)
        )


_LIMITS = frozenset({"CONCURRENCY_LIMIT_EXCEEDED", "SSS_REQUEST_LIMIT_EXCEEDED", "REQUEST_LIMIT_EXCEEDED"})
_LOGIN = frozenset({"INVALID_LOGIN", "INVALID_LOGIN_ATTEMPT"})
_BUSY = frozenset({"RCRD_HAS_BEEN_CHANGED", "RECORD_HAS_BEEN_CHANGED"})
_BUGS = frozenset({"INVALID_REQUEST", "INVALID_PARAMETER", "INVALID_HEADER", "INVALID_SEARCH", "IDEMPOTENCY_ERROR"})

RULES: tuple[Rule, ...] = (
    # Not about this record at all.
    Rule("INVALID_LOGIN", "credentials", "NetSuite refuses our credentials", status=401),
    Rule("INVALID_LOGIN", "credentials", "NetSuite refuses our credentials", error_codes=_LOGIN),
    Rule("INSUFFICIENT_PERMISSION", "credentials", "the role may not do this", status=403),
    Rule(
        "INSUFFICIENT_PERMISSION", "credentials", "the role may not do this",
        error_codes=frozenset({"INSUFFICIENT_PERMISSION"}),
    ),
    Rule("CONCURRENCY_LIMIT_EXCEEDED", "limit", "too many requests at once for this account", status=429),
    Rule("CONCURRENCY_LIMIT_EXCEEDED", "limit", "too many requests at once for this account", error_codes=_LIMITS),
    Rule("CONCURRENCY_LIMIT_EXCEEDED", "limit", "too many requests at once", text=r"concurrent request limit exceeded"),
    # Surely not applied, and gone in a moment.
    Rule("RECORD_CHANGED", "retry", "somebody saved the record at the same moment", error_codes=_BUSY),
    Rule("RECORD_CHANGED", "retry", "somebody saved the record at the same moment", text=r"record has been changed"),
    Rule("RECORD_CHANGED", "retry", "somebody saved the record at the same moment", text=r"concurrent ?modification"),
    # May have landed.
    Rule("UNEXPECTED_ERROR", "unknown", "NetSuite failed inside", error_codes=frozenset({"UNEXPECTED_ERROR"})),
    Rule("UNEXPECTED_ERROR", "unknown", "NetSuite failed inside", text=r"an unexpected error (has )?occurred"),
    Rule("UNEXPECTED_ERROR", "unknown", "NetSuite failed inside", text=r"null ?pointer|NoCompanyDbsOnline"),
    Rule("UNAVAILABLE", "unknown", "the account is in maintenance", text=r"currently unavailable while we undergo"),
    # Another record is in the way (recorded).
    Rule(
        ALREADY_EXISTS, "reject", "another record in NetSuite already has this name or id",
        "Accounting: find the other record in NetSuite. To use it link it, or give it the external id shown here and "
        "retry; else rename it and retry.", text=r"already exists",
    ),
    # The books are closed (recorded).
    Rule(
        "PERIOD_CLOSED", "reject", "the date falls into a closed or missing accounting period",
        "Accounting: reopen the period (Setup > Accounting > Manage Accounting Periods), or decide on another date; "
        "then retry.", text=r"date range of your accounting period|period is (closed|locked)|(closed|locked) period",
    ),
    # Data and mapping.
    Rule(
        "MISSING_FIELD", "reject", "NetSuite wants a field the mapping does not send",
        "Administrator: add the field to the mapping, or make it optional on the form or in the script that asks; "
        "then retry.", text=r"please enter value\(s\) for",
    ),
    Rule(
        "TOO_LONG", "reject", "a text is longer than the field allows",
        "Administrator: cut it in the mapping with truncate(); then retry.",
        text=r"more than the maximum number",
    ),
    Rule(
        "CURRENCY_NOT_ALLOWED", "reject", "the customer in NetSuite may not use this currency",
        "Accounting: add the currency to the customer, or to the list in mappings/netsuite/customer.yaml; then retry.",
        text=r"access to the currency|currency.{0,40}(not valid|invalid|not available)",
    ),
    # What is open depends on what came before: a payment may overtake the void of a credit note, whose webhook is late
    # (a sweep brings it within minutes) or whose write is still unknown.
    Rule(
        "OVER_APPLIED", "reject", "the amount is more than is open on the invoice",
        "Accounting: see what else was booked against the invoice in NetSuite, take it back, then retry; or skip this "
        "delivery with that reason.", patience=3600.0,
        text=r"(exceed|greater than|more than).{0,60}(due|remaining|unapplied|total)",
    ),
    Rule(
        "NEGATIVE_TOTAL", "reject", "NetSuite keeps no invoice below zero",
        "Accounting: book a credit memo by hand and skip this delivery with its number as the reason.",
        text=r"(total|amount).{0,40}(negative|less than zero|may not be below)",
    ),
    Rule(
        "UNKNOWN_FIELD", "reject", "the mapping sends a field this account does not have",
        "Administrator: remove or correct the field in the mapping (a feature may be off in this account); then retry.",
        text=r"unknown (reference or )?field|(invalid|unknown) property",
    ),
    Rule(
        "INVALID_VALUE", "reject", "a value is not valid in this account or for this subsidiary",
        "Administrator: correct the lookup table or the record it points to (item, subsidiary, account, currency, "
        "customer: active, and valid for the subsidiary); then retry.",
        error_codes=frozenset({"INVALID_CONTENT", "INVALID_KEY_OR_REF"}),
    ),
    Rule(
        "NOT_FOUND", "reject", "a record this one needs does not exist",
        "Administrator: create it or correct the lookup table; then retry.", error_codes=frozenset({"NONEXISTENT_ID"}),
    ),
    Rule(
        "BAD_REQUEST", "reject", "NetSuite does not understand the request",
        "Report it: this is a fault of the connector or of a value in the mapping.", error_codes=_BUGS,
    ),
    Rule(
        "BAD_REQUEST", "reject", "NetSuite does not understand the question",
        "Report it: this is a fault of the connector, or a feature is off in this account.",
        text=r"search error occurred|invalid or unsupported search",
    ),
    Rule(
        "USER_ERROR", "reject", "NetSuite refuses the record",
        "Accounting: read NetSuite's words, correct the record, the customer's script or the mapping; then retry.",
    ),
)  # fmt: skip


def judge(reply: Reply, *, writing: bool, rng: random.Random) -> Outcome:
    """The outcome of a reply that is not 2xx. `writing`: whether the request could have changed something.

    A 5xx or a page on a write is `Unknown`: NetSuite answers that way also after it has saved. On a read it is `Retry`.
    """
    if (reply.status >= 500 and reply.status != 501) or reply.status in (408, 499) or _odd(reply):
        return _unclear(f"HTTP_{reply.status}", "NetSuite failed or was not reached", reply, writing=writing)
    details = reply.details or ({},)
    for rule in RULES:
        for detail in details:
            text = str(detail.get("detail", ""))
            if rule.fits(reply.status, str(detail.get("o:errorCode", "")), text):
                return _outcome(rule, reply, text, str(detail.get("o:errorPath", "")), writing=writing, rng=rng)
    raise AssertionError("the last rule fits everything")


def _odd(reply: Reply) -> bool:
    """A page instead of an answer, or a status NetSuite does not document. 401, 403 and 429 speak for themselves."""
    return reply.status not in (401, 403, 429) and (reply.is_page or reply.status < 400)


def _outcome(rule: Rule, reply: Reply, text: str, path: str, *, writing: bool, rng: random.Random) -> Outcome:
    answer = reply.answer()
    if rule.kind == "limit":
        return Defer(f"{rule.code}: {rule.cause}", delay=rng.uniform(2.0, 6.0), pause=True, answer=answer, limited=True)
    if rule.kind == "credentials":
        return _refused(rule.code, reply)
    if rule.kind == "retry":
        return Retry(rule.code, rule.cause, delay=rng.uniform(5.0, 15.0), answer=answer)
    if rule.kind == "unknown":
        return _unclear(rule.code, rule.cause, reply, writing=writing)
    cause = f"{reply.sent} {reply.key}: {rule.cause}"
    if path:
        cause += f" at {path[:120]}"
    cause += f'. NetSuite says: "{mask(text)}"' if text else ""
    return Reject(rule.code, cause, rule.fix, answer, rule.patience)


def _unclear(code: str, reason: str, reply: Reply, *, writing: bool) -> Outcome:
    if writing:
        return Unknown(f"{code}: {reason}", answer=reply.answer())
    return Retry(code, reason, answer=reply.answer())


def _refused(code: str, reply: Reply) -> Defer:
    """Nothing can be sent until a person acts, so everything waits instead of dying one by one, and goes on by itself
    once it works. A missing permission pauses too: it is one tick box of one role, and every record will need it."""
    if code == "INSUFFICIENT_PERMISSION":
        reason = (
            f"INSUFFICIENT_PERMISSION: the role of our token may not read and write {reply.sent}; add the permission"
        )
        return Defer(reason, delay=CREDENTIALS_PAUSE, pause=True, answer=reply.answer())
    return credentials(code, reply.status)


def credentials(code: str, status: int) -> Defer:
    """Login refused, at the record service or at the token endpoint (`code` is then OAuth's: `invalid_client`, ...)."""
    reason = (
        f"{code}: NetSuite refuses our credentials. Administrator: check the certificate or token (expired, revoked, "
        "cleared by a sandbox refresh), its role and the HUB_NETSUITE_ settings; the Login Audit Trail shows why"
    )
    return Defer(reason, delay=CREDENTIALS_PAUSE, pause=True, answer=Answer(status=status, detail={"codes": [code]}))


def mask(text: str) -> str:
    """A vendor's words, fit to be stored: short, and without e-mail addresses."""
    return _EMAIL.sub("<e-mail>", text)[:TEXT_LIMIT]
