"""NetSuite's error document, and the exception that becomes one. Shape: NetSuite help, "REST Web Services Error
Handling"; texts from there or recorded in other integrations' traffic, unless marked as our wording (not known)."""

from __future__ import annotations

import json
import re
from typing import Any

from connectors.netsuite.simulator.schema import TRANSACTIONS

MEDIA = "application/vnd.oracle.resource+json; type=error"
TITLES = {
    400: ("Bad Request", "sec10.4.1"),
    401: ("Unauthorized", "sec10.4.2"),
    403: ("Forbidden", "sec10.4.4"),
    404: ("Not Found", "sec10.4.5"),
    405: ("Method Not Allowed", "sec10.4.6"),
    415: ("Unsupported Media Type", "sec10.4.16"),
    429: ("Bad Request", "sec10.4.1"),
    406: ("Not Acceptable", "sec10.4.7"),
    500: ("Internal Server Error", "sec10.5.1"),
}
LOGIN = (
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI at Setup > Users/Roles > "
    "User Management > View Login Audit Trail."
)
LIMIT = "Concurrent request limit exceeded. Request blocked."


class NsError(Exception):
    """A refusal. `where`: NetSuite's pointer to what is wrong (`path`, `query`, `header`, `url`) and its value."""

    def __init__(self, status: int, code: str, detail: str, **where: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.where = status, code, detail, where

    def body(self) -> bytes:
        pointers = {"path": "o:errorPath", "query": "o:errorQueryParam", "header": "o:errorHeader", "url": "o:errorUrl"}
        title, section = TITLES[self.status]
        detail: dict[str, Any] = {"detail": self.detail}
        detail |= {pointers[name]: value for name, value in self.where.items()}
        detail["o:errorCode"] = self.code
        document = {
            "type": f"https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html#{section}",
            "title": title,
            "status": self.status,
            "o:errorDetails": [detail],
        }
        return json.dumps(document).encode()


def user_error(text: str, **where: str) -> NsError:
    """The catch-all."""
    return NsError(400, "USER_ERROR", f"Error while accessing a resource. {text}", **where)


def missing(labels: str) -> NsError:
    return user_error(f"Please enter value(s) for: {labels}")


def invalid_value(value: str, field: str, path: str) -> NsError:
    text = f"You have entered an Invalid Field Value {value} for the following field: {field}"
    return NsError(400, "INVALID_CONTENT", f"Error while accessing resource: {text}", path=path)


def unknown_field(path: str) -> NsError:
    """Our wording: what NetSuite says is not known."""
    return NsError(400, "INVALID_CONTENT", f"Unknown reference or field: {path}.", path=path)


def nonexistent() -> NsError:
    return NsError(404, "NONEXISTENT_ID", "The record instance does not exist. Provide a valid record instance ID.")


def login() -> NsError:
    return NsError(401, "INVALID_LOGIN", LOGIN)


def denied(kind: str, text: str = "") -> NsError:
    """The role lacks the permission. The text is NetSuite's in its user interface; over REST it is not known."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).title()
    area = "Transactions" if kind in TRANSACTIONS else "Lists"
    wants = f"Permission Violation: You need a higher level of the '{area} -> {words}' permission to access this page."
    return NsError(403, "INSUFFICIENT_PERMISSION", text or f"{wants} Please contact your account administrator.")


def changed() -> NsError:
    """Somebody saved the record between our load and save. The status it comes with over REST is not known."""
    text = "Record has been changed. Reload the record and try again."
    return NsError(400, "RCRD_HAS_BEEN_CHANGED", f"Error while accessing a resource. {text}")


def unexpected() -> NsError:
    return NsError(500, "UNEXPECTED_ERROR", "An unexpected error occurred. Error ID: jrgb4c9qk1g3vq8x5mz2y")


MAINTENANCE = (
    "<!DOCTYPE html><html><head><title>NetSuite</title></head><body>The account you are trying to access is currently "
    "unavailable while we undergo our regularly scheduled maintenance.</body></html>"
)


def limited() -> NsError:
    return NsError(429, "CONCURRENCY_LIMIT_EXCEEDED", LIMIT)
