"""Salesforce's error codes, what each means for a delivery, and what a person does about it.

Sources: REST API Developer Guide ("Status Codes and Error Responses"), SOAP API Developer Guide (`StatusCode`,
`ExceptionCode`), OAuth error pages of Salesforce Help; message texts as seen in public issue reports. Top-level errors
carry `errorCode`, rows of a collection `statusCode`; both become a `Fault` here. Message texts may quote the data they
refuse: they reach a person only where the table says `show`, masked and cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hub.errors import Answer, Defer, Outcome, Reject, Retry, Unknown

DAILY_PAUSE = 900.0
BUSY_PAUSE = 5.0
CONFIG_PAUSE = 300.0

_ADMIN = "Salesforce administrator: "
_THEN = " Then retry the delivery."
_MAPPING = "Whoever owns the mapping: "


@dataclass(frozen=True, slots=True)
class Fault:
    """One error as Salesforce gave it."""

    code: str
    message: str = ""
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """What a permanent code means (`cause`) and who does what about it (`fix`)."""

    cause: str
    fix: str
    show: bool = False
    """Whether Salesforce's own words are needed to act: they come from the org's configuration, not from our data."""


REJECTS: dict[str, Rule] = {
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": Rule(
        "a validation rule of the org refuses the record",
        _ADMIN + "let the rule except the integration user, or correct the data in Stripe." + _THEN,
        show=True,
    ),
    "FIELD_FILTER_VALIDATION_EXCEPTION": Rule(
        "a lookup filter of the org refuses the related record",
        _ADMIN + "widen the lookup filter or except the integration user." + _THEN,
        show=True,
    ),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": Rule(
        "a trigger or flow of the org failed on the record",
        _ADMIN + "mend the trigger or flow named in the cause." + _THEN,
        show=True,
    ),
    "REQUIRED_FIELD_MISSING": Rule(
        "the org requires a field that the mapping does not fill",
        _ADMIN + "make the field optional, or add it to the mapping." + _THEN,
    ),
    "STRING_TOO_LONG": Rule(
        "a text is longer than its field",
        _MAPPING + "cut the text with truncate(), or let the administrator lengthen the field." + _THEN,
    ),
    "INVALID_FIELD": Rule(
        "the object has no such field, or the integration user may not see it",
        _ADMIN + "deploy the connector's fields and give the integration user's permission set access." + _THEN,
        show=True,
    ),
    "INVALID_FIELD_FOR_INSERT_UPDATE": Rule(
        "the integration user may not write a field, or it cannot be changed once set",
        _ADMIN + "allow editing the field in the integration user's permission set." + _THEN,
    ),
    "NOT_FOUND": Rule(
        "the org has no such object or external id field, or the integration user may not use it",
        _ADMIN + "deploy the connector's objects and assign its permission set to the integration user." + _THEN,
    ),
    "INVALID_TYPE": Rule(
        "the org has no such object, or the integration user may not use it",
        _ADMIN + "deploy the connector's objects and assign its permission set to the integration user." + _THEN,
    ),
    "INVALID_TYPE_ON_FIELD_IN_RECORD": Rule(
        "a value has the wrong type for its field",
        _MAPPING + "make the mapping and the field's type agree." + _THEN,
    ),
    "JSON_PARSER_ERROR": Rule(
        "a value has the wrong type for its field",
        _MAPPING + "make the mapping and the field's type agree." + _THEN,
    ),
    "MALFORMED_ID": Rule("a Salesforce id is malformed", _MAPPING + "correct the id the mapping sends." + _THEN),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": Rule(
        "a restricted picklist does not know the value",
        _ADMIN + "add the value to the picklist or lift its restriction." + _THEN,
    ),
    "FIELD_INTEGRITY_EXCEPTION": Rule(
        "Salesforce finds the value inconsistent (often state and country picklists)",
        _ADMIN + "set the integration values of the state and country picklists to ISO codes, or take the address out"
        " of the mapping." + _THEN,
    ),
    "INVALID_EMAIL_ADDRESS": Rule(
        "an e-mail address is not valid", "Correct it in Stripe: the update arrives by itself."
    ),
    "NUMBER_OUTSIDE_VALID_RANGE": Rule(
        "a number has more digits than its field", _ADMIN + "enlarge the field." + _THEN
    ),
    "INVALID_CURRENCY_ISO": Rule(
        "the org does not know the currency", _ADMIN + "activate the currency in Setup, Manage Currencies." + _THEN
    ),
    "DUPLICATES_DETECTED": Rule(
        "a duplicate rule of the org takes the record for one that exists",
        _ADMIN + "merge the records or write the Stripe id into the existing one, or set"
        " HUB_SALESFORCE_ALLOW_DUPLICATES if the rule only alerts." + _THEN,
    ),
    "DUPLICATE_EXTERNAL_ID": Rule(
        "several records hold the same Stripe id",
        _ADMIN + "keep one, clear the id in the others, and make the field unique." + _THEN,
    ),
    "DUPLICATE_VALUE": Rule(
        "another record holds a value that must be unique",
        _ADMIN + "find the record with the same value and correct one of the two." + _THEN,
    ),
    "ENTITY_IS_DELETED": Rule(
        "the record is in the recycle bin",
        _ADMIN + "restore it, or remove it from the recycle bin so that it can be made anew." + _THEN,
    ),
    "ENTITY_IS_LOCKED": Rule(
        "the record is locked by an approval process", _ADMIN + "finish or recall the approval." + _THEN
    ),
    "INSUFFICIENT_ACCESS_OR_READONLY": Rule(
        "the integration user may not write the record",
        _ADMIN + "grant edit access, or Modify All on the object, in its permission set." + _THEN,
    ),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": Rule(
        "the integration user may not use the related record",
        _ADMIN + "share the parent record with the integration user." + _THEN,
    ),
    "INSUFFICIENT_ACCESS": Rule(
        "the integration user lacks a permission", _ADMIN + "compare with the list in the connector's README." + _THEN
    ),
}

_PARENT = re.compile(r"foreign key external id|entity is deleted.*parent", re.IGNORECASE)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,79}")
_NAME = re.compile(r"[A-Za-z]\w{0,79}(\.[A-Za-z]\w{0,79})?")
_ADDRESS = re.compile(r"[^\s@<>'\"]+@[^\s@<>'\"]+")


def faults(body: Any) -> tuple[Fault, ...]:
    """The errors in a decoded body or in a row's `errors`; empty when the body is none of Salesforce's shapes."""
    rows = body if isinstance(body, list) else [body]
    found = []
    for row in rows:
        code = (row.get("errorCode") or row.get("statusCode")) if isinstance(row, dict) else None
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            continue
        named = row.get("fields") or ()
        names = tuple(n for n in named if isinstance(n, str) and _NAME.fullmatch(n)) if isinstance(named, list) else ()
        found.append(Fault(code, str(row.get("message") or ""), names))
    return tuple(found)


def masked(text: str) -> str:
    """Vendor text fit to be kept: one line, e-mail addresses masked, at most 200 characters."""
    return _ADDRESS.sub("***@***", " ".join(text.split()))[:200]


def judge_row(errors: Sequence[Fault], external_id: str) -> Outcome:
    """One refused row of a collection. Nothing of it was written. `external_id`: our own key field of that object."""
    if not errors:
        return Unknown("Salesforce refused a record without saying why")
    judged = [_judge(fault, external_id) for fault in errors]
    return next((outcome for outcome in judged if isinstance(outcome, Reject)), judged[0])


def judge_call(
    status: int, errors: Sequence[Fault], external_id: str = "", retry_after: float | None = None
) -> Outcome:
    """A whole call that was refused with `status`. A 5xx or an unreadable answer may hide a write that landed."""
    answer = _answer(status, errors)
    if errors and (limit := _limit(errors[0], answer)) is not None:
        return limit
    if status in (401, 403, 404, 410, 429):
        return _refused(status, errors, external_id, retry_after, answer)
    if status == 420 or 300 <= status < 400:
        return Retry(f"HTTP_{status}", "Salesforce's edge did not pass the call on", retry_after, answer)
    if status >= 500 or not errors:
        return Unknown(f"Salesforce answered HTTP {status}; the write may have landed", answer)
    if status in (409, 412, 428):
        return Retry(errors[0].code, "the record was being changed by someone else", None, answer)
    return _judge(errors[0], external_id, answer)


def judge_login(code: object, description: str) -> Outcome:
    """A refused sign-in (`error`, `error_description` of the token endpoint). Nothing was written."""
    known = code if isinstance(code, str) and re.fullmatch(r"[A-Za-z_ ]{1,60}", code) else "unreadable"
    answer = Answer(detail={"oauth": known})
    if isinstance(code, int) and (code >= 500 or code == 420):
        return Retry(f"HTTP_{code}", "Salesforce's sign-in page is not available", None, Answer(status=code))
    if "rate" in description.lower():
        return Defer(
            "Salesforce limits sign-ins of this user (login rate exceeded)", DAILY_PAUSE, pause=True, answer=answer
        )
    hint = next((text for key, text in _LOGIN.items() if key in f"{known} {description}".lower()), _LOGIN[""])
    return Defer(f"Salesforce refuses the credentials ({known}): {hint}", CONFIG_PAUSE, pause=True, answer=answer)


_LOGIN = {
    "no client credentials user": "name a Run As user in the External Client App's client credentials flow",
    "approved": "pre-authorize the app for the integration user (permitted users: admin approved)",
    "invalid_client_id": "check HUB_SALESFORCE_CLIENT_ID and HUB_SALESFORCE_DOMAIN",
    "invalid_client": "check HUB_SALESFORCE_CLIENT_SECRET",
    "audience": "check HUB_SALESFORCE_AUDIENCE (login or test)",
    "assertion": "check the certificate in the app, HUB_SALESFORCE_USERNAME and this machine's clock",
    "expired": "check this machine's clock",
    "inactive": "the user or the org is inactive",
    "ip restricted": "allow this machine's address in the app's IP policy",
    "unsupported_grant_type": "enable the flow in the External Client App",
    "": "check the External Client App and the HUB_SALESFORCE_ settings",
}


def _refused(
    status: int, errors: Sequence[Fault], external_id: str, retry_after: float | None, answer: Answer
) -> Outcome:
    if status == 429:
        delay = retry_after or 30.0
        return Defer("Salesforce limits the rate of calls", delay, pause=True, answer=answer, limited=True)
    if status == 401:
        return Defer("Salesforce refuses a session it has just given", CONFIG_PAUSE, pause=True, answer=answer)
    if status == 410:
        return Defer(
            "Salesforce has retired this API version: raise HUB_SALESFORCE_API_VERSION",
            DAILY_PAUSE,
            pause=True,
            answer=answer,
        )
    if errors and errors[0].code in {*REJECTS, "UNABLE_TO_LOCK_ROW"}:
        return _judge(errors[0], external_id, answer)
    what = errors[0].code if errors else "no Salesforce answer: check HUB_SALESFORCE_DOMAIN"
    return Defer(
        f"Salesforce refuses the integration user (HTTP {status}, {what})", CONFIG_PAUSE, pause=True, answer=answer
    )


def _limit(fault: Fault, answer: Answer) -> Outcome | None:
    """Limits and switched-off APIs: the whole destination waits."""
    if fault.code == "REQUEST_LIMIT_EXCEEDED":
        if "ConcurrentRequests" in fault.message:
            return Defer("Salesforce: too many long calls at once", BUSY_PAUSE, pause=True, answer=answer, limited=True)
        return Defer("Salesforce: the org's daily API calls are used up", DAILY_PAUSE, pause=True, answer=answer)
    if fault.code in ("API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED", "UNSUPPORTED_API_VERSION"):
        return Defer(f"Salesforce does not serve the API ({fault.code})", DAILY_PAUSE, pause=True, answer=answer)
    if fault.code == "STORAGE_LIMIT_EXCEEDED":
        return Defer("Salesforce: the org's data storage is full", DAILY_PAUSE, answer=answer)
    return None


def _judge(fault: Fault, external_id: str, answer: Answer | None = None) -> Outcome:
    answer = answer or _answer(200, (fault,))  # a row of a call that was answered
    if (limit := _limit(fault, answer)) is not None:
        return limit
    if (again := _passing(fault, external_id)) is not None:
        return Retry(again[0], again[1], None, answer)
    rule = REJECTS.get(fault.code) or Rule(
        "Salesforce refuses the record",
        _ADMIN + "see the code in Salesforce's documentation; if it was passing trouble, retry the delivery.",
        show=True,
    )
    where = f" ({', '.join(fault.fields)})" if fault.fields else ""
    said = f": {masked(fault.message)}" if rule.show and fault.message else ""
    return Reject(fault.code, f"{rule.cause}{where}{said}"[:300], rule.fix, answer)


def _passing(fault: Fault, external_id: str) -> tuple[str, str] | None:
    """Code and reason of trouble that passes by itself; None for the rest."""
    text = fault.message
    # A trigger wraps the lock it met into its own failure.
    if "UNABLE_TO_LOCK_ROW" in (fault.code, *text.replace(",", " ").replace(":", " ").split()):
        return "UNABLE_TO_LOCK_ROW", "the record or its parent is being changed by someone else"
    if fault.code == "INVALID_CROSS_REFERENCE_KEY" or (fault.code == "INVALID_FIELD" and _PARENT.search(text)):
        return "PARENT_MISSING", "a record this one refers to is not in Salesforce"
    if fault.code == "DUPLICATE_VALUE" and (
        "external id specified" in text.lower() or (external_id and external_id in (*fault.fields, *text.split()))
    ):
        return "DUPLICATE_VALUE", "the record was being made by another call at the same moment"
    if fault.code in ("UNKNOWN_EXCEPTION", "SERVER_UNAVAILABLE", "QUERY_TIMEOUT", "ALL_OR_NONE_OPERATION_ROLLED_BACK"):
        return fault.code, "passing trouble at Salesforce"
    return None


def _answer(status: int | None, errors: Sequence[Fault]) -> Answer:
    """Codes and field names only: message texts may quote personal data."""
    detail = {"errors": [{"code": e.code, "fields": list(e.fields)} for e in errors[:5]]} if errors else {}
    return Answer(status=status, detail=detail)
