"""AvaTax's refusals: one exception, one JSON shape.

Shape and numbers: AvaTax documentation, "Common errors" and the numbered error list. `target`, `faultCode` and
`severity` are as in recorded traffic; the gateway's own 401 has none of them there.
"""

from __future__ import annotations

from typing import Any

_NUMBERS = {
    "EntityNotFoundError": 4,
    "ValueRequiredError": 5,
    "EntityLimitExceeded": 10,
    "StringLengthError": 13,
    "InvalidQueryField": 17,
    "InvalidQueryValue": 18,
    "AuthenticationException": 30,
    "AuthenticationIncomplete": 34,
    "BearerTokenInvalid": 37,
    "ModelRequiredException": 38,
    "JsonFormatError": 47,
    "UnhandledException": 50,
    "ModelStateInvalid": 70,
    "InvalidEnumValue": 164,
    "NotEnoughAddressesInfo": 176,
    "MalformedFilterException": 182,
    "NoLinesDiscounted": 190,
    "TransactionAlreadyCancelled": 198,
    "GetTaxError": 300,
    "DocumentCodeConflict": 303,
    "MissingAddress": 304,
    "InvalidParameterValue": 306,
    "InvalidAddress": 309,
    "MissingLine": 311,
    "DocumentNotCommitted": 313,
    "TimeoutRequested": 316,
    "InvalidPostalCode": 317,
    "InvalidDocumentTypeForRefund": 702,
    "RefundLinesRequired": 704,
    "LineNoOutOfRange": 707,
    "RefundPercentageMissing": 709,
    "CannotModifyLockedTransaction": 1100,
    "TransactionNotCancelled": 1300,
    "DateMismatch": 1305,
    "InvalidDocumentStatusForVerify": 1306,
    "TotalAmountMismatch": 1307,
    "TotalTaxMismatch": 1308,
    "TransactionIsCommitted": 1313,
    "InvalidDocumentStatus": 1314,
    "RequestLimitExceeded": 1715,
}
"""Numbers of the codes used here; `DuplicateLineNoError` and `MaxCountExceededError` have no published number."""


class Problem(Exception):  # noqa: N818 - it is an answer of the vendor, not an error of ours
    """A refusal. `detail_code` differs where AvaTax wraps one code in another."""

    def __init__(
        self,
        code: str,
        message: str,
        description: str = "",
        *,
        status: int = 400,
        refers_to: str | None = None,
        sub_code: str | None = None,
        detail_code: str | None = None,
    ) -> None:
        super().__init__(code)
        self.status, self.code = status, code
        detail_code = detail_code or code
        detail: dict[str, Any] = {
            "code": detail_code,
            "message": message,
            "description": description or message,
            "faultCode": "Client",
            "helpLink": f"http://developer.avalara.com/avatax/errors/{detail_code}",
            "severity": "Error",
        }
        if detail_code in _NUMBERS:
            detail["number"] = _NUMBERS[detail_code]
        if refers_to is not None:
            detail["refersTo"] = refers_to
        if sub_code is not None:
            detail["faultSubCode"] = sub_code
        self.detail = detail
        self.error: dict[str, Any] = {"code": code, "message": message, "target": "Unknown", "details": [detail]}

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.error}


def unauthenticated(code: str, message: str) -> Problem:
    """The gateway's 401: without target, number and severity (recorded traffic)."""
    problem = Problem(code, message, status=401)
    del problem.error["target"]
    for key in ("number", "severity"):
        problem.detail.pop(key, None)
    return problem


def bad_json(description: str, refers_to: str | None = None) -> Problem:
    """A body that is no JSON, or has a value of the wrong type or an unknown enum value."""
    return Problem(
        "ModelStateInvalid",
        "The request was invalid.",
        description,
        detail_code="JsonFormatError",
        refers_to=refers_to,
    )


def not_found(what: str) -> Problem:
    return Problem("EntityNotFoundError", f"{what} not found.", status=404)


def doc_status(*, sub_code: bool) -> Problem:
    """A committed code was created again. Newer servers add a `faultSubCode`; older ones do not."""
    return Problem(
        "GetTaxError",
        "DocStatus is invalid for this operation.",
        "Expected Saved|Posted",
        refers_to="DocStatus",
        sub_code="DocStatusError" if sub_code else None,
    )


def bad_status() -> Problem:
    return Problem("InvalidDocumentStatus", "The document status is incorrect for this operation.")


def locked() -> Problem:
    return Problem("CannotModifyLockedTransaction", "This transaction has been locked and cannot be modified.")
