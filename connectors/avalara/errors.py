"""AvaTax's errors: code -> what becomes of the delivery, in plain words.

Codes and numbers: AvaTax documentation (error list, "Common errors") and recorded traffic. AvaTax wraps: the telling
code may be `error.code`, a detail's `code` or `faultSubCode`, and older servers only say it in `refersTo`. So all are
looked at, and `GetTaxError` and `ModelStateInvalid`, which say nothing by themselves, last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from connectors.avalara.client import Exchange, Lost, Reply
from hub.errors import Answer, Defer, Outcome, Reject, Retry, Unknown


class Kind(Enum):
    LIMIT = "limit"
    SERVER = "server"
    SETUP = "setup"
    MISSING = "missing"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Rule:
    """`show`: AvaTax's own words are added to the cause; a person cannot act without them."""

    kind: Kind
    cause: str
    fix: str = ""
    show: bool = False


_LIMIT = Rule(Kind.LIMIT, "AvaTax is limiting the number of calls.")
_SERVER = Rule(Kind.SERVER, "AvaTax had trouble of its own.")
_LOGIN = Rule(
    Kind.SETUP,
    "AvaTax refuses the credentials: check HUB_AVALARA_ACCOUNT_ID, HUB_AVALARA_LICENSE_KEY and that they belong to "
    "HUB_AVALARA_ENVIRONMENT",
)
_RIGHTS = Rule(
    Kind.SETUP,
    "the AvaTax account may not do this: its user role or subscription (AvaTax Pro) must be widened by Avalara",
)
_COMPANY = Rule(Kind.SETUP, "AvaTax does not know the company: check HUB_AVALARA_COMPANY_CODE")
_ADDRESS = Rule(
    Kind.REJECT,
    "AvaTax cannot place the customer's address.",
    "Billing: correct the address (country, state, postal code) of the customer in Stripe. The invoice keeps its old "
    "one: void it and issue it again, or record the document in AvaTax by hand and link it; then retry.",
    show=True,
)
_FIELD = Rule(
    Kind.REJECT,
    "AvaTax refuses a field of the document.",
    "Whoever keeps the mappings: correct mappings/avalara/invoice.yaml for the field named here, then retry.",
    show=True,
)
_SIZE = Rule(
    Kind.REJECT,
    "The document is too large for AvaTax (15,000 lines are the most).",
    "Tax team: record this invoice in AvaTax by hand in several documents, then skip this delivery with their codes.",
)
_LOCKED = Rule(
    Kind.REJECT,
    "The document was already reported on a filed return and is locked.",
    "Tax team: book a reversing ReturnInvoice in AvaTax for this document, then skip this delivery with its code.",
)
_STATUS = Rule(
    Kind.REJECT,
    "The document's status in AvaTax does not allow this.",
    "Tax team: open the document in AvaTax; if it is right as it is, link it or skip this delivery, else correct it.",
)
_CONFLICT = Rule(
    Kind.REJECT,
    "AvaTax has more than one document under this code.",
    "Tax team: void or rename the one the hub did not make, then retry.",
)
_MISSING = Rule(Kind.MISSING, "AvaTax has no such document.")
_OTHER = Rule(
    Kind.REJECT,
    "AvaTax refuses the call.",
    "Read AvaTax's words; correct the invoice's data or the mapping, then retry. Avalara's support can look the call "
    "up by its request id.",
    show=True,
)


def _plain(name: Any) -> str:
    return str(name).lower().removesuffix("error").removesuffix("exception")


_RULES: dict[str, Rule] = {}
for _rule, _names in (
    (_LIMIT, "RequestLimitExceeded ConcurrentRequestLimitExceeded RateLimitExceeded 1715 1716 1723 4011"),
    (
        _SERVER,
        "UnhandledException ServerUnreachable ServerConfiguration RemoteServer InternalServer ServiceNotReady "
        "NoHealthySite ServiceDisconnected ServiceTimeout TimeoutRequested IdentityServer "
        "1 36 44 50 209 316 500 1718 4012 4014 4015",
    ),
    (_LOGIN, "Authentication AuthenticationIncomplete BasicAuthIncorrect BearerTokenInvalid 30 34 35 37"),
    (
        _RIGHTS,
        "Authorization PermissionRequired SubscriptionRequired AccountExpired InactiveUser InactiveAccount "
        "UserNoAccess 31 33 39 49 51 196 600",
    ),
    (_COMPANY, "CompanyNotFound CompanyInvalid InactiveCompany NoDefaultCompany 3 27"),
    (
        _ADDRESS,
        "InvalidZipForState ZipNotValid InsufficientAddress TaxAddress JurisdictionNotFound PostalCode RegionCode "
        "Country InvalidAddress InvalidPostalCode MissingAddress NotEnoughAddressesInfo 176 304 309 317",
    ),
    (
        _FIELD,
        "StringLength MaxStringLength ValueRequired MissingLine JsonFormat InvalidEnumValue DuplicateLineNo DateFormat "
        "Range InvalidDecimalValue InvalidParameterValue NoLinesDiscounted 5 6 13 14 26 47 48 164 190 306 311",
    ),
    (_SIZE, "MaxCountExceeded EntityLimitExceeded RequestTooLarge 10 187"),
    (_LOCKED, "CannotModifyLockedTransaction 1100"),
    (
        _STATUS,
        "DocStatus TransactionAlreadyCancelled InvalidDocumentStatus TransactionIsCommitted CannotAdjustDocumentType "
        "195 198 1309 1313 1314",
    ),
    (_CONFLICT, "DocumentCodeConflict TransactionAlreadyExists 303 1303"),
    (_MISSING, "EntityNotFound 4"),
):
    _RULES |= {_plain(name): _rule for name in _names.split()}
_VAGUE = {"gettax": _OTHER, "modelstateinvalid": _FIELD, "300": _OTHER, "70": _FIELD}
_EMAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal read once. `names`: every code and number in it, lower case, without a final Error or Exception."""

    code: str
    names: tuple[str, ...]
    fields: tuple[str, ...]
    text: str

    def is_a(self, *names: str) -> bool:
        return any(_plain(name) in self.names for name in names)


def fault(reply: Reply) -> Fault | None:
    """None for an answer of success: 2xx, a JSON object, and no `error` in it (a 200 with one has been seen)."""
    error = reply.body.get("error") if isinstance(reply.body, dict) else None
    if isinstance(error, dict):
        details = [d for d in error.get("details") or [] if isinstance(d, dict)]
        names: list[Any] = [d.get("faultSubCode") for d in details]
        names += ["DocStatus" for d in details if _about_status(d)]
        names += [d.get("code") for d in details] + [error.get("code")]
        names += [d.get("number") for d in details]
        code = next(
            (str(d["faultSubCode"]) for d in details if d.get("faultSubCode")), str(error.get("code") or "unknown")
        )
        told = [str(d.get("description") or d.get("message") or "") for d in details]
        text = next((t for t in told if t), str(error.get("message") or ""))
        fields = tuple(str(d["refersTo"]) for d in details if d.get("refersTo"))
        return Fault(code, tuple(_plain(n) for n in names if n is not None), fields, text)
    if 200 <= reply.status < 300 and isinstance(reply.body, dict):
        return None
    return Fault(f"http_{reply.status}", (), (), "")


def _about_status(detail: dict[str, Any]) -> bool:
    return detail.get("refersTo") == "DocStatus" or str(detail.get("message", "")).startswith("DocStatus is invalid")


def rule_of(status: int, found: Fault) -> Rule:
    """By code, else by HTTP status. A success without a JSON object is as good as no answer."""
    for names in (_RULES, _VAGUE):
        for name in found.names:
            if name in names:
                return names[name]
    if status == 429:
        return _LIMIT
    if status in (401, 403):
        return _LOGIN
    if status in (404, 405):
        return Rule(Kind.SETUP, "no AvaTax answers at this address: check HUB_AVALARA_BASE_URL")
    return _SERVER if status == 408 or status >= 500 or status < 400 else _OTHER


def judge(exchange: Exchange, *, write: bool) -> Outcome:
    """The outcome of a call that did not succeed. `write`: it could have changed something, so doubt is `Unknown`."""
    if isinstance(exchange, Lost):
        doubt = write and exchange.sent
        return Unknown(exchange.reason) if doubt else Retry("unreachable", exchange.reason)
    found = fault(exchange) or Fault("unexpected", (), (), "")
    rule = rule_of(exchange.status, found)
    answer = Answer(exchange.status, exchange.correlation_id, {"code": found.code, "fields": list(found.fields)})
    match rule.kind:
        case Kind.LIMIT:
            delay = min(exchange.retry_after or 30.0, 900.0)
            return Defer(rule.cause, delay, pause=True, answer=answer, limited=True)
        case Kind.SETUP:
            return Defer(f"{found.code}: {rule.cause}", 900.0, pause=True, answer=answer)
        case Kind.SERVER if write:
            return Unknown(f"{found.code}: {rule.cause} The call may have been carried out.", answer)
        case Kind.SERVER | Kind.MISSING:
            return Retry(found.code, rule.cause, exchange.retry_after, answer)
        case Kind.REJECT:
            return _reject(rule, found, answer)


def locked(answer: Answer) -> Reject:
    """A document that was filed, where the mapping has no reversal for it."""
    return Reject("CannotModifyLockedTransaction", _LOCKED.cause, _LOCKED.fix, answer)


def _reject(rule: Rule, found: Fault, answer: Answer) -> Reject:
    named = f" Field: {', '.join(found.fields)}." if found.fields else ""
    words = f" AvaTax says: {_EMAIL.sub('<e-mail>', found.text)[:300]}" if rule.show and found.text else ""
    return Reject(found.code, f"{rule.cause}{named}{words}", rule.fix, answer)
